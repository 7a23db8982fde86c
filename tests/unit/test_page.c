/* Page pools and stores: what was written is read back, pages come and go as they should, and the pool's bound holds.
 */
#include <errno.h>
#include <string.h>

#include "../../common/core/memory.h"
#include "../../common/core/page.h"
#include "unit.h"
#include "unit_random.h"

static struct page_pool pool;

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(offset * 2654435761u >> 16 ^ offset >> 7);
}

static void fill(struct page_store *store, uint64_t from, uint64_t to)
{
	uint8_t bytes[5000];

	while (from < to) {
		size_t len = to - from < sizeof bytes ? to - from : sizeof bytes;
		for (size_t i = 0; i < len; i++)
			bytes[i] = pattern(from + i);
		page_store_write(store, from, bytes, len);
		from += len;
	}
}

static bool holds(const struct page_store *store, uint64_t from, uint64_t to)
{
	struct iovec slices[64];

	while (from < to) {
		size_t covered, seen = 0;
		unsigned count = page_store_slices(store, from, to, slices, 64, &covered);
		if (!count)
			return false;
		for (unsigned i = 0; i < count; i++) {
			const uint8_t *bytes = slices[i].iov_base;
			for (size_t k = 0; k < slices[i].iov_len; k++)
				if (bytes[k] != pattern(from + seen + k))
					return false;
			seen += slices[i].iov_len;
		}
		if (seen != covered)
			return false;
		from += covered;
	}
	return true;
}

static void check_pool(void)
{
	struct page_store store;

	UNIT_CASE("the pool's limit holds, and pages made until then stay") {
		page_pool_init(&pool, 3);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, 3 * PAGE_BYTES), 0);
		UNIT_EQ(pool.used, 3);
		UNIT_EQ(page_store_reserve(&store, 0, 3 * PAGE_BYTES + 1), -ENOMEM);
		UNIT_EQ(pool.used, 3);
		UNIT_EQ(page_store_reserve(&store, 100, 200), 0);
		page_store_advance(&store, PAGE_BYTES, false);
		UNIT_EQ(pool.used, 2);
		UNIT_EQ(page_store_reserve(&store, PAGE_BYTES, 5 * PAGE_BYTES), -ENOMEM);
		UNIT_EQ(pool.used, 3);
		page_store_fini(&store);
		UNIT_EQ(pool.used, 0);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
	UNIT_CASE("spare pages are kept up to their bound") {
		page_pool_init(&pool, 1000);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, (PAGE_SPARE_MAX + 10) * (uint64_t)PAGE_BYTES), 0);
		page_store_fini(&store);
		UNIT_EQ(pool.used, 0);
		UNIT_EQ(pool.spares, PAGE_SPARE_MAX);
		UNIT_EQ(memory_live(), PAGE_SPARE_MAX);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
	UNIT_CASE("a page that is still referred to outlives its store") {
		struct page *page;
		size_t len = 10;

		page_pool_init(&pool, 10);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, 10), 0);
		fill(&store, 0, 10);
		const uint8_t *bytes = page_store_at(&store, 0, &len, &page);
		UNIT_EQ(len, 10);
		page_ref(page);
		page_store_advance(&store, 10, true);
		UNIT_EQ(store.page_count, 0);
		UNIT_EQ(pool.used, 1);
		UNIT_EQ(bytes[9], pattern(9));
		page_unref(&pool, page);
		UNIT_EQ(pool.used, 0);
		page_store_fini(&store);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_bounds(void)
{
	struct page_store store;
	size_t len = 100;

	UNIT_CASE("slices end at pages and at `max`") {
		struct iovec slices[3];
		size_t covered;

		page_pool_init(&pool, 100);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, 5 * PAGE_BYTES), 0);
		page_store_at(&store, PAGE_BYTES - 1, &len, NULL);
		UNIT_EQ(len, 1);
		UNIT_EQ(page_store_slices(&store, 100, 4 * PAGE_BYTES, slices, 3, &covered), 3);
		UNIT_EQ(slices[0].iov_len, PAGE_BYTES - 100);
		UNIT_EQ(slices[2].iov_len, PAGE_BYTES);
		UNIT_EQ(covered, 3 * PAGE_BYTES - 100);
		UNIT_EQ(page_store_slices(&store, 7, 7, slices, 3, &covered), 0);
		UNIT_EQ(covered, 0);
		page_store_fini(&store);
		page_pool_fini(&pool);
	}
	UNIT_CASE("the page of the low end goes only when nothing is kept") {
		page_pool_init(&pool, 100);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, PAGE_BYTES + 10), 0);
		page_store_advance(&store, PAGE_BYTES, false);
		UNIT_EQ(pool.used, 1);
		page_store_advance(&store, PAGE_BYTES + 10, false);
		UNIT_EQ(pool.used, 1);
		page_store_advance(&store, PAGE_BYTES + 10, true);
		UNIT_EQ(pool.used, 0);
		UNIT_EQ(page_store_reserve(&store, PAGE_BYTES + 10, PAGE_BYTES + 20), 0);
		UNIT_EQ(pool.used, 1);
		page_store_fini(&store);
		page_pool_fini(&pool);
	}
	UNIT_CASE("trimming beyond what the store has slots for drops nothing else") {
		page_pool_init(&pool, 100);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, 2 * PAGE_BYTES), 0);
		fill(&store, 0, 2 * PAGE_BYTES);
		page_store_trim(&store, 2 * PAGE_BYTES, 40 * (uint64_t)PAGE_BYTES);
		if (UNIT_EQ(pool.used, 2))
			UNIT_TRUE(holds(&store, 0, 2 * PAGE_BYTES));
		page_store_fini(&store);
		page_pool_fini(&pool);
	}
	UNIT_CASE("an idle store's low end may be far away at once") {
		page_pool_init(&pool, 100);
		page_store_init(&store, &pool, 0);
		UNIT_EQ(page_store_reserve(&store, 0, 20 * PAGE_BYTES), 0);
		page_store_advance(&store, 1ull << 61, true);
		UNIT_EQ(pool.used, 0);
		UNIT_EQ(page_store_reserve(&store, 1ull << 61, (1ull << 61) + 100), 0);
		fill(&store, 1ull << 61, (1ull << 61) + 100);
		UNIT_TRUE(holds(&store, 1ull << 61, (1ull << 61) + 100));
		page_store_fini(&store);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

/* A window that moves: bytes are put in anywhere in it (in whole pages or parts), and leave at its low end. */
static void check_random(uint64_t low, const char *name)
{
	UNIT_CASE("a moving window of random parts, %s", name) {
		for (uint64_t round = 1; round <= 30; round++) {
			uint64_t seed = round, from = low, end = low;
			uint64_t widest = 1 + unit_below(&seed, 40) * PAGE_BYTES;
			struct page_store store;

			page_pool_init(&pool, 64);
			page_store_init(&store, &pool, low);
			for (int step = 0; step < 200; step++) {
				uint64_t to = end + 1 + unit_below(&seed, 3 * PAGE_BYTES);
				if (to > from + widest)
					to = from + widest;
				if (to > end && unit_chance(&seed, 2, 3)) {
					if (unit_chance(&seed, 1, 20))
						memory_fail_after(1 + unit_below(&seed, 3));
					int err = page_store_reserve(&store, end, to);
					memory_fail_after(0);
					if (err) {
						UNIT_EQ(err, -ENOMEM);
						page_store_trim(&store, end, to + unit_below(&seed, 80) * PAGE_BYTES);
						page_store_advance(&store, from, from == end);
						to = end;
					}
					fill(&store, end, to);
					end = to;
				} else {
					from += unit_below(&seed, end - from + 1);
					page_store_advance(&store, from, from == end);
				}
				if (step % 8 == 0 && !UNIT_TRUE(holds(&store, from, end)))
					break;
				uint64_t needed = end == from ? 0 : (end - 1) / PAGE_BYTES - from / PAGE_BYTES + 1;
				if (!UNIT_EQ(store.page_count, needed) || !UNIT_EQ(pool.used, needed))
					break;
			}
			page_store_fini(&store);
			UNIT_EQ(pool.used, 0);
			page_pool_fini(&pool);
		}
		UNIT_EQ(memory_live(), 0);
	}
}

int main(void)
{
	check_pool();
	check_bounds();
	check_random(0, "from offset 0");
	check_random((1ull << 32) - 20 * PAGE_BYTES, "across 4 GiB");
	check_random((1ull << 61) + 12345, "far up");
	return unit_exit();
}
