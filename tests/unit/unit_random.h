/* unit_random: repeatable random numbers for tests (splitmix64, Steele, Lea and Flood, OOPSLA 2014). The state is the
 * seed; the same seed gives the same numbers on every machine.
 */
#ifndef TESTS_UNIT_RANDOM_H
#define TESTS_UNIT_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t unit_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0..bound − 1; 0 when bound is 0. */
static inline uint64_t unit_below(uint64_t *state, uint64_t bound)
{
	return bound ? unit_random(state) % bound : 0;
}

/* True in `n` of `of` cases. */
static inline bool unit_chance(uint64_t *state, uint64_t n, uint64_t of)
{
	return unit_below(state, of) < n;
}

#endif
