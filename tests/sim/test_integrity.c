/* Every byte arrives, once, in order, and every flow ends at both sides: sizes, directions, numbers of stripes, loss,
 * seeds.
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include <string.h>

#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const uint64_t sizes[] = {0, 1, 999, 1000, 1001, 32767, 32768, 32769, 65535, 65536, 65537, 300000, 3000000};

static void run_and_check(const struct sim_config *config, const struct sim_plan *plans, size_t count)
{
	struct sim *sim = sim_new(config);

	if (!UNIT_TRUE(sim))
		return;
	for (size_t i = 0; i < count; i++)
		sim_add(sim, &plans[i]);
	sim_run(sim, 600ull * SIM_SECOND);
	sim_check(sim);
	sim_free(sim);
}

static void check_sizes(void)
{
	static const unsigned stripes[] = {1, 2, 8, 32};

	for (size_t s = 0; s < COUNT(stripes); s++)
		for (unsigned way = 0; way < 3; way++)
			UNIT_CASE("every size, %s, %u stripes",
			          way == 0   ? "up"
			          : way == 1 ? "down"
			                     : "both ways",
			          stripes[s]) {
				for (size_t i = 0; i < COUNT(sizes); i++) {
					struct sim_config config = {.seed = 100 * s + i + 1,
					                            .path_count = 1,
					                            .paths = {SIM_DSL},
					                            .partial = true};
					struct sim_plan plan = {.early = i % 2, .connect_us = 20000};
					config.paths[0].stripes = stripes[s];
					config.paths[0].loss_ppm = 5000;
					if (way != 1)
						plan.bytes[0] = sizes[i];
					if (way != 0)
						plan.bytes[1] = sizes[i];
					run_and_check(&config, &plan, 1);
				}
			}
}

static void check_seeds(void)
{
	UNIT_CASE("random paths, flows and pieces, by seed") {
		for (uint64_t round = 1; round <= 80; round++) {
			uint64_t seed = round;
			struct sim_config config = {.seed = round,
			                            .path_count = 1 + (unsigned)unit_below(&seed, SIM_PATHS),
			                            .partial = true};
			struct sim_plan plans[6];
			size_t count = 1 + unit_below(&seed, COUNT(plans));

			for (unsigned p = 0; p < config.path_count; p++)
				config.paths[p] = sim_random_path(&seed);
			for (size_t i = 0; i < count; i++)
				plans[i] = sim_random_plan(&seed, 400000);
			run_and_check(&config, plans, count);
		}
	}
}

static void check_crowd(void)
{
	UNIT_CASE("200 flows at once, small and large, fast and slow, both ways") {
		for (uint64_t round = 1; round <= 2; round++) {
			uint64_t seed = round;
			struct sim_config config = {
			        .seed = round, .path_count = 2, .paths = {SIM_DSL, SIM_LAN}, .partial = true};
			struct sim_plan plans[200];

			config.paths[0].loss_ppm = 10000;
			for (size_t i = 0; i < COUNT(plans); i++) {
				plans[i] = sim_random_plan(&seed, i % 10 ? 20000 : 1000000);
				if (i % 17 == 0)
					plans[i].reset_at[i % 2] = 1 + unit_below(&seed, 5000);
				if (i % 17 == 0 && plans[i].bytes[!(i % 2)] < 5000)
					plans[i].bytes[!(i % 2)] = 5000;
				plans[i].reset_reason = RESET_BY_APP;
				if (i % 23 == 0)
					plans[i] = (struct sim_plan){.status = OPEN_REFUSED};
				if (plans[i].read_Bps[i % 2])
					plans[i].answers = false;
			}
			run_and_check(&config, plans, COUNT(plans));
		}
	}
}

static uint64_t trace_of(uint64_t number)
{
	uint64_t seed = number, trace;
	struct sim_config config = {.seed = number, .path_count = 2, .paths = {SIM_DSL, SIM_LAN}, .partial = true};
	struct sim *sim;

	config.paths[1].loss_ppm = 20000;
	sim = sim_new(&config);
	for (int i = 0; i < 10; i++) {
		struct sim_plan plan = sim_random_plan(&seed, 100000);
		sim_add(sim, &plan);
	}
	sim_run_until(sim, 2 * SIM_SECOND);
	sim_path_down(sim, 1, true);
	sim_run_until(sim, 3 * SIM_SECOND);
	sim_path_up(sim, 1);
	sim_run(sim, 600ull * SIM_SECOND);
	sim_check(sim);
	trace = sim->trace;
	sim_free(sim);
	return trace;
}

static void check_determinism(void)
{
	UNIT_CASE("the same seed gives the same trace, another one another") {
		for (uint64_t seed = 1; seed <= 3; seed++)
			UNIT_EQ(trace_of(seed), trace_of(seed));
		UNIT_TRUE(trace_of(1) != trace_of(2));
	}
}

int main(void)
{
	check_sizes();
	check_seeds();
	check_crowd();
	check_determinism();
	return unit_exit();
}
