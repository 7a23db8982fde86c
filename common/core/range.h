/* range: a set of offsets, kept as sorted, disjoint, non-adjacent half-open ranges.
 *
 * Used by ingress for what has arrived beyond the first gap. Owns one array, grown as needed up to RANGE_MAX ranges,
 * beyond the first RANGE_FIRST only as its quota allows.
 */
#ifndef PAIR_CORE_RANGE_H
#define PAIR_CORE_RANGE_H

#include "memory.h"

enum { RANGE_MAX = 16384, RANGE_FIRST = 64 };

struct range {
	uint64_t from; /* included */
	uint64_t to;   /* excluded; > from */
};

struct range_set {
	struct range *items;
	uint32_t count;
	uint32_t capacity;
	struct memory_quota *quota; /* NULL: none */
};

void range_set_init(struct range_set *set, struct memory_quota *quota);
void range_set_fini(struct range_set *set);

/* Adds [from, to), from < to. 0, -ENOMEM, -E2BIG (RANGE_MAX reached) or -ENOBUFS (the quota); the set is unchanged on
 * error. */
int range_set_add(struct range_set *set, uint64_t from, uint64_t to);

/* The first part of [from, to) that is not in the set: 1 and *gap, or 0 when there is none. */
int range_set_gap(const struct range_set *set, uint64_t from, uint64_t to, struct range *gap);

/* If a range starts at or below `offset` and ends above it, removes it and returns its end; else returns `offset`.
 * Ranges that end at or below `offset` are removed. */
uint64_t range_set_take_from(struct range_set *set, uint64_t offset);

#endif
