/* Stripes on BBR rest in turn, so that BBR need not probe for the round trip of the empty path (session_rest.c).
 * time-limit: 200 (under sanitizers, on a busy machine)
 */
#include "../unit/unit.h"
#include "sim_net.h"

enum { FIRST_US = 12 * SIM_SECOND, RUN_US = 62 * SIM_SECOND };

/* Of all pipes of the download's direction: how often they were in PROBE_RTT, and how many rest now. */
struct looked {
	unsigned probes, resting, most_resting;
	uint64_t rested_us, last_us;
};

static void look(struct sim *sim, void *user)
{
	struct looked *looked = user;

	looked->probes = looked->resting = 0;
	for (unsigned i = 0; i < SIM_CONNS; i++) {
		const struct sim_conn *conn = sim->conns[i];
		const struct stripe *stripe = conn ? conn->stripes[SIM_SERVER] : NULL;
		if (!stripe)
			continue;
		looked->probes += conn->pipes[SIM_SERVER].probes;
		looked->resting += stripe->rest_us > 0;
	}
	looked->rested_us += looked->resting * (sim->now_us - looked->last_us);
	looked->last_us = sim->now_us;
	if (looked->resting > looked->most_resting)
		looked->most_resting = looked->resting;
}

static void check_bulk(unsigned stripes, unsigned loss_ppm, unsigned probes_max)
{
	UNIT_CASE("%u stripes, a minute of bulk, %u ppm lost: after the first time few stripes must probe, and the "
	          "link is full",
	          stripes, loss_ppm) {
		struct looked looked = {0};
		struct sim_config config = {.seed = 1,
		                            .path_count = 1,
		                            .paths = {{.stripes = stripes,
		                                       .rate_Bps = 12500000,
		                                       .delay_us = 25000,
		                                       .queue_bytes = 625000,
		                                       .loss_ppm = loss_ppm,
		                                       .congestion = SIM_BBR}},
		                            .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 512 << 20},
		                            .step = look,
		                            .user = &looked};
		struct sim *sim = sim_new(&config);
		struct sim_flow *flow = sim_add(sim, &(struct sim_plan){.bytes = {100, 1ull << 40}, .answers = true});

		UNIT_TRUE(sim_run_until(sim, FIRST_US));
		unsigned first = looked.probes;
		uint64_t before = flow->ends[SIM_CLIENT].read;
		UNIT_TRUE(sim_run_until(sim, RUN_US));
		uint64_t read = flow->ends[SIM_CLIENT].read - before;
		uint64_t could =
		        config.paths[0].rate_Bps * (RUN_US - FIRST_US) / SIM_SECOND * (1000000 - loss_ppm) / 1000000;
		/* All stripes five times without it. */
		if (looked.probes - first > probes_max)
			UNIT_FAIL("%u probed", looked.probes - first);
		UNIT_TRUE(looked.most_resting > 0 && looked.most_resting <= stripes / 2);
		UNIT_TRUE(looked.rested_us < stripes * RUN_US / 40);
		if (read < could / 100 * 97)
			UNIT_FAIL("%u %% of what the link could carry", (unsigned)(read * 100 / could));
		UNIT_STR(sim->wrong, "");
		sim_free(sim);
	}
}

/* The rest is over, and there is nothing to send: the stripe says something itself. */
static void check_wake(void)
{
	UNIT_CASE("a stripe whose flows end while it rests measures all the same, and need not probe") {
		struct looked looked = {0};
		struct sim_config config = {.seed = 1,
		                            .path_count = 1,
		                            .paths = {{.stripes = 8,
		                                       .rate_Bps = 12500000,
		                                       .delay_us = 25000,
		                                       .queue_bytes = 625000,
		                                       .congestion = SIM_BBR}},
		                            .step = look,
		                            .user = &looked};
		struct sim *sim = sim_new(&config);
		struct sim_flow *flow = sim_add(
		        sim,
		        &(struct sim_plan){.bytes = {100, 1ull << 40}, .answers = true, .reset_reason = RESET_BY_APP});
		bool rested[SIM_CONNS] = {false};

		while (!looked.resting && sim->now_us < FIRST_US)
			UNIT_TRUE(sim_run_until(sim, sim->now_us + SIM_MS));
		UNIT_TRUE(looked.resting > 0);
		for (unsigned i = 0; i < SIM_CONNS; i++)
			rested[i] = sim->conns[i] && sim->conns[i]->stripes[SIM_SERVER]->rest_us;
		uint64_t ended_us = sim->now_us;
		sim_reset(&flow->ends[SIM_CLIENT]);
		UNIT_TRUE(sim_run_until(sim, ended_us + SIM_SECOND));
		for (unsigned i = 0; i < SIM_CONNS; i++) {
			if (!rested[i])
				continue;
			UNIT_TRUE(!sim->conns[i]->stripes[SIM_SERVER]->rest_us);
			UNIT_TRUE(sim->conns[i]->pipes[SIM_SERVER].floor_at_us > ended_us);
			UNIT_EQ(sim->conns[i]->pipes[SIM_SERVER].probes, 0);
		}
		sim_free(sim);
	}
}

int main(void)
{
	check_bulk(8, 0, 16);
	check_bulk(8, 30000, 16);
	check_bulk(16, 0, 16);
	check_bulk(16, 30000, 16);
	check_wake();
	return unit_exit();
}
