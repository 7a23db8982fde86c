/* memory: the engine's only way to the heap, so that tests can make any allocation fail.
 *
 * memory_fail_after(n): the n-th allocation from now on (counted from 1) and every later one return NULL;
 * 0 switches that off. memory_live() counts blocks not yet freed. Both are for tests and statistics.
 */
#ifndef PAIR_CORE_MEMORY_H
#define PAIR_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, or NULL. */
void *memory_new(size_t count, size_t size);
/* Like memory_new, contents undefined: for pages that are filled before they are read. */
void *memory_new_raw(size_t size);
/* `old` grown to count × size bytes; on NULL `old` is untouched. The new part is undefined. */
void *memory_resize(void *old, size_t count, size_t size);
void memory_free(void *block);

/* What many arrays may take together. Each grows by doubling, so none can hold more than all others leave free. */
struct memory_quota {
	uint64_t limit_bytes;
	uint64_t used_bytes; /* may be over the limit by what arrays begin with, which is theirs in any case */
};

static inline bool memory_quota_allows(const struct memory_quota *quota, uint64_t more_bytes)
{
	return quota->used_bytes + more_bytes <= quota->limit_bytes;
}

/* --- The reserve --------------------------------------------------------------------------------------------------- *
 * The system may at any time give no more (RLIMIT_AS, strict overcommit). So that what has been begun can go on then,
 * the process holds memory that it does not touch, which costs address space and nothing else: as much as its owner
 * asks for, and what windows have promised to far ends while no page holds it yet. An allocation for which the system
 * has nothing takes from it. As long as it is not whole, nothing new should be begun.
 * Of one thread; off until memory_reserve. */

/* From now on `bytes` are held besides what is promised. */
void memory_reserve(size_t bytes);
/* More, or less, is promised. */
void memory_promise(int64_t bytes);
/* Whether `bytes` more could be promised now. True where there is no reserve. */
bool memory_backs(uint64_t bytes);
static inline bool memory_is_scarce(void)
{
	return !memory_backs(0);
}

void memory_fail_after(uint64_t allocations);
uint64_t memory_live(void);

#endif
