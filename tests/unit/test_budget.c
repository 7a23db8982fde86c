/* The budget of a path for repetitions. */
#include "../../common/core/budget.h"
#include "unit.h"
#include "unit_random.h"

static void check_table(void)
{
	static const struct {
		unsigned percent;
		uint64_t new_bytes, repeats; /* what may be repeated after so many new bytes, the burst aside */
	} rows[] = {{100, 5000, 5000}, {100, 1, 1}, {50, 1, 0}, {50, 2, 1}, {33, 100, 33}, {1, 99, 0}, {1, 199, 1}};

	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		UNIT_CASE("%u percent of %u new bytes", rows[i].percent, (unsigned)rows[i].new_bytes) {
			struct budget budget;

			budget_init(&budget, rows[i].percent);
			budget_spend(&budget, BUDGET_BURST_BYTES);
			UNIT_TRUE(!budget_allows(&budget, 1));
			budget_earn(&budget, rows[i].new_bytes);
			UNIT_TRUE(budget_allows(&budget, rows[i].repeats));
			UNIT_TRUE(!budget_allows(&budget, rows[i].repeats + 1));
		}
}

static void check_bounds(void)
{
	UNIT_CASE("with 0 percent nothing is ever repeated") {
		struct budget budget;

		budget_init(&budget, 0);
		UNIT_TRUE(!budget_allows(&budget, 1));
		UNIT_TRUE(!budget_allows(&budget, 0));
		budget_earn(&budget, UINT64_MAX);
		UNIT_TRUE(!budget_allows(&budget, 1));
	}
	UNIT_CASE("the burst is there at the start, and never more than that") {
		for (unsigned percent = 1; percent <= BUDGET_PERCENT_MAX; percent++) {
			struct budget budget;

			budget_init(&budget, percent);
			UNIT_TRUE(budget_allows(&budget, BUDGET_BURST_BYTES));
			UNIT_TRUE(!budget_allows(&budget, BUDGET_BURST_BYTES + 1));
			budget_earn(&budget, UINT64_MAX);
			UNIT_TRUE(budget_allows(&budget, BUDGET_BURST_BYTES));
			UNIT_TRUE(!budget_allows(&budget, BUDGET_BURST_BYTES + 1));
		}
	}
	UNIT_CASE("whatever comes, repeats stay within percent and burst, and reach them") {
		for (uint64_t round = 1; round <= 300; round++) {
			uint64_t seed = round, earned = 0, spent = 0;
			unsigned percent = 1 + (unsigned)unit_below(&seed, BUDGET_PERCENT_MAX);
			struct budget budget;

			budget_init(&budget, percent);
			for (int step = 0; step < 300; step++) {
				uint64_t new_bytes = unit_below(&seed, 3000), want = unit_below(&seed, 6000);
				budget_earn(&budget, new_bytes);
				earned += new_bytes;
				if (!budget_allows(&budget, want))
					continue;
				budget_spend(&budget, want);
				spent += want;
			}
			while (budget_allows(&budget, 1)) {
				budget_spend(&budget, 1);
				spent++;
			}
			if (!UNIT_TRUE(spent <= earned * percent / 100 + BUDGET_BURST_BYTES) ||
			    !UNIT_TRUE(percent < 90 || spent > earned * percent / 100))
				break;
		}
	}
}

int main(void)
{
	check_table();
	check_bounds();
	return unit_exit();
}
