#include "range.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void range_set_init(struct range_set *set, struct memory_quota *quota)
{
	*set = (struct range_set){.quota = quota};
}

void range_set_fini(struct range_set *set)
{
	memory_free(set->items);
	if (set->quota)
		set->quota->used_bytes -= set->capacity * sizeof *set->items;
	range_set_init(set, set->quota);
}

/* Index of the first range that ends at or above `offset`. */
static uint32_t find(const struct range_set *set, uint64_t offset)
{
	uint32_t low = 0, high = set->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (set->items[middle].to < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int make_room(struct range_set *set)
{
	if (set->count < set->capacity)
		return 0;
	if (set->count >= RANGE_MAX)
		return -E2BIG;
	uint32_t capacity = set->capacity ? set->capacity * 2 : 8;
	uint64_t more_bytes = (capacity - set->capacity) * sizeof *set->items;
	if (set->quota && capacity > RANGE_FIRST && !memory_quota_allows(set->quota, more_bytes))
		return -ENOBUFS;
	struct range *items = memory_resize(set->items, capacity, sizeof *items);
	if (!items)
		return -ENOMEM;
	if (set->quota)
		set->quota->used_bytes += more_bytes;
	set->items = items;
	set->capacity = capacity;
	return 0;
}

int range_set_add(struct range_set *set, uint64_t from, uint64_t to)
{
	assert(from < to);
	uint32_t first = find(set, from); /* touches or follows [from, to) */
	uint32_t after = first;
	while (after < set->count && set->items[after].from <= to)
		after++;
	if (first == after) {
		int err = make_room(set);
		if (err)
			return err;
		memmove(set->items + first + 1, set->items + first, (set->count - first) * sizeof *set->items);
		set->items[first] = (struct range){from, to};
		set->count++;
		return 0;
	}
	if (set->items[first].from > from)
		set->items[first].from = from;
	if (to < set->items[after - 1].to)
		to = set->items[after - 1].to;
	set->items[first].to = to;
	memmove(set->items + first + 1, set->items + after, (set->count - after) * sizeof *set->items);
	set->count -= after - first - 1;
	return 0;
}

int range_set_gap(const struct range_set *set, uint64_t from, uint64_t to, struct range *gap)
{
	uint32_t i = find(set, from);
	if (i < set->count && set->items[i].from <= from) {
		from = set->items[i].to;
		i++;
	}
	if (from >= to)
		return 0;
	if (i < set->count && set->items[i].from < to)
		to = set->items[i].from;
	*gap = (struct range){from, to};
	return 1;
}

uint64_t range_set_take_from(struct range_set *set, uint64_t offset)
{
	uint32_t i = 0;
	while (i < set->count && set->items[i].from <= offset) {
		if (set->items[i].to > offset)
			offset = set->items[i].to;
		i++;
	}
	if (!i)
		return offset;
	memmove(set->items, set->items + i, (set->count - i) * sizeof *set->items);
	set->count -= i;
	if (!set->count && set->capacity > 64)
		range_set_fini(set);
	return offset;
}
