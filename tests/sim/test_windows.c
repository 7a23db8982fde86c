/* A flow's window grows to what all its paths together need, and to no more than it may have. */
#include "../../common/core/session.h"
#include "../unit/unit.h"
#include "sim_net.h"

enum { START_US = 2 * SIM_SECOND, MEBI = 1 << 20 };

/* 50 Mbit/s at 20 ms, and as much at 150 ms. */
#define NEAR                                                                                                           \
	{                                                                                                              \
		.stripes = 4, .rate_Bps = 6250000, .delay_us = 10000, .queue_bytes = 125000                            \
	}
#define FAR                                                                                                            \
	{                                                                                                              \
		.stripes = 8, .rate_Bps = 6250000, .delay_us = 75000, .queue_bytes = 937500, .congestion = SIM_BBR     \
	}

/* The widest window that was seen open. */
struct seen {
	const struct sim_flow *flow;
	uint64_t most_bytes;
};

static void look(struct sim *sim, void *user)
{
	struct seen *seen = user;
	const struct flow *flow = seen->flow ? seen->flow->ends[SIM_SERVER].flow : NULL;

	if (flow && flow->ingress.edge - flow->ingress.delivered > seen->most_bytes)
		seen->most_bytes = flow->ingress.edge - flow->ingress.delivered;
}

/* Mbit/s of the last four of eight seconds. */
static double goodput(struct sim_config *config, struct seen *seen, uint32_t read_Bps)
{
	config->seed = 1;
	config->step = look;
	config->user = seen;
	*seen = (struct seen){0};
	struct sim *sim = sim_new(config);
	if (!UNIT_TRUE(sim))
		return 0;
	struct sim_flow *flow = sim_add(sim, &(struct sim_plan){.bytes = {1ull << 40, 0},
	                                                        .start_us = START_US,
	                                                        .read_Bps = {0, read_Bps},
	                                                        .never_ends = true});
	seen->flow = flow;
	sim_run_until(sim, START_US + 4 * SIM_SECOND);
	uint64_t before = flow->ends[SIM_SERVER].read;
	UNIT_TRUE(sim_run_until(sim, START_US + 8 * SIM_SECOND));
	double mbit_s = (double)(flow->ends[SIM_SERVER].read - before) * 8 / (4 * SIM_SECOND);
	sim_free(sim);
	return mbit_s;
}

int main(void)
{
	struct seen seen;

	UNIT_CASE(
	        "over two unequal paths it grows to twice the sum of the rates times the longer round trip, at least") {
		struct sim_config config = {.path_count = 2,
		                            .paths = {NEAR, FAR},
		                            .limits = {.flow_window_bytes = 32 * MEBI, .memory_bytes = 256 * MEBI}};
		double mbit_s = goodput(&config, &seen, 0);

		UNIT_TRUE(seen.most_bytes >= 2 * 12500000ull * 150 / 1000);
		UNIT_TRUE(seen.most_bytes <= 32 * MEBI);
		if (mbit_s < 90)
			UNIT_FAIL("%.1f of 100 Mbit/s", mbit_s);
	}
	UNIT_CASE("it stays within the limit, and the near path is full all the same") {
		struct sim_config config = {.path_count = 2,
		                            .paths = {NEAR, FAR},
		                            .limits = {.flow_window_bytes = MEBI, .memory_bytes = 256 * MEBI}};
		double mbit_s = goodput(&config, &seen, 0);

		UNIT_TRUE(seen.most_bytes <= MEBI);
		if (mbit_s < 45)
			UNIT_FAIL("%.1f of the near path's 50 Mbit/s", mbit_s);
	}
	UNIT_CASE("and within the memory") {
		struct sim_config config = {.path_count = 2,
		                            .paths = {NEAR, FAR},
		                            .limits = {.flow_window_bytes = 32 * MEBI, .memory_bytes = 4 * MEBI}};
		double mbit_s = goodput(&config, &seen, 0);

		UNIT_TRUE(seen.most_bytes <= 2 * MEBI);
		if (mbit_s < 45)
			UNIT_FAIL("%.1f of the near path's 50 Mbit/s", mbit_s);
	}
	UNIT_CASE("a slow reader's does not grow") {
		struct sim_config config = {.path_count = 2,
		                            .paths = {NEAR, FAR},
		                            .limits = {.flow_window_bytes = 32 * MEBI, .memory_bytes = 256 * MEBI}};

		goodput(&config, &seen, 100000);
		UNIT_TRUE(seen.most_bytes <= 2 * MEBI);
	}
	return unit_exit();
}
