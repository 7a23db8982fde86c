/* Blocks in ingress: whatever order pieces and rows come in, and whatever the application takes meanwhile, what is put
 * in for the missing is right; and when there is any doubt, nothing is.
 */
#include <errno.h>
#include <string.h>

#include "../../common/core/ingress.h"
#include "unit.h"
#include "unit_random.h"

enum { SPACE = 700000, ROWS = 7, PIECES_MAX = 700 };

static struct page_pool pool;
static uint8_t content[SPACE], taken[SPACE];
static uint8_t sums[ROWS * PARITY_SYMBOL_BYTES];

static void start(struct ingress *in, uint64_t *seed)
{
	page_pool_init(&pool, SPACE / PAGE_BYTES + 2);
	ingress_init(in, &pool);
	in->edge = SPACE;
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (uint8_t)unit_random(seed);
}

static void stop(struct ingress *in)
{
	ingress_fini(in);
	UNIT_EQ(pool.used, 0);
	UNIT_EQ(pool.account.used_bytes, 0);
	page_pool_fini(&pool);
	UNIT_EQ(memory_live(), 0);
}

static void make_rows(uint64_t from, uint32_t len)
{
	memset(sums, 0, sizeof sums);
	parity_add(sums, ROWS, 0, content + from, len);
}

static void take(struct ingress *in, uint64_t most)
{
	struct iovec slices[64];
	uint64_t len = ingress_readable(in);
	unsigned count = ingress_peek(in, slices, 64);
	uint64_t at = in->delivered;

	for (unsigned i = 0; i < count; i++) {
		memcpy(taken + at, slices[i].iov_base, slices[i].iov_len);
		at += slices[i].iov_len;
	}
	ingress_consume(in, len < most ? len : most);
}

/* Of a block from `start` on, a piece. */
static int put(struct ingress *in, uint64_t from, uint8_t rows, uint64_t offset, uint32_t len)
{
	ingress_expect(in, from, rows);
	return ingress_put(in, offset, content + offset, len, false);
}

static int put_row(struct ingress *in, uint64_t from, uint32_t block_len, unsigned row)
{
	return ingress_put_parity(in, from, block_len, row, 0, sums + row * PARITY_SYMBOL_BYTES, PARITY_SYMBOL_BYTES);
}

struct piece {
	uint64_t offset;
	uint32_t len;
	uint32_t when; /* 0: it never comes */
};

/* A block somewhere, in pieces of all sizes; as many symbols as there are rows do not come, or not whole; rows come in
 * parts, some of them in the midst of it; behind the block the flow goes on. */
static bool random_block(uint64_t *seed)
{
	struct ingress in;
	struct piece pieces[PIECES_MAX];
	unsigned count = 0, missing = 0, missing_symbol = UINT32_MAX;
	uint64_t from = unit_below(seed, 100000);
	uint32_t len = (uint32_t)(1 + unit_below(seed, PARITY_BLOCK_MAX_BYTES));
	unsigned rows = 1 + (unsigned)unit_below(seed, ROWS);

	start(&in, seed);
	make_rows(from, len);
	for (uint64_t at = from; at < from + len && count < PIECES_MAX - 1; count++) {
		uint64_t left = from + len - at, size = 600 + unit_below(seed, 1000);
		uint32_t piece = (uint32_t)(size < left ? size : left);
		bool lost = count && unit_chance(seed, 1, 12);
		unsigned first = (unsigned)(at - from) / PARITY_SYMBOL_BYTES;
		unsigned last = (unsigned)(at + piece - 1 - from) / PARITY_SYMBOL_BYTES;
		unsigned more = last - first + (first != missing_symbol);
		lost = lost && missing + more <= rows;
		if (lost) {
			missing += more;
			missing_symbol = last;
		}
		pieces[count] = (struct piece){at, piece, lost ? 0 : 1 + (uint32_t)unit_below(seed, 20) + count / 3};
		at += piece;
	}
	/* The application has what was before. */
	UNIT_EQ(put(&in, 0, 0, 0, (uint32_t)from), from > 0);
	take(&in, UINT64_MAX);
	int recovered = 0;
	unsigned rows_at[ROWS];
	for (unsigned row = 0; row < ROWS; row++)
		rows_at[row] = 21 + (unsigned)unit_below(seed, PIECES_MAX / 3); /* the first piece is there then */
	for (uint32_t when = 1; when < PIECES_MAX / 3 + 22; when++) {
		for (unsigned i = 0; i < count; i++) {
			if (pieces[i].when != when)
				continue;
			if (!UNIT_TRUE(put(&in, from, ROWS, pieces[i].offset, pieces[i].len) >= 0))
				return false;
			recovered += ingress_recover(&in);
			if (unit_chance(seed, 1, 3))
				take(&in, unit_chance(seed, 1, 2) ? UINT64_MAX : unit_below(seed, 3000));
		}
		for (unsigned row = 0; row < rows; row++) {
			uint32_t cut = (uint32_t)unit_below(seed, PARITY_SYMBOL_BYTES + 1);
			const uint8_t *bytes = sums + row * PARITY_SYMBOL_BYTES;
			if (rows_at[row] != when)
				continue;
			/* Of a stripe that died in its midst, and of another; in parts. */
			ingress_put_parity(&in, from, len, row, 0, bytes, cut);
			UNIT_EQ(ingress_put_parity(&in, from, len, row, 0, bytes, cut), 0);
			UNIT_EQ(ingress_put_parity(&in, from, len, row, cut, bytes + cut, PARITY_SYMBOL_BYTES - cut),
			        0);
			recovered += ingress_recover(&in);
		}
		/* Behind it, as soon as a row tells where it ends. */
		if (when % 40 == 0 && in.block && in.block->len)
			UNIT_TRUE(put(&in, 0, 0, from + len, 1000) >= 0);
	}
	UNIT_TRUE(put(&in, 0, 0, from + len, 1000) >= 0);
	take(&in, UINT64_MAX);
	bool good = UNIT_TRUE(recovered >= 0 && (recovered > 0 || !missing)) && UNIT_EQ(in.next, from + len + 1000) &&
	            UNIT_EQ(in.delivered, in.next) && UNIT_MEM(taken, content, (size_t)in.next) && UNIT_TRUE(!in.block);
	stop(&in);
	return good;
}

static void check_doubt(void)
{
	const uint32_t two = 2 * PARITY_SYMBOL_BYTES;
	struct ingress in;
	uint64_t seed = 5;

	UNIT_CASE("a block of which something has come already is not kept account of") {
		start(&in, &seed);
		make_rows(100, two);
		UNIT_EQ(put(&in, 0, 0, 200, 10), 1);
		UNIT_EQ(put(&in, 100, ROWS, 100, 100), 1);
		UNIT_TRUE(!in.block);
		UNIT_EQ(put_row(&in, 100, two, 0), 0);
		UNIT_EQ(ingress_recover(&in), 0);
		stop(&in);
	}
	UNIT_CASE("nor any longer when bytes of it came again before a row told where it ends") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, 0, 100), 1);
		UNIT_TRUE(in.block);
		UNIT_EQ(put(&in, 0, 0, 0, 100), 0); /* nothing new */
		UNIT_TRUE(in.block);
		UNIT_EQ(put(&in, 0, 0, two - 1, 10), 1);
		UNIT_TRUE(in.block);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_TRUE(!in.block);
		UNIT_EQ(put(&in, 0, ROWS, 100, 100), 1);
		UNIT_TRUE(!in.block);
		stop(&in);
	}
	UNIT_CASE("what came behind it before does no harm") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, 0, PARITY_SYMBOL_BYTES), 1);
		UNIT_EQ(put(&in, 0, 0, two, 10), 1);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_TRUE(in.block);
		UNIT_EQ(ingress_recover(&in), PARITY_SYMBOL_BYTES);
		UNIT_EQ(in.next, two + 10);
		take(&in, UINT64_MAX);
		UNIT_MEM(taken, content, two + 10);
		stop(&in);
	}
	UNIT_CASE("a block that is shorter than what came of it is no longer kept account of") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, two, 10), 1);
		UNIT_TRUE(in.block);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_TRUE(!in.block);
		stop(&in);
	}
	UNIT_CASE("afterwards they count as well, and what is behind the block does not") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, 0, 100), 1);
		UNIT_EQ(put_row(&in, 0, two, 3), 0);
		UNIT_EQ(put(&in, 0, 0, PARITY_SYMBOL_BYTES, 2000), 1);
		UNIT_TRUE(in.block);
		UNIT_EQ(ingress_recover(&in), PARITY_SYMBOL_BYTES - 100);
		UNIT_EQ(in.next, PARITY_SYMBOL_BYTES + 2000);
		take(&in, UINT64_MAX);
		UNIT_MEM(taken, content, PARITY_SYMBOL_BYTES + 2000);
		stop(&in);
	}
	UNIT_CASE("a later block takes the place of one that is not whole, an earlier one does not") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, 0, 100), 1);
		UNIT_EQ(put(&in, two, ROWS, two, 100), 1);
		UNIT_TRUE(in.block && in.block->start == two);
		UNIT_EQ(put(&in, 0, ROWS, 100, 100), 1);
		UNIT_TRUE(in.block && in.block->start == two);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_EQ(put_row(&in, 0, two, 1), 0);
		UNIT_EQ(ingress_recover(&in), 0);
		stop(&in);
	}
	UNIT_CASE("one of which all has come is given back when a row tells where it ends") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, ROWS, 0, two), 1);
		UNIT_EQ(ingress_recover(&in), 0);
		UNIT_TRUE(in.block);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_EQ(ingress_recover(&in), 0);
		UNIT_TRUE(!in.block);
		stop(&in);
	}
	UNIT_CASE("parity that breaks the rules is refused") {
		start(&in, &seed);
		make_rows(0, two);
		UNIT_EQ(put(&in, 0, 2, 0, 100), 1);
		UNIT_EQ(put_row(&in, 0, two, 2), 0); /* there are two rows only */
		UNIT_EQ(ingress_recover(&in), 0);
		UNIT_EQ(put_row(&in, 0, two, 1), 0);
		UNIT_EQ(put_row(&in, 0, two + 1, 0), -EPROTO); /* another length than before */
		in.edge = two - 1;
		UNIT_EQ(put_row(&in, 0, two, 0), -EPROTO); /* beyond the window */
		in.edge = SPACE;
		in.end = two - 1;
		UNIT_EQ(put_row(&in, 0, two, 0), -EPROTO); /* beyond the end */
		stop(&in);
	}
	UNIT_CASE("without room in the account there is no block, and all the rest works") {
		start(&in, &seed);
		make_rows(0, two);
		pool.account.limit_bytes = 1000;
		UNIT_EQ(put(&in, 0, ROWS, 0, 100), 1);
		UNIT_TRUE(!in.block);
		UNIT_EQ(put_row(&in, 0, two, 0), 0);
		UNIT_EQ(ingress_recover(&in), 0);
		UNIT_EQ(put(&in, 0, ROWS, 100, two - 100), 1);
		UNIT_EQ(in.next, two);
		stop(&in);
	}
}

int main(void)
{
	UNIT_CASE("random blocks, pieces lost, rows in parts") {
		uint64_t seed = 1;
		for (int round = 0; round < 300; round++) {
			if (!random_block(&seed)) {
				UNIT_FAIL("round %d", round);
				break;
			}
		}
	}
	check_doubt();
	return unit_exit();
}
