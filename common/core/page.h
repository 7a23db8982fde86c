/* page: bytes of one direction of one flow, addressed by joint offset, in pages from a bounded pool.
 *
 * A page_pool bounds the memory of one session in one sense (egress or ingress). A page_store maps a moving range of
 * offsets to pages: pages come when bytes are put in and go when the range's low end passes them, so an idle flow holds
 * none. Pages are counted references: a stripe's output keeps a page alive while it is being written. Not thread safe:
 * pool, stores and stripes belong to one engine.
 */
#ifndef PAIR_CORE_PAGE_H
#define PAIR_CORE_PAGE_H

#include <sys/uio.h>

#include "memory.h"

enum { PAGE_BYTES = 16384, PAGE_SPARE_MAX = 64 };

struct page {
	struct page *next_spare; /* only in the pool's list of spare pages */
	uint32_t refs;           /* ≥ 1 while in use */
	uint8_t bytes[PAGE_BYTES];
};

struct page_pool {
	bool promised; /* the owner's, after page_pool_init: its pages are what memory_promise is told of */
	size_t limit;  /* pages that may be in use at once */
	size_t used;   /* ≤ limit */
	size_t spares; /* kept for reuse, ≤ PAGE_SPARE_MAX */
	struct page *spare;
	/* For what egress and ingress remember of bytes: records, ranges, sums of blocks. At first unbounded. */
	struct memory_quota account;
};

struct page_store {
	struct page_pool *pool;
	struct page **slots; /* page number n is at slots[n & (slot_count − 1)]; NULL: no page there */
	uint32_t slot_count; /* 0 or a power of two */
	uint32_t page_count; /* slots that hold a page */
	uint64_t low;        /* first offset that is kept; all slots' pages hold offsets in [low, low + slot_count ×
	                        PAGE_BYTES) */
};

void page_pool_init(struct page_pool *pool, size_t limit_pages);
/* All pages must be back. */
void page_pool_fini(struct page_pool *pool);

/* One with a reference, its contents undefined. NULL: the pool or the heap gives no more. */
struct page *page_new(struct page_pool *pool);
static inline struct page *page_ref(struct page *page)
{
	page->refs++;
	return page;
}
void page_unref(struct page_pool *pool, struct page *page);

void page_store_init(struct page_store *store, struct page_pool *pool, uint64_t low);
/* Drops every page. */
void page_store_fini(struct page_store *store);

/* Makes pages for [from, to), from ≥ low. 0, or -ENOMEM when the pool or the heap gives no more: pages made until
 * then stay. */
int page_store_reserve(struct page_store *store, uint64_t from, uint64_t to);

/* The bytes from `offset` on that lie together in one page, at most `len`; sets *page (may be NULL) to it,
 * unreferenced. The page must exist. The pointer lives until the store's low end passes it. */
uint8_t *page_store_at(const struct page_store *store, uint64_t offset, size_t *len, struct page **page);

/* Up to `max` slices that cover [from, to), which must be there. Returns how many; *covered gets their bytes. */
unsigned page_store_slices(const struct page_store *store, uint64_t from, uint64_t to, struct iovec *slices,
                           unsigned max, size_t *covered);

/* Copies in; the pages must exist. */
void page_store_write(struct page_store *store, uint64_t offset, const uint8_t *bytes, size_t len);

/* Moves the low end up and drops the pages below it. With `last` (nothing is kept at or above low) drops the page
 * that holds `low` as well. */
void page_store_advance(struct page_store *store, uint64_t low, bool last);

/* Drops the pages that lie wholly in [from, to), made by page_store_reserve and not filled. */
void page_store_trim(struct page_store *store, uint64_t from, uint64_t to);

#endif
