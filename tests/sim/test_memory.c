/* Memory: its bound holds and is back-pressure, not an error; nothing leaks; and any allocation may fail.
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include <string.h>

#include "../../common/core/memory.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

static void check_bound(void)
{
	static const uint64_t limits[] = {1 << 20, 4 << 20, 64 << 20};

	for (unsigned l = 0; l < 3; l++)
		UNIT_CASE("%u MiB are never exceeded, and everything gets through", (unsigned)(limits[l] >> 20)) {
			for (uint64_t seed = 1; seed <= 3; seed++) {
				struct sim_config config = {.seed = seed,
				                            .path_count = 2,
				                            .paths = {SIM_LAN,
				                                      {.stripes = 4,
				                                       .rate_Bps = 5000000,
				                                       .delay_us = 100000,
				                                       .queue_bytes = 300000}},
				                            .limits = {.memory_bytes = limits[l]}};
				struct sim *sim;

				config.paths[1].loss_ppm = 10000;
				sim = sim_new(&config);
				/* The least memory has first windows for six flows. */
				for (unsigned i = 0; i < (limits[l] == 1 << 20 ? 6 : 12); i++)
					sim_add(sim, &(struct sim_plan){.bytes = {i < 4 ? 6000000 : 100000,
					                                          i < 4 ? 6000000 : 100000},
					                                .holds = {i % 3 == 0, i % 2},
					                                .start_us = i * 200 * SIM_MS,
					                                .release_us = 4 * SIM_SECOND});
				UNIT_TRUE(sim_run(sim, 300ull * SIM_SECOND));
				sim_check(sim);
				if (limits[l] < 64 << 20) /* so the bound was felt */
					UNIT_TRUE(sim->hosts[SIM_SERVER].peak_bytes > limits[l] / 8);
				sim_free(sim);
			}
		}
}

static void check_full_windows(void)
{
	UNIT_CASE("every window filled to its edge at once, since nobody reads: what was promised has room") {
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct sim_config config = {.seed = seed,
			                            .path_count = 1,
			                            .paths = {SIM_LAN},
			                            .limits = {.memory_bytes = 4 << 20},
			                            .partial = true};
			struct sim *sim = sim_new(&config);

			for (unsigned i = 0; i < 12; i++)
				sim_add(sim, &(struct sim_plan){.bytes = {2000000, 2000000},
				                                .start_us = i * 10 * SIM_MS,
				                                .holds = {i % 4, i % 4},
				                                .release_us = 5 * SIM_SECOND});
			UNIT_TRUE(sim_run_until(sim, 4900 * SIM_MS));
			for (unsigned side = 0; side < SIM_SIDES; side++) {
				struct session_stats stats;
				session_get_stats(sim->hosts[side].session, &stats);
				UNIT_TRUE(stats.ingress_pages * PAGE_BYTES <= stats.promised_bytes);
				UNIT_TRUE(stats.ingress_pages * PAGE_BYTES > stats.promised_bytes / 4);
			}
			UNIT_TRUE(sim_run(sim, 100ull * SIM_SECOND));
			sim_check(sim);
			sim_free(sim);
		}
	}
}

/* Flows of single bytes over stripes that halt now and then, in the least memory. */
static struct sim *scattered(uint64_t seed)
{
	struct sim_config config = {
	        .seed = seed,
	        .path_count = 2,
	        .paths = {SIM_DSL, {.stripes = 4, .rate_Bps = 1000000, .delay_us = 150000, .queue_bytes = 300000}},
	        .limits = {.memory_bytes = 1 << 20}};

	config.paths[0].loss_ppm = config.paths[1].loss_ppm = 20000;
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return NULL;
	for (unsigned i = 0; i < 5; i++)
		sim_add(sim, &(struct sim_plan){.bytes = {4000, 4000},
		                                .chunk = {1, 1},
		                                .pause_us = {20, 30},
		                                .holds = {i % 2, i % 3 == 0},
		                                .release_us = 2 * SIM_SECOND});
	for (unsigned blow = 1; blow <= 4; blow++) {
		sim_run_until(sim, sim->now_us + 100 * SIM_MS + 7 * SIM_MS * seed);
		sim_path_down(sim, blow % 2, true);
		sim_path_up(sim, blow % 2);
	}
	UNIT_TRUE(sim_run(sim, 300ull * SIM_SECOND));
	sim_check(sim);
	return sim;
}

static void check_account(void)
{
	UNIT_CASE("single bytes over stripes that halt: accounts keep to their bound, and everything gets through")
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct sim *sim = scattered(seed);
			/* It was felt. */
			UNIT_TRUE(sim && sim->hosts[SIM_CLIENT].peak_account_bytes > (1 << 20) / 20);
			if (sim)
				sim_free(sim);
		}
}

static void check_deadlock(void)
{
	UNIT_CASE("full windows, a full pool and dying stripes do not lock each other") {
		for (uint64_t seed = 1; seed <= 12; seed++) {
			struct sim_config config = {.seed = seed,
			                            .path_count = 2,
			                            .paths = {SIM_DSL,
			                                      {.stripes = 3,
			                                       .rate_Bps = 200000,
			                                       .delay_us = 200000,
			                                       .queue_bytes = 300000}},
			                            .limits = {.memory_bytes = 1 << 20},
			                            .partial = true};
			struct sim *sim;

			config.paths[0].loss_ppm = 30000;
			sim = sim_new(&config);
			for (unsigned i = 0; i < 6; i++)
				sim_add(sim, &(struct sim_plan){.bytes = {700000, 700000},
				                                .read_Bps = {0, i % 2 ? 200000 : 0}});
			for (unsigned blow = 1; blow <= 10; blow++) {
				sim_run_until(sim, sim->now_us + 400 * SIM_MS + 13 * SIM_MS * seed);
				sim_path_down(sim, blow % 2, blow % 3 == 0);
				sim_path_up(sim, blow % 2);
			}
			UNIT_TRUE(sim_run(sim, 300ull * SIM_SECOND));
			sim_check(sim);
			sim_free(sim);
		}
	}
}

static void check_leaks(void)
{
	UNIT_CASE("after a thousand flows nothing is kept that was not kept after a hundred") {
		struct sim_config config = {.seed = 1, .path_count = 1, .paths = {SIM_LAN}, .partial = true};
		struct sim *sim = sim_new(&config);
		uint64_t seed = 1, live = 0;

		for (unsigned round = 0; round < 10; round++) {
			for (unsigned i = 0; i < 100; i++) {
				struct sim_plan plan = {.bytes = {unit_below(&seed, 40000), unit_below(&seed, 40000)},
				                        .start_us = sim->now_us + unit_below(&seed, 300 * SIM_MS)};
				if (i % 7 == 0)
					plan.status = OPEN_REFUSED;
				else if (i % 5 == 0 && plan.bytes[i % 2])
					plan.reset_at[!(i % 2)] = 1;
				plan.reset_reason = RESET_BY_APP;
				sim_add(sim, &plan);
			}
			UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
			if (round == 0)
				live = memory_live();
		}
		sim_check(sim);
		/* Spare pages may have become more, up to their bound. */
		UNIT_TRUE(memory_live() <= live + 2 * SIM_SIDES * PAGE_SPARE_MAX);
		sim_free(sim);
	}
}

/* --- Allocations that fail ----------------------------------------------------------------------------------------*/

/* Completed with all bytes, or told the application that it did not. */
static bool decided(const struct sim_flow *f)
{
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		const struct sim_end *end = &f->ends[side];
		if (side == SIM_SERVER && !end->over && !end->flow)
			continue; /* never came so far */
		if (!end->over)
			return false;
		if (f->status == OPEN_CONNECTED && f->result_us && end->reason == RESET_NONE &&
		    end->read != f->plan.bytes[!side])
			return false;
	}
	return true;
}

/* True: the scenario was over before the n-th allocation. */
static bool scenario(uint64_t n, uint64_t outage_us)
{
	struct sim_config config = {.seed = 7, .path_count = 1, .paths = {SIM_DSL}};
	struct sim *sim;
	bool good;

	config.paths[0].loss_ppm = 20000;
	config.limits.memory_bytes = 2 << 20;
	memory_fail_after(n);
	sim = sim_new(&config);
	if (!sim) {
		memory_fail_after(0);
		return false;
	}
	for (unsigned i = 0; i < 5; i++)
		sim_add(sim, &(struct sim_plan){.bytes = {20000 + 50000 * i, 90000 - 10000 * i},
		                                .early = i % 2,
		                                .answers = i == 2});
	good = UNIT_TRUE(sim_run_until(sim, 1300 * SIM_MS));
	sim_kill(sim, sim_find_conn(sim, 0, 0) ? sim_find_conn(sim, 0, 0) : sim->conns[0], false);
	good = good && UNIT_TRUE(sim_run_until(sim, 1100 * SIM_MS + outage_us));
	memory_fail_after(0);
	good = good && UNIT_TRUE(sim_run(sim, 120ull * SIM_SECOND));
	for (uint32_t i = 0; good && i < sim->flow_count; i++)
		good = UNIT_TRUE(decided(sim->flows[i]));
	if (!good)
		UNIT_FAIL("allocation %u fails for %u ms: %s", (unsigned)n, (unsigned)(outage_us / 1000), sim->wrong);
	sim_free(sim);
	return !good;
}

static void check_failures(void)
{
	static const uint64_t outages_us[] = {1, 100 * SIM_MS, 3 * SIM_SECOND};

	for (unsigned o = 0; o < 3; o++)
		UNIT_CASE("no memory from the n-th allocation on, for %u ms: every flow completes or is reset",
		          (unsigned)(outages_us[o] / 1000))
			for (uint64_t n = 1; n <= 400; n += n < 120 ? 1 : 7)
				if (scenario(n, outages_us[o]))
					break;
}

int main(void)
{
	check_bound();
	check_full_windows();
	check_account();
	check_deadlock();
	check_leaks();
	check_failures();
	return unit_exit();
}
