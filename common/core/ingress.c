#include "ingress.h"

#include <assert.h>
#include <errno.h>

#include "frame.h"

void ingress_init(struct ingress *in, struct page_pool *pool)
{
	*in = (struct ingress){.edge = FRAME_FIRST_WINDOW_BYTES, .end = UINT64_MAX};
	page_store_init(&in->store, pool, 0);
	range_set_init(&in->beyond, &pool->account);
}

void ingress_fini(struct ingress *in)
{
	page_store_fini(&in->store);
	range_set_fini(&in->beyond);
	block_free(in->block);
	in->block = NULL;
}

/* New bytes, which are in place. Before the first row nobody knows where the block ends, so of bytes that are sent
 * again nobody knows whether they are of it. */
static void add_to_block(struct ingress *in, struct range range)
{
	uint64_t end = in->block->start + (in->block->len ? in->block->len : PARITY_BLOCK_MAX_BYTES);
	if (!in->of_block && !in->block->len) {
		if (range.to > in->block->start)
			block_stray(in->block, range.from);
		return;
	}
	if (range.to > end)
		range.to = end;
	while (range.from < range.to) {
		size_t len = (size_t)(range.to - range.from);
		const uint8_t *bytes = page_store_at(&in->store, range.from, &len, NULL);
		block_add(in->block, range.from, bytes, len);
		range.from += len;
	}
}

/* One gap's worth of new bytes; `bytes` NULL: they are in place. */
static int put_new(struct ingress *in, struct range gap, const uint8_t *bytes)
{
	int err = page_store_reserve(&in->store, gap.from, gap.to);
	if (err)
		return err;
	if (gap.from != in->next) {
		err = range_set_add(&in->beyond, gap.from, gap.to);
		if (err)
			return err == -E2BIG ? -EPROTO : err;
	} else {
		in->next = gap.to;
	}
	if (bytes)
		page_store_write(&in->store, gap.from, bytes, (size_t)(gap.to - gap.from));
	if (in->block)
		add_to_block(in, gap);
	return 0;
}

static int put_fin(struct ingress *in, uint64_t end)
{
	if (in->end == end)
		return 0;
	if (in->end != UINT64_MAX || end < in->highest)
		return -EPROTO;
	in->end = end;
	return 1;
}

int ingress_put(struct ingress *in, uint64_t offset, const uint8_t *bytes, uint32_t len, bool fin)
{
	uint64_t to = offset + len;
	int changed = 0;

	if (to > in->edge || to > in->end)
		return -EPROTO;
	if (fin) {
		changed = put_fin(in, to);
		if (changed < 0)
			return changed;
	}
	/* After the FIN in order, `next` is end + 1 and nothing can be new. */
	uint64_t from = offset > in->next ? offset : in->next;
	struct range gap;
	while (from < to && range_set_gap(&in->beyond, from, to, &gap)) {
		int err = put_new(in, gap, bytes ? bytes + (gap.from - offset) : NULL);
		if (err)
			return err;
		changed = 1;
		from = gap.to;
		if (in->next == gap.to)
			in->next = range_set_take_from(&in->beyond, in->next);
		if (from < in->next)
			from = in->next;
	}
	if (len && to > in->highest)
		in->highest = to;
	if (in->next == in->end)
		in->next = in->end + 1;
	return changed;
}

unsigned ingress_place(struct ingress *in, uint64_t offset, uint32_t len, struct iovec *slices, unsigned max,
                       size_t *bytes)
{
	struct range gap;
	uint64_t to = offset + len;
	if (offset < in->next || to > in->edge || to > in->end || !range_set_gap(&in->beyond, offset, to, &gap))
		return 0;
	if (gap.from != offset || gap.to != to || page_store_reserve(&in->store, offset, to))
		return 0;
	return page_store_slices(&in->store, offset, to, slices, max, bytes);
}

int ingress_placed(struct ingress *in, uint64_t offset, uint32_t len, bool fin)
{
	return ingress_put(in, offset, NULL, len, fin);
}

/* --- Blocks with parity -------------------------------------------------------------------------------------------*/

void ingress_drop_block(struct ingress *in)
{
	block_free(in->block);
	in->block = NULL;
}

void ingress_expect(struct ingress *in, uint64_t start, uint8_t rows)
{
	bool later = !in->block || in->block->start < start;
	if (rows && later && in->highest <= start && in->next <= start) {
		ingress_drop_block(in);
		in->block = block_new(&in->store.pool->account, start, rows);
	}
	in->of_block = rows && in->block && in->block->start == start;
}

int ingress_put_parity(struct ingress *in, uint64_t start, uint32_t block_len, unsigned row, uint64_t at,
                       const uint8_t *bytes, size_t len)
{
	struct block *block = in->block;
	if (start + block_len > in->edge || start + block_len > in->end)
		return -EPROTO;
	if (!block || block->start != start || row >= block->rows)
		return 0;
	int err = block_parity(block, block_len, row, at, bytes, len);
	if (!err && !block_is_sound(block))
		ingress_drop_block(in);
	return err;
}

/* The symbols of the block that have not arrived, or not all of them, and the bytes that are missing of these. Returns
 * how many; one more than `max` says that there are more. */
static unsigned find_missing(const struct ingress *in, uint8_t symbols[PARITY_ROWS_MAX], unsigned max, int *bytes)
{
	const struct block *block = in->block;
	uint64_t from = in->next > block->start ? in->next : block->start, to = block->start + block->len;
	unsigned count = 0;
	struct range gap;
	*bytes = 0;
	while (from < to && range_set_gap(&in->beyond, from, to, &gap)) {
		uint32_t first = (uint32_t)(gap.from - block->start) / PARITY_SYMBOL_BYTES;
		uint32_t last = (uint32_t)(gap.to - 1 - block->start) / PARITY_SYMBOL_BYTES;
		if (count && symbols[count - 1] == first)
			first++;
		for (uint32_t symbol = first; symbol <= last; symbol++) {
			if (count == max)
				return max + 1;
			symbols[count++] = (uint8_t)symbol;
		}
		*bytes += (int)(gap.to - gap.from);
		from = gap.to;
	}
	return count;
}

int ingress_recover(struct ingress *in)
{
	struct block *block = in->block;
	uint8_t symbols[PARITY_ROWS_MAX], bytes[PARITY_ROWS_MAX * PARITY_SYMBOL_BYTES];
	int err = 0, missing, puts = 0;
	if (!block || !block->len)
		return 0;
	unsigned count = find_missing(in, symbols, block->whole, &missing);
	if (count > block->whole)
		return 0;
	/* It is whole, or will be: what is put in now need not be added. */
	in->block = NULL;
	if (count)
		block_solve(block, symbols, count, bytes);
	for (unsigned i = 0; i < count && err >= 0; i++) {
		uint32_t at = symbols[i] * PARITY_SYMBOL_BYTES, left = block->len - at;
		uint32_t len = left < PARITY_SYMBOL_BYTES ? left : PARITY_SYMBOL_BYTES;
		err = ingress_put(in, block->start + at, bytes + i * PARITY_SYMBOL_BYTES, len, false);
		puts += err > 0;
	}
	block_free(block);
	/* What found no room for its account comes by itself. */
	if (err < 0 && (err != -ENOBUFS || !puts))
		return err;
	return puts ? missing : 0;
}

/* --- To the application -------------------------------------------------------------------------------------------*/

uint64_t ingress_readable(const struct ingress *in)
{
	uint64_t to = in->next > in->end ? in->end : in->next;
	return to - in->delivered;
}

unsigned ingress_peek(const struct ingress *in, struct iovec *slices, unsigned max)
{
	size_t covered;
	return page_store_slices(&in->store, in->delivered, in->delivered + ingress_readable(in), slices, max,
	                         &covered);
}

void ingress_consume(struct ingress *in, uint64_t len)
{
	assert(len <= ingress_readable(in));
	in->delivered += len;
	page_store_advance(&in->store, in->delivered, in->delivered == in->highest);
}

bool ingress_at_end(const struct ingress *in)
{
	return in->end != UINT64_MAX && in->delivered == in->end && in->next == in->end + 1;
}
