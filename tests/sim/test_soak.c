/* Everything at once, by seed: mixed flows over random paths whose stripes die and come back, in silence or not. A flow
 * may be reset only by whoever planned it. time-limit: 400 (under sanitizers, on a busy machine)
 *
 *   test_soak [FIRST [LAST]]     runs these seeds
 */
#include <stdlib.h>

#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

enum { SEEDS = 60, FLOWS_MAX = 30, SHORT_FLOWS = 100 };

struct weather {
	uint64_t seed;
	unsigned blows; /* how many are still to come */
	uint64_t mean_us;
};

static void blow(struct sim *sim, void *user)
{
	struct weather *weather = user;
	uint64_t *seed = &weather->seed;

	if (sim->wake_us)
		return;
	for (unsigned p = 0; p < sim->config.path_count; p++)
		sim_path_up(sim, p);
	if (!weather->blows)
		return;
	weather->blows--;
	sim->wake_us = sim->now_us + 1 + unit_below(seed, 2 * weather->mean_us);
	unsigned path = (unsigned)unit_below(seed, sim->config.path_count);
	if (unit_chance(seed, 1, 3)) {
		sim_path_down(sim, path, unit_chance(seed, 1, 2));
		return;
	}
	for (unsigned i = 0; i < sim->config.paths[path].stripes; i++) {
		struct sim_conn *conn = sim_find_conn(sim, path, i);
		if (conn && unit_chance(seed, 1, 2))
			sim_kill(sim, conn, unit_chance(seed, 1, 2));
	}
}

static void soak(uint64_t number)
{
	uint64_t seed = number;
	struct weather weather = {.seed = ~number,
	                          .blows = (unsigned)unit_below(&seed, 12),
	                          .mean_us = 50000 + unit_below(&seed, 2000000)};
	struct sim_config config = {.seed = number,
	                            .path_count = 1 + (unsigned)unit_below(&seed, SIM_PATHS),
	                            .partial = true,
	                            .step = blow,
	                            .user = &weather};
	unsigned flows = 1 + (unsigned)unit_below(&seed, FLOWS_MAX);
	struct sim *sim;

	for (unsigned p = 0; p < config.path_count; p++)
		config.paths[p] = sim_random_path(&seed);
	sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return;
	for (unsigned i = 0; i < flows; i++) {
		struct sim_plan plan = sim_random_plan(&seed, unit_chance(&seed, 1, 3) ? 500000 : 5000);
		unsigned side = (unsigned)unit_below(&seed, SIM_SIDES);

		plan.reset_reason = RESET_BY_APP;
		if (unit_chance(&seed, 1, 10))
			plan.status = (enum open_status)unit_below(&seed, OPEN_STATUS_COUNT);
		else if (unit_chance(&seed, 1, 10) && plan.bytes[!side] && !plan.answers)
			plan.reset_at[side] = 1 + unit_below(&seed, plan.bytes[!side]);
		sim_add(sim, &plan);
	}
	sim_run(sim, 900ull * SIM_SECOND);
	sim_check(sim);
	sim_free(sim);
}

/* Many short flows whose OPENs, answers and last acks are what dies with a stripe. */
static void soak_short(uint64_t number)
{
	uint64_t seed = number;
	struct weather weather = {.seed = ~number, .blows = 40, .mean_us = 60000};
	struct sim_config config = {.seed = number,
	                            .path_count = 2,
	                            .paths = {SIM_DSL, SIM_DSL},
	                            .partial = true,
	                            .step = blow,
	                            .user = &weather};
	struct sim *sim;

	config.paths[0].stripes = 2 + (unsigned)unit_below(&seed, 7);
	config.paths[1].delay_us = 60000;
	sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return;
	for (unsigned i = 0; i < SHORT_FLOWS; i++) {
		struct sim_plan plan = {.bytes = {unit_below(&seed, 3), unit_below(&seed, 3)},
		                        .start_us = SIM_SECOND + unit_below(&seed, 3 * SIM_SECOND),
		                        .connect_us = (uint32_t)unit_below(&seed, 300000),
		                        .early = unit_chance(&seed, 1, 2),
		                        .answers = unit_chance(&seed, 1, 2)};
		if (unit_chance(&seed, 1, 2))
			plan.status = (enum open_status)unit_below(&seed, OPEN_STATUS_COUNT);
		sim_add(sim, &plan);
	}
	sim_run(sim, 200ull * SIM_SECOND);
	sim_check(sim);
	sim_free(sim);
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t last = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? first : SEEDS;

	UNIT_CASE("mixed flows, seeds %llu to %llu", (unsigned long long)first, (unsigned long long)last)
		for (uint64_t number = first; number <= last; number++)
			soak(number);
	UNIT_CASE("short flows, seeds %llu to %llu", (unsigned long long)first, (unsigned long long)last)
		for (uint64_t number = first; number <= last; number++)
			soak_short(number);
	return unit_exit();
}
