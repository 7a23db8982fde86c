/* budget: how many repeated bytes a path may carry, as a token bucket.
 *
 * A repeat is what travels although its first sending is still on its way: copies of small flows' frames, and
 * reinjection of what is late. Each new byte that the path carries lets percent / 100 of a byte be repeated on it
 * later; what is not used is kept up to BUDGET_BURST_BYTES, which are also there at the start, so that the first small
 * flows of an idle path may travel twice. Bytes are those of whole frames. With 0 percent nothing is ever repeated.
 *
 * Sending again what a stripe lost that died or went stale is delivery, no repeat, and needs no budget.
 */
#ifndef PAIR_CORE_BUDGET_H
#define PAIR_CORE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum { BUDGET_PERCENT_MAX = 100, BUDGET_BURST_BYTES = 262144 };

struct budget {
	uint64_t tokens; /* hundredths of bytes; ≤ 100 × BUDGET_BURST_BYTES */
	uint8_t percent; /* 0..BUDGET_PERCENT_MAX */
};

/* Full, unless percent is 0. */
void budget_init(struct budget *budget, unsigned percent);
/* The path carries so many new bytes. */
void budget_earn(struct budget *budget, uint64_t len_bytes);
/* Whether so many may be repeated now. */
bool budget_allows(const struct budget *budget, uint64_t len_bytes);
/* They are; they must be allowed. */
void budget_spend(struct budget *budget, uint64_t len_bytes);

#endif
