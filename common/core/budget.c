#include "budget.h"

#include <assert.h>

static const uint64_t token = 100;                               /* a byte's worth */
static const uint64_t full = (uint64_t)100 * BUDGET_BURST_BYTES; /* in hundredths, too */

void budget_init(struct budget *budget, unsigned percent)
{
	assert(percent <= BUDGET_PERCENT_MAX);
	*budget = (struct budget){.tokens = percent ? full : 0, .percent = (uint8_t)percent};
}

void budget_earn(struct budget *budget, uint64_t len_bytes)
{
	/* More than fills the bucket with one percent of it: so nothing overflows. */
	if (len_bytes > full)
		len_bytes = full;
	budget->tokens += len_bytes * budget->percent;
	if (budget->tokens > full)
		budget->tokens = full;
}

bool budget_allows(const struct budget *budget, uint64_t len_bytes)
{
	return budget->percent && len_bytes <= budget->tokens / token;
}

void budget_spend(struct budget *budget, uint64_t len_bytes)
{
	assert(budget_allows(budget, len_bytes));
	budget->tokens -= len_bytes * token;
}
