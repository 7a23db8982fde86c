/* sim_time: points of virtual time, µs. As a field 0 is never; as a result UINT64_MAX is. */
#ifndef TESTS_SIM_TIME_H
#define TESTS_SIM_TIME_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t sim_sooner(uint64_t a, uint64_t b)
{
	return b < a ? b : a;
}

/* Of a field. */
static inline uint64_t sim_timer(uint64_t at_us)
{
	return at_us ? at_us : UINT64_MAX;
}

/* A field's time has come. */
static inline bool sim_due(uint64_t at_us, uint64_t now_us)
{
	return at_us && at_us <= now_us;
}

#endif
