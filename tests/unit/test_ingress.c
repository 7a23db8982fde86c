/* Ingress against an array of offsets: order, repetition, overlap, windows, ends that contradict each other. */
#include <errno.h>
#include <string.h>

#include "../../common/core/frame.h"
#include "../../common/core/ingress.h"
#include "../../common/core/memory.h"
#include "unit.h"
#include "unit_random.h"

enum { SPACE = 400000 };

static struct page_pool pool;

static struct {
	bool arrived[SPACE];
	uint8_t bytes[SPACE];
	uint64_t next, delivered, edge;
	int64_t end; /* -1: not known */
	uint64_t highest;
} model;

static void model_reset(void)
{
	memset(&model, 0, sizeof model);
	model.edge = FRAME_FIRST_WINDOW_BYTES;
	model.end = -1;
}

static int model_put(uint64_t offset, const uint8_t *bytes, uint32_t len, bool fin)
{
	uint64_t to = offset + len;
	int changed = 0;

	if (to > model.edge || (model.end >= 0 && to > (uint64_t)model.end))
		return -EPROTO;
	if (fin && model.end >= 0 && (uint64_t)model.end != to)
		return -EPROTO;
	if (fin && to < model.highest)
		return -EPROTO;
	if (fin && model.end < 0) {
		model.end = (int64_t)to;
		changed = 1;
	}
	for (uint32_t i = 0; i < len; i++)
		if (!model.arrived[offset + i]) {
			model.arrived[offset + i] = true;
			model.bytes[offset + i] = bytes[i];
			changed = 1;
		}
	if (len && to > model.highest)
		model.highest = to;
	while (model.next < SPACE && model.arrived[model.next])
		model.next++;
	return changed;
}

static bool agrees(const struct ingress *in, bool whole)
{
	struct iovec slices[64];
	uint64_t at = in->delivered;
	bool ended = model.end >= 0 && model.next == (uint64_t)model.end;

	if (!UNIT_EQ(in->next, model.next + ended) || !UNIT_EQ(in->delivered, model.delivered) ||
	    !UNIT_EQ(in->highest, model.highest) || !UNIT_EQ(ingress_readable(in), model.next - model.delivered))
		return false;
	if (!UNIT_EQ(ingress_at_end(in), ended && model.delivered == model.next))
		return false;
	if (!whole)
		return true;
	unsigned count = ingress_peek(in, slices, 64);
	for (unsigned i = 0; i < count; i++) {
		if (!UNIT_MEM(slices[i].iov_base, model.bytes + at, slices[i].iov_len))
			return false;
		at += slices[i].iov_len;
	}
	return UNIT_EQ(at, model.next);
}

static void check_random(const char *name, uint32_t longest, unsigned stray_of_100)
{
	static uint8_t bytes[70000];

	UNIT_CASE("random pieces, %s", name) {
		for (uint64_t round = 1; round <= 25; round++) {
			uint64_t seed = round;
			struct ingress in;
			uint64_t final = unit_below(&seed, SPACE - 70000);

			page_pool_init(&pool, SPACE / PAGE_BYTES + 2);
			ingress_init(&in, &pool);
			model_reset();
			for (int step = 0; step < 1500; step++) {
				/* Around what is awaited; content differs each time, since what came first must stay.
				 */
				uint64_t base = model.next > 2000 ? model.next - 2000 : 0;
				uint64_t offset = base + unit_below(&seed, 40000);
				uint32_t len = (uint32_t)unit_below(&seed, longest + 1);
				bool fin = false;

				if (unit_chance(&seed, 1, 3))
					offset = model.next;
				if (!unit_chance(&seed, stray_of_100, 100)) { /* as an honest sender would */
					if (offset > final)
						offset = final;
					if (offset + len > final)
						len = (uint32_t)(final - offset);
					fin = offset + len == final && unit_chance(&seed, 1, 2);
					if (offset + len > in.edge)
						continue;
				} else {
					fin = unit_chance(&seed, 1, 20);
				}
				for (uint32_t i = 0; i < len; i++)
					bytes[i] = (uint8_t)(offset + i + (uint64_t)step * 7);
				int want = model_put(offset, bytes, len, fin);
				if (!UNIT_EQ(ingress_put(&in, offset, bytes, len, fin), want))
					break;
				if (unit_chance(&seed, 1, 3)) {
					uint64_t taken = unit_below(&seed, ingress_readable(&in) + 1);
					if (unit_chance(&seed, 1, 2))
						taken = ingress_readable(&in);
					ingress_consume(&in, taken);
					model.delivered += taken;
				}
				if (unit_chance(&seed, 1, 5) && model.edge < SPACE - 70000)
					in.edge = model.edge += unit_below(&seed, 30000);
				if (!agrees(&in, step % 16 == 0))
					break;
			}
			ingress_fini(&in);
			if (!UNIT_EQ(pool.used, 0))
				break;
			page_pool_fini(&pool);
		}
		UNIT_EQ(memory_live(), 0);
	}
}

static const uint8_t text[] = "abcdefghijklmnopqrstuvwxyz0123456789";

static void check_rules(void)
{
	struct ingress in;
	static uint8_t long_bytes[FRAME_FIRST_WINDOW_BYTES + 1];

	page_pool_init(&pool, 100);
	UNIT_CASE("the window ends just below its edge") {
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 0, long_bytes, FRAME_FIRST_WINDOW_BYTES + 1, false), -EPROTO);
		UNIT_EQ(ingress_put(&in, 1, long_bytes, FRAME_FIRST_WINDOW_BYTES, false), -EPROTO);
		UNIT_EQ(ingress_put(&in, FRAME_FIRST_WINDOW_BYTES, text, 1, false), -EPROTO);
		UNIT_EQ(in.highest, 0);
		UNIT_EQ(ingress_put(&in, FRAME_FIRST_WINDOW_BYTES - 1, text, 1, true), 1);
		UNIT_EQ(ingress_put(&in, 0, long_bytes, FRAME_FIRST_WINDOW_BYTES - 1, false), 1);
		UNIT_EQ(in.next, FRAME_FIRST_WINDOW_BYTES + 1);
		ingress_fini(&in);
	}
	UNIT_CASE("a FIN alone at the edge is inside the window") {
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 0, long_bytes, FRAME_FIRST_WINDOW_BYTES, false), 1);
		UNIT_EQ(ingress_put(&in, FRAME_FIRST_WINDOW_BYTES, text, 0, true), 1);
		UNIT_EQ(in.next, FRAME_FIRST_WINDOW_BYTES + 1);
		UNIT_TRUE(!ingress_at_end(&in));
		ingress_consume(&in, FRAME_FIRST_WINDOW_BYTES);
		UNIT_TRUE(ingress_at_end(&in));
		ingress_fini(&in);
	}
	UNIT_CASE("a direction that ends without a byte") {
		ingress_init(&in, &pool);
		UNIT_TRUE(!ingress_at_end(&in));
		UNIT_EQ(ingress_put(&in, 0, text, 0, true), 1);
		UNIT_TRUE(ingress_at_end(&in));
		UNIT_EQ(in.next, 1);
		UNIT_EQ(ingress_put(&in, 0, text, 0, true), 0);
		UNIT_EQ(ingress_put(&in, 0, text, 1, false), -EPROTO);
		UNIT_EQ(ingress_put(&in, 1, text, 0, true), -EPROTO);
		UNIT_EQ(ingress_readable(&in), 0);
		ingress_fini(&in);
	}
	UNIT_CASE("ends that contradict what is known are refused") {
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 10, text, 10, false), 1);
		UNIT_EQ(ingress_put(&in, 5, text, 14, true), -EPROTO); /* below what has arrived */
		UNIT_EQ(ingress_put(&in, 5, text, 15, true), 1);
		UNIT_EQ(ingress_put(&in, 20, text, 1, false), -EPROTO); /* beyond the end */
		UNIT_EQ(ingress_put(&in, 20, text, 1, true), -EPROTO);
		UNIT_EQ(ingress_put(&in, 0, text, 19, true), -EPROTO); /* another end */
		UNIT_EQ(in.next, 0);
		UNIT_EQ(ingress_put(&in, 0, text, 20, true), 1);
		UNIT_EQ(in.next, 21);
		UNIT_EQ(ingress_put(&in, 0, text, 20, true), 0);
		ingress_fini(&in);
	}
	UNIT_CASE("a piece that fills several gaps leaves what was there") {
		struct iovec slice;
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 3, (const uint8_t *)"XX", 2, false), 1);
		UNIT_EQ(ingress_put(&in, 8, (const uint8_t *)"Y", 1, false), 1);
		UNIT_EQ(ingress_put(&in, 1, text + 1, 9, false), 1);
		UNIT_EQ(ingress_readable(&in), 0);
		UNIT_EQ(in.beyond.count, 1);
		UNIT_EQ(ingress_put(&in, 0, text, 4, false), 1);
		UNIT_EQ(ingress_readable(&in), 10);
		UNIT_EQ(ingress_peek(&in, &slice, 1), 1);
		UNIT_MEM(slice.iov_base, "abcXXfghYj", 10);
		ingress_fini(&in);
	}
	UNIT_CASE("an empty piece counts as nothing") {
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 500, text, 0, false), 0);
		UNIT_EQ(in.highest, 0);
		UNIT_EQ(ingress_put(&in, 0, text, 10, true), 1);
		UNIT_EQ(in.next, 11);
		ingress_fini(&in);
	}
	UNIT_CASE("more gaps than RANGE_MAX break the rules") {
		int got = 1;
		ingress_init(&in, &pool);
		in.edge = 4 * RANGE_MAX;
		for (uint64_t i = 1; i <= RANGE_MAX && got == 1; i++)
			got = ingress_put(&in, 2 * i, text, 1, false);
		UNIT_EQ(got, 1);
		UNIT_EQ(ingress_put(&in, 3 * RANGE_MAX, text, 1, false), -EPROTO);
		UNIT_EQ(ingress_put(&in, 0, text, 2, false), 1); /* the lowest missing offset always has room */
		UNIT_EQ(in.next, 3);
		ingress_fini(&in);
	}
	UNIT_CASE("a piece that the account has no room for is not remembered, and may come again") {
		uint64_t from = 2;
		ingress_init(&in, &pool);
		pool.account.limit_bytes = 0;
		while (from < 1000 && ingress_put(&in, from, text, 1, false) == 1)
			from += 2;
		UNIT_EQ(in.beyond.count, RANGE_FIRST);
		UNIT_EQ(ingress_put(&in, from, text, 20, true), -ENOBUFS);
		UNIT_EQ(in.beyond.count, RANGE_FIRST);
		UNIT_EQ(in.end, from + 20);
		UNIT_EQ(ingress_put(&in, from - 1, text, 5, false), 1); /* it joins what is there */
		for (uint64_t i = 0; i < from - 2; i += 2)
			UNIT_EQ(ingress_put(&in, i, text, 2, false), 1);
		UNIT_EQ(ingress_put(&in, from, text, 20, true), 1);
		UNIT_EQ(in.next, from + 21);
		ingress_fini(&in);
		UNIT_EQ(pool.account.used_bytes, 0);
	}
	page_pool_fini(&pool);
	UNIT_EQ(memory_live(), 0);
}

/* After a failure nothing wrong may be there, and the same pieces must do when memory is back. */
static void check_no_memory(void)
{
	static uint8_t bytes[60000];
	static const struct {
		uint32_t offset, len;
		bool fin;
	} pieces[] = {{40000, 20000, true}, {20, 1, false},      {20000, 100, false},
	              {0, 19, false},       {100, 30000, false}, {0, 60000, true}};

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 31 >> 3);
	UNIT_CASE("each allocation fails in turn: the same piece can come again") {
		for (uint64_t n = 1; n <= 12; n++) {
			struct iovec slices[8];
			struct ingress in;
			uint64_t at = 0;
			unsigned failed = 0;

			page_pool_init(&pool, 100);
			ingress_init(&in, &pool);
			in.edge = sizeof bytes;
			for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
				int got;
				memory_fail_after(i ? 0 : n);
				got = ingress_put(&in, pieces[i].offset, bytes + pieces[i].offset, pieces[i].len,
				                  pieces[i].fin);
				memory_fail_after(0);
				failed += got == -ENOMEM;
				if (got == -ENOMEM)
					got = ingress_put(&in, pieces[i].offset, bytes + pieces[i].offset,
					                  pieces[i].len, pieces[i].fin);
				UNIT_TRUE(got == 0 || got == 1);
			}
			UNIT_EQ(in.next, sizeof bytes + 1);
			for (unsigned i = 0, count = ingress_peek(&in, slices, 8); i < count; i++) {
				UNIT_MEM(slices[i].iov_base, bytes + at, slices[i].iov_len);
				at += slices[i].iov_len;
			}
			UNIT_EQ(at, sizeof bytes);
			ingress_fini(&in);
			page_pool_fini(&pool);
			if (n == 1)
				UNIT_EQ(failed, 1);
		}
		UNIT_EQ(memory_live(), 0);
	}
	UNIT_CASE("a full pool: refused, nothing remembered, and taken later") {
		struct ingress in;

		page_pool_init(&pool, 1);
		ingress_init(&in, &pool);
		UNIT_EQ(ingress_put(&in, 0, bytes, PAGE_BYTES, false), 1);
		UNIT_EQ(ingress_put(&in, PAGE_BYTES, bytes, 10, false), -ENOMEM);
		UNIT_EQ(in.next, PAGE_BYTES);
		UNIT_EQ(in.highest, PAGE_BYTES);
		ingress_consume(&in, PAGE_BYTES);
		UNIT_EQ(ingress_put(&in, PAGE_BYTES, bytes, 10, true), 1);
		ingress_consume(&in, 10);
		UNIT_TRUE(ingress_at_end(&in));
		UNIT_EQ(pool.used, 0);
		ingress_fini(&in);
		page_pool_fini(&pool);
	}
}

int main(void)
{
	check_rules();
	check_random("short and honest", 50, 0);
	check_random("of any length, honest", 20000, 0);
	check_random("short, some against the rules", 50, 10);
	check_random("of any length, all against the rules", 20000, 100);
	check_no_memory();
	return unit_exit();
}
