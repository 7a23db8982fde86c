/* Paths and plans by chance. */
#include "../unit/unit_random.h"
#include "sim_net.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const uint64_t sizes[] = {0, 1, 999, 1000, 1001, 32767, 32768, 32769, 65535, 65536, 65537, 300000};

struct sim_path sim_random_path(uint64_t *seed)
{
	return (struct sim_path){.stripes = 1 + (unsigned)unit_below(seed, 8),
	                         .rate_Bps = 100000 + unit_below(seed, 20000000),
	                         .delay_us = (uint32_t)unit_below(seed, 100000),
	                         .queue_bytes = 20000 + (uint32_t)unit_below(seed, 300000),
	                         .loss_ppm = unit_chance(seed, 1, 2) ? (uint32_t)unit_below(seed, 50000) : 0,
	                         .backup = unit_chance(seed, 1, 10),
	                         .budget = unit_chance(seed, 1, 4) ? 1 + (uint8_t)unit_below(seed, 101) : 0};
}

struct sim_plan sim_random_plan(uint64_t *seed, uint64_t most)
{
	struct sim_plan plan = {.start_us = unit_below(seed, 2 * SIM_SECOND),
	                        .early = unit_chance(seed, 1, 2),
	                        .answers = unit_chance(seed, 1, 3),
	                        .connect_us = (uint32_t)unit_below(seed, 200000)};

	for (unsigned side = 0; side < SIM_SIDES; side++) {
		plan.bytes[side] =
		        unit_chance(seed, 1, 3) ? sizes[unit_below(seed, COUNT(sizes))] : unit_below(seed, most);
		plan.chunk[side] = 1 + (uint32_t)unit_below(seed, unit_chance(seed, 1, 4) ? 100 : 100000);
		if (plan.bytes[side] / plan.chunk[side] > 3000)
			plan.chunk[side] = 1 + (uint32_t)(plan.bytes[side] / 3000);
		if (unit_chance(seed, 1, 5))
			plan.pause_us[side] = (uint32_t)unit_below(seed, 20000);
		if (unit_chance(seed, 1, 8))
			plan.read_Bps[side] = 50000 + (uint32_t)unit_below(seed, 2000000);
	}
	return plan;
}
