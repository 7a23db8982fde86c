/* Every byte arrives, once, in order, and every flow ends at both sides: sizes, directions, numbers of stripes, loss, seeds. */
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
			UNIT_CASE("every size, %s, %u stripes", way == 0 ? "up" : way == 1 ? "down" : "both ways", stripes[s]) {
				for (size_t i = 0; i < COUNT(sizes); i++) {
					struct sim_config config = {.seed = 100 * s + i + 1, .path_count = 1, .paths = {SIM_DSL}, .partial = true};
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

int main(void)
{
	check_sizes();
	return unit_exit();
}
