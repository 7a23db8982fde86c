#include "page.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void page_pool_init(struct page_pool *pool, size_t limit_pages)
{
	*pool = (struct page_pool){.limit = limit_pages, .account.limit_bytes = UINT64_MAX};
}

void page_pool_fini(struct page_pool *pool)
{
	assert(pool->used == 0 && pool->account.used_bytes == 0);
	while (pool->spare) {
		struct page *page = pool->spare;
		pool->spare = page->next_spare;
		memory_free(page);
	}
	pool->spares = 0;
}

struct page *page_new(struct page_pool *pool)
{
	struct page *page = pool->spare;
	if (pool->used >= pool->limit)
		return NULL;
	if (page) {
		pool->spare = page->next_spare;
		pool->spares--;
	} else {
		page = memory_new_raw(sizeof *page);
		if (!page)
			return NULL;
	}
	page->next_spare = NULL;
	page->refs = 1;
	pool->used++;
	if (pool->promised)
		memory_promise(-PAGE_BYTES);
	return page;
}

void page_unref(struct page_pool *pool, struct page *page)
{
	assert(page->refs > 0);
	if (--page->refs)
		return;
	pool->used--;
	if (pool->promised)
		memory_promise(PAGE_BYTES);
	if (pool->spares < PAGE_SPARE_MAX) {
		page->next_spare = pool->spare;
		pool->spare = page;
		pool->spares++;
	} else {
		memory_free(page);
	}
}

void page_store_init(struct page_store *store, struct page_pool *pool, uint64_t low)
{
	*store = (struct page_store){.pool = pool, .low = low};
}

void page_store_fini(struct page_store *store)
{
	for (uint32_t i = 0; i < store->slot_count; i++)
		if (store->slots[i])
			page_unref(store->pool, store->slots[i]);
	memory_free(store->slots);
	page_store_init(store, store->pool, store->low);
}

static struct page **slot_of(const struct page_store *store, uint64_t page_number)
{
	return &store->slots[page_number & (store->slot_count - 1)];
}

/* Room for `span` page numbers from that of `low` on. */
static int grow_slots(struct page_store *store, uint64_t span)
{
	uint32_t count = store->slot_count ? store->slot_count : 2;
	while (count < span)
		count *= 2;
	if (count == store->slot_count)
		return 0;
	struct page **slots = memory_new(count, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	uint64_t first = store->low / PAGE_BYTES;
	for (uint64_t n = first; n < first + store->slot_count; n++)
		slots[n & (count - 1)] = *slot_of(store, n);
	memory_free(store->slots);
	store->slots = slots;
	store->slot_count = count;
	return 0;
}

int page_store_reserve(struct page_store *store, uint64_t from, uint64_t to)
{
	assert(from >= store->low && from <= to);
	if (from == to)
		return 0;
	uint64_t last = (to - 1) / PAGE_BYTES;
	int err = grow_slots(store, last - store->low / PAGE_BYTES + 1);
	if (err)
		return err;
	for (uint64_t n = from / PAGE_BYTES; n <= last; n++) {
		struct page **slot = slot_of(store, n);
		if (*slot)
			continue;
		*slot = page_new(store->pool);
		if (!*slot)
			return -ENOMEM;
		store->page_count++;
	}
	return 0;
}

uint8_t *page_store_at(const struct page_store *store, uint64_t offset, size_t *len, struct page **page)
{
	assert(offset >= store->low && offset / PAGE_BYTES - store->low / PAGE_BYTES < store->slot_count);
	struct page *found = *slot_of(store, offset / PAGE_BYTES);
	size_t in_page = offset % PAGE_BYTES;
	assert(found);
	if (*len > PAGE_BYTES - in_page)
		*len = PAGE_BYTES - in_page;
	if (page)
		*page = found;
	return found->bytes + in_page;
}

unsigned page_store_slices(const struct page_store *store, uint64_t from, uint64_t to, struct iovec *slices,
                           unsigned max, size_t *covered)
{
	unsigned count = 0;
	*covered = 0;
	while (from < to && count < max) {
		size_t len = to - from < PAGE_BYTES ? (size_t)(to - from) : PAGE_BYTES;
		slices[count].iov_base = page_store_at(store, from, &len, NULL);
		slices[count].iov_len = len;
		count++;
		from += len;
		*covered += len;
	}
	return count;
}

void page_store_write(struct page_store *store, uint64_t offset, const uint8_t *bytes, size_t len)
{
	while (len) {
		size_t piece = len;
		uint8_t *to = page_store_at(store, offset, &piece, NULL);
		memcpy(to, bytes, piece);
		offset += piece;
		bytes += piece;
		len -= piece;
	}
}

static void drop(struct page_store *store, uint64_t page_number)
{
	struct page **slot = slot_of(store, page_number);
	if (!*slot)
		return;
	page_unref(store->pool, *slot);
	*slot = NULL;
	store->page_count--;
}

void page_store_trim(struct page_store *store, uint64_t from, uint64_t to)
{
	uint64_t first = (from + PAGE_BYTES - 1) / PAGE_BYTES;
	uint64_t slots_end =
	        store->low / PAGE_BYTES + store->slot_count; /* slots of page numbers from here on are others' */
	for (uint64_t n = first; n * PAGE_BYTES < to && n < slots_end; n++)
		drop(store, n);
}

void page_store_advance(struct page_store *store, uint64_t low, bool last)
{
	assert(low >= store->low);
	uint64_t n = store->low / PAGE_BYTES;
	uint64_t end = low / PAGE_BYTES + (last ? 1 : 0);
	store->low = low;
	for (; n < end && store->page_count; n++)
		drop(store, n);
	if (!store->page_count && store->slot_count > 8) {
		memory_free(store->slots);
		store->slots = NULL;
		store->slot_count = 0;
	}
}
