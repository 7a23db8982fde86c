/* Sets of ranges against a set of single offsets. */
#include <errno.h>
#include <string.h>

#include "../../common/core/memory.h"
#include "../../common/core/range.h"
#include "unit.h"
#include "unit_random.h"

enum { SPACE = 600 };

static bool model[SPACE];

/* Sorted, not empty, neither overlapping nor touching, and holding just what the model holds. */
static bool agrees(const struct range_set *set, uint64_t base)
{
	bool held[SPACE] = {false};

	if (set->count > set->capacity)
		return false;
	for (uint32_t i = 0; i < set->count; i++) {
		const struct range *r = &set->items[i];
		if (r->from >= r->to || (i && r->from <= set->items[i - 1].to))
			return false;
		if (r->from < base || r->to > base + SPACE)
			return false;
		memset(held + (r->from - base), true, r->to - r->from);
	}
	return memcmp(held, model, sizeof held) == 0;
}

static bool gap_agrees(const struct range_set *set, uint64_t base, uint64_t from, uint64_t to)
{
	struct range gap;
	uint64_t at = from, end;
	int got = range_set_gap(set, base + from, base + to, &gap);

	while (at < to && model[at])
		at++;
	for (end = at; end < to && !model[end]; end++)
		;
	if (at == to)
		return got == 0;
	return got == 1 && gap.from == base + at && gap.to == base + end;
}

static void check_random(uint64_t base, const char *name)
{
	UNIT_CASE("add, gap and take agree with a naive set, %s", name) {
		for (uint64_t round = 1; round <= 200; round++) {
			uint64_t seed = round;
			uint64_t widest = 1 + unit_below(&seed, 80);
			struct range_set set;

			range_set_init(&set, NULL);
			memset(model, false, sizeof model);
			for (int step = 0; step < 150; step++) {
				uint64_t from = unit_below(&seed, SPACE - 1);
				uint64_t len = 1 + unit_below(&seed, widest);
				uint64_t to = from + len > SPACE ? SPACE : from + len;

				if (unit_chance(&seed, 1, 25)) {
					uint64_t end = from;
					while (end < SPACE && model[end])
						end++;
					memset(model, false, end);
					if (!UNIT_EQ(range_set_take_from(&set, base + from), base + end))
						break;
				} else if (unit_chance(&seed, 1, 3)) {
					if (!UNIT_TRUE(gap_agrees(&set, base, from, to)))
						break;
				} else {
					memset(model + from, true, to - from);
					if (!UNIT_EQ(range_set_add(&set, base + from, base + to), 0))
						break;
				}
				if (!UNIT_TRUE(agrees(&set, base)))
					break;
			}
			range_set_fini(&set);
		}
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_edges(void)
{
	struct range_set set;
	struct range gap;

	UNIT_CASE("an empty set has one gap, and nothing to take") {
		range_set_init(&set, NULL);
		UNIT_EQ(range_set_gap(&set, 5, 9, &gap), 1);
		UNIT_EQ(gap.from, 5);
		UNIT_EQ(gap.to, 9);
		UNIT_EQ(range_set_gap(&set, 5, 5, &gap), 0);
		UNIT_EQ(range_set_take_from(&set, 7), 7);
		range_set_fini(&set);
	}
	UNIT_CASE("neighbours become one") {
		range_set_init(&set, NULL);
		UNIT_EQ(range_set_add(&set, 10, 20), 0);
		UNIT_EQ(range_set_add(&set, 30, 40), 0);
		UNIT_EQ(range_set_add(&set, 20, 30), 0);
		UNIT_EQ(set.count, 1);
		UNIT_EQ(set.items[0].from, 10);
		UNIT_EQ(set.items[0].to, 40);
		UNIT_EQ(range_set_take_from(&set, 9), 9);
		UNIT_EQ(range_set_take_from(&set, 10), 40);
		UNIT_EQ(set.count, 0);
		range_set_fini(&set);
	}
}

static void check_limits(void)
{
	struct range_set set;
	uint32_t added = 0;

	UNIT_CASE("RANGE_MAX ranges fit, the next is refused and changes nothing, joining still works") {
		range_set_init(&set, NULL);
		while (added < RANGE_MAX && range_set_add(&set, 3 * added + 10, 3 * added + 12) == 0)
			added++;
		UNIT_EQ(added, RANGE_MAX);
		UNIT_EQ(range_set_add(&set, 0, 1), -E2BIG);
		UNIT_EQ(range_set_add(&set, 4 * RANGE_MAX, 4 * RANGE_MAX + 1), -E2BIG);
		UNIT_EQ(set.count, RANGE_MAX);
		UNIT_EQ(set.items[0].from, 10);
		UNIT_EQ(range_set_add(&set, 12, 13), 0);
		UNIT_EQ(set.count, RANGE_MAX - 1);
		UNIT_EQ(range_set_add(&set, 0, 1), 0);
		UNIT_EQ(set.count, RANGE_MAX);
		UNIT_EQ(range_set_add(&set, 0, 10 * RANGE_MAX), 0);
		UNIT_EQ(set.count, 1);
		range_set_fini(&set);
		UNIT_EQ(memory_live(), 0);
	}
	UNIT_CASE("no memory: the set stays as it was") {
		range_set_init(&set, NULL);
		memory_fail_after(1);
		UNIT_EQ(range_set_add(&set, 1, 2), -ENOMEM);
		UNIT_EQ(set.count, 0);
		memory_fail_after(0);
		for (uint64_t i = 0; i < 8; i++)
			UNIT_EQ(range_set_add(&set, 10 * i, 10 * i + 1), 0);
		memory_fail_after(1);
		UNIT_EQ(range_set_add(&set, 100, 101), -ENOMEM);
		UNIT_EQ(set.count, 8);
		UNIT_EQ(range_set_add(&set, 1, 2), 0);
		UNIT_EQ(set.items[0].to, 2);
		memory_fail_after(0);
		UNIT_EQ(range_set_add(&set, 100, 101), 0);
		UNIT_EQ(set.count, 9);
		range_set_fini(&set);
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_quota(void)
{
	UNIT_CASE("sets share a quota, have their first ranges in any case, and give back what they took") {
		struct memory_quota quota = {.limit_bytes = 256 * sizeof(struct range)};
		struct range_set a, b;

		range_set_init(&a, &quota);
		range_set_init(&b, &quota);
		while (a.count < 1000 && range_set_add(&a, 2 * a.count, 2 * a.count + 1) == 0)
			UNIT_TRUE(quota.used_bytes <= quota.limit_bytes);
		UNIT_EQ(a.count, 256);
		UNIT_EQ(range_set_add(&a, 5000, 5001), -ENOBUFS);
		UNIT_EQ(a.count, 256);
		UNIT_EQ(range_set_add(&a, 1, 2), 0);
		UNIT_EQ(a.count, 255);
		while (b.count < 1000 && range_set_add(&b, 2 * b.count, 2 * b.count + 1) == 0)
			;
		UNIT_EQ(b.count, RANGE_FIRST);
		UNIT_EQ(range_set_take_from(&a, 5000), 5000);
		UNIT_EQ(quota.used_bytes, RANGE_FIRST * sizeof(struct range));
		UNIT_EQ(range_set_add(&b, 5000, 5001), 0);
		range_set_fini(&a);
		range_set_fini(&b);
		UNIT_EQ(quota.used_bytes, 0);
		UNIT_EQ(memory_live(), 0);
	}
}

int main(void)
{
	check_edges();
	check_random(0, "from offset 0");
	check_random((1ull << 32) - SPACE / 2, "across 4 GiB");
	check_random((1ull << 62) - SPACE, "up to the last offset");
	check_limits();
	check_quota();
	return unit_exit();
}
