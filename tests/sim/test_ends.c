/* How flows end: half-close each way, resets with their reasons, refused destinations; and that slow or greedy flows do
 * not harm others.
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include <string.h>

#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

static struct sim *dsl_sim(uint64_t seed, uint32_t loss_ppm)
{
	struct sim_config config = {.seed = seed, .path_count = 1, .paths = {SIM_DSL}, .partial = true};

	config.paths[0].loss_ppm = loss_ppm;
	return sim_new(&config);
}

static void check_half_close(void)
{
	static const struct {
		const char *name;
		struct sim_plan plan;
	} cases[] = {
	        {"the client ends at once, the server sends on", {.bytes = {0, 2000000}}},
	        {"the client ends early, before its flow is open",
	         {.bytes = {100, 2000000}, .early = true, .connect_us = 500000}},
	        {"the server ends at once, the client sends on", {.bytes = {2000000, 0}}},
	        {"the server answers when the client has ended", {.bytes = {300000, 300000}, .answers = true}},
	        {"both end at once without a byte", {.bytes = {0, 0}}},
	        {"one byte each way, after a while", {.bytes = {1, 1}, .answers = true, .connect_us = 800000}},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		UNIT_CASE("half-close: %s", cases[i].name) {
			for (uint64_t seed = 1; seed <= 10; seed++) {
				struct sim *sim = dsl_sim(seed, 20000);
				struct sim_flow *f = sim_add(sim, &cases[i].plan);

				UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
				sim_check(sim);
				for (unsigned side = 0; side < SIM_SIDES; side++)
					UNIT_TRUE(f->ends[side].ended_read && f->ends[side].ended_write);
				sim_free(sim);
			}
		}
}

static void check_resets(void)
{
	static const enum reset_reason reasons[] = {RESET_BY_APP, RESET_TIMED_OUT, RESET_ABORTED};

	for (unsigned side = 0; side < SIM_SIDES; side++)
		for (unsigned r = 0; r < sizeof reasons / sizeof reasons[0]; r++)
			UNIT_CASE("the %s resets: the other end learns that it was %s",
			          side == SIM_CLIENT ? "client" : "server", reset_reason_name(reasons[r])) {
				for (uint64_t seed = 1; seed <= 20; seed++) {
					struct sim *sim = dsl_sim(seed, 20000);
					struct sim_plan plan = {.bytes = {1000000, 1000000},
					                        .reset_reason = reasons[r]};

					plan.reset_at[side] = 1 + 40000 * (seed - 1);
					plan.never_ends = seed % 3 == 0;
					sim_add(sim, &plan);
					sim_add(sim, &(struct sim_plan){.bytes = {400000, 400000}});
					UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
					sim_check(sim);
					sim_free(sim);
				}
			}
	UNIT_CASE("both reset at about the same time") {
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct sim *sim = dsl_sim(seed, 20000);
			sim_add(sim, &(struct sim_plan){.bytes = {1000000, 1000000},
			                                .reset_at = {1 + 20000 * seed, 1 + 20000 * seed},
			                                .reset_reason = RESET_BY_APP});
			UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
			sim_check(sim);
			sim_free(sim);
		}
	}
}

static void check_early_reset(void)
{
	UNIT_CASE("the client gives up before the answer, at every moment") {
		for (uint32_t us = 0; us < 400000; us += 3001) {
			struct sim *sim = dsl_sim(us + 1, 20000);
			struct sim_flow *f = sim_add(sim, &(struct sim_plan){.bytes = {5000, 5000},
			                                                     .early = true,
			                                                     .connect_us = 200000,
			                                                     .reset_reason = RESET_BY_APP});
			struct sim_end *end = &f->ends[SIM_CLIENT];

			UNIT_TRUE(sim_run_until(sim, 1100000 + us));
			if (end->flow)
				sim_reset(end);
			UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
			UNIT_STR(sim->wrong, "");
			if (f->ends[SIM_SERVER].over && f->ends[SIM_SERVER].reason != RESET_NONE)
				UNIT_EQ(f->ends[SIM_SERVER].reason, RESET_BY_APP);
			sim_free(sim);
		}
	}
}

static void check_refusals(void)
{
	UNIT_CASE("the destination's answer reaches the client as it was") {
		struct sim *sim = dsl_sim(1, 20000);
		for (int status = OPEN_CONNECTED; status < OPEN_STATUS_COUNT; status++)
			for (int early = 0; early < 2; early++)
				sim_add(sim, &(struct sim_plan){.bytes = {early ? 20000 : 0, 0},
				                                .early = early,
				                                .status = (enum open_status)status,
				                                .connect_us = 30000});
		UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
		sim_check(sim);
		sim_free(sim);
	}
	UNIT_CASE("hundreds refused at once, their first bytes behind OPEN: each is told, none sees an end") {
		static const struct sim_path paths[2] = {
		        SIM_LAN, {.stripes = 2, .rate_Bps = 2000000, .delay_us = 60000, .queue_bytes = 60000}};

		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim_config config = {.seed = seed,
			                            .path_count = 2,
			                            .paths = {paths[0], paths[1]},
			                            .limits = {.memory_bytes = 512 << 20}};
			config.paths[0].loss_ppm = config.paths[1].loss_ppm = 50000;
			config.paths[0].delay_us = 20000;
			struct sim *sim = sim_new(&config);

			for (unsigned i = 0; i < 400; i++)
				sim_add(sim, &(struct sim_plan){.bytes = {3000, 100},
				                                .chunk = {1000, 0},
				                                .pause_us = {5000, 0},
				                                .early = true,
				                                .start_us = 1300 * SIM_MS + i * 20,
				                                .connect_us = i % 7 * SIM_MS,
				                                .status = OPEN_REFUSED});
			UNIT_TRUE(sim_run(sim, 10 * SIM_SECOND));
			UNIT_STR(sim->wrong, "");
			for (uint32_t i = 0; i < sim->flow_count; i++) {
				const struct sim_flow *f = sim->flows[i];

				UNIT_EQ(f->status, OPEN_REFUSED);
				UNIT_TRUE(!f->ends[SIM_CLIENT].ended_read);
				UNIT_TRUE(f->result_us && f->result_us - f->started_us < 4 * SIM_SECOND);
			}
			sim_free(sim);
		}
	}
	UNIT_CASE("the server's limit of flows: the answer says so, and there is room again later") {
		struct sim_config config = {.seed = 1, .path_count = 1, .paths = {SIM_DSL}};
		struct sim *sim;

		config.limits.flows = 8;
		sim = sim_new(&config);
		for (int i = 0; i < 8; i++)
			sim_add(sim, &(struct sim_plan){.bytes = {50000, 50000}});
		UNIT_TRUE(sim_run_until(sim, 1200000));
		UNIT_TRUE(!session_can_open(sim->hosts[SIM_CLIENT].session));
		for (int i = 0; i < 8; i++)
			sim_add(sim, &(struct sim_plan){.bytes = {50000, 50000}});
		UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
		UNIT_STR(sim->wrong, "");
		UNIT_TRUE(session_can_open(sim->hosts[SIM_CLIENT].session));
		sim_free(sim);
	}
}

/* --- Neighbours ---------------------------------------------------------------------------------------------------*/

static uint64_t spent_us(const struct sim_flow *f)
{
	return f->ends[SIM_CLIENT].over_us - f->started_us;
}

static void check_slow_reader(void)
{
	UNIT_CASE("readers that hold still do not hold up others, either way") {
		for (uint64_t seed = 1; seed <= 2; seed++) {
			struct sim *sim = dsl_sim(seed, seed % 2 ? 0 : 5000);
			struct sim_flow *quick[4];

			for (unsigned i = 0; i < 12; i++)
				sim_add(sim, &(struct sim_plan){.bytes = {3000000, 3000000},
				                                .holds = {i % 2, i % 3},
				                                .release_us = 40ull * SIM_SECOND});
			for (unsigned i = 0; i < 4; i++)
				quick[i] = sim_add(sim, &(struct sim_plan){.bytes = {200000, 200000},
				                                           .start_us = (5 + i) * SIM_SECOND});
			UNIT_TRUE(sim_run_until(sim, 38ull * SIM_SECOND));
			for (unsigned i = 0; i < 4; i++) {
				UNIT_TRUE(quick[i]->ends[0].over && quick[i]->ends[1].over);
				sim_flow_check(sim, quick[i]);
			}
			UNIT_TRUE(sim_run(sim, 200ull * SIM_SECOND));
			sim_check(sim);
			sim_free(sim);
		}
	}
}

static void check_fairness(void)
{
	UNIT_CASE("a small exchange beside bulk flows costs little more than the round trips it needs") {
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim *sim = dsl_sim(seed, 0);
			struct sim_flow *small[10];
			uint64_t worst_us = 0;

			for (unsigned i = 0; i < 4; i++)
				sim_add(sim, &(struct sim_plan){.bytes = {20000000, 20000000}});
			for (unsigned i = 0; i < 10; i++)
				small[i] = sim_add(sim, &(struct sim_plan){.bytes = {200, 1000},
				                                           .answers = true,
				                                           .start_us = 3 * SIM_SECOND + 137000 * i});
			UNIT_TRUE(sim_run_until(sim, 6 * SIM_SECOND));
			for (unsigned i = 0; i < 10; i++)
				if (UNIT_TRUE(small[i]->ends[SIM_CLIENT].over) && spent_us(small[i]) > worst_us)
					worst_us = spent_us(small[i]);
			/* Three round trips of 40 ms (open, exchange, last acks), each behind a queue of 50 ms both
			 * ways, and one more for what a full queue drops. */
			if (!UNIT_TRUE(worst_us < 4 * (40000 + 2 * 50000)))
				UNIT_FAIL("seed %u: %u us", (unsigned)seed, (unsigned)worst_us);
			sim_free(sim);
		}
	}
	UNIT_CASE("equal bulk flows get about equal shares") {
		struct sim *sim = dsl_sim(1, 1000);
		uint64_t least = UINT64_MAX, most = 0;

		for (unsigned i = 0; i < 8; i++)
			sim_add(sim, &(struct sim_plan){.bytes = {0, 20000000}});
		UNIT_TRUE(sim_run_until(sim, 8 * SIM_SECOND));
		for (unsigned i = 0; i < 8; i++) {
			uint64_t read = sim->flows[i]->ends[SIM_CLIENT].read;
			least = read < least ? read : least;
			most = read > most ? read : most;
		}
		if (!UNIT_TRUE(most < 2 * least))
			UNIT_FAIL("%u to %u bytes", (unsigned)least, (unsigned)most);
		sim_free(sim);
	}
}

static void check_rate(void)
{
	UNIT_CASE("one flow fills one path, and two unequal ones together") {
		struct sim_config config = {
		        .seed = 1,
		        .path_count = 2,
		        .paths = {{.stripes = 4, .rate_Bps = 2500000, .delay_us = 10000, .queue_bytes = 125000},
		                  {.stripes = 4, .rate_Bps = 1000000, .delay_us = 30000, .queue_bytes = 60000}}};
		uint64_t total_Bps = 0;

		for (config.path_count = 1; config.path_count <= 2; config.path_count++) {
			struct sim *sim = sim_new(&config);
			struct sim_flow *f = sim_add(sim, &(struct sim_plan){.bytes = {0, 12000000}});

			total_Bps += config.paths[config.path_count - 1].rate_Bps;
			UNIT_TRUE(sim_run(sim, 200ull * SIM_SECOND));
			sim_check(sim);
			uint64_t got_Bps = 12000000ull * SIM_SECOND / spent_us(f);
			if (!UNIT_TRUE(got_Bps > total_Bps * 8 / 10))
				UNIT_FAIL("%u paths: %u of %u bytes per second", config.path_count, (unsigned)got_Bps,
				          (unsigned)total_Bps);
			sim_free(sim);
		}
	}
}

int main(void)
{
	check_half_close();
	check_resets();
	check_early_reset();
	check_refusals();
	check_slow_reader();
	check_fairness();
	check_rate();
	return unit_exit();
}
