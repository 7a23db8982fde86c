/* Small flows on a link that loses, alone and beside a download: how long until the whole answer is there. What
 * `make bench ROWS=small` measures on the emulated link, with bounds between what the engine does and what it did
 * without the means that are for this.
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include <stdlib.h>

#include "../unit/unit.h"
#include "sim_net.h"

enum {
	AT_ONCE = 8,
	WARM_UP = 40,
	LITTLE_BYTES = 30000, /* answers that make windows grow, though together they need little */
	LITTLE = 400,
	REQUESTS = 200,
	SEEDS = 4,
	BEGIN_US = 3 * SIM_SECOND
};

static const struct situation {
	const char *name;
	unsigned stripes;
	uint32_t answer_bytes;
	uint32_t loss_ppm;
	bool early, download;
	unsigned percent, within_ms; /* bound: so many of 100 */
	unsigned download_share;     /* of what the link has left, in percent: bound */
	bool cold;                   /* the first requests count, too */
	bool after_little;           /* LITTLE others have gone before */
} situations[] = {
        {"1 kB, 3 % loss", 8, 1000, 30000, false, false, 95, 110, 0, false, false},
        {"1 kB at once, 3 % loss", 8, 1000, 30000, true, false, 95, 60, 0, false, false},
        {"30 kB, 3 % loss", 8, 30000, 30000, false, false, 95, 210, 0, false, false},
        {"30 kB, 3 % loss", 16, 30000, 30000, false, false, 95, 175, 0, false, false},
        {"30 kB at once, 3 % loss", 16, 30000, 30000, true, false, 95, 125, 0, false, false},
        {"30 kB, 3 % loss", 40, 30000, 30000, false, false, 95, 160, 0, false, false},
        {"300 kB, 3 % loss", 16, 300000, 30000, false, false, 99, 330, 0, false, false},
        {"300 kB at once, 3 % loss", 16, 300000, 30000, true, false, 99, 290, 0, false, false},
        {"300 kB, 3 % loss", 40, 300000, 30000, false, false, 99, 285, 0, false, false},
        {"300 kB at once, 3 % loss", 40, 300000, 30000, true, false, 99, 252, 0, false, false},
        {"300 kB at once, 3 % loss, from the first one", 40, 300000, 30000, true, false, 99, 315, 0, true, false},
        {"300 kB at once, 3 % loss, after small ones", 40, 300000, 30000, true, false, 99, 300, 0, true, true},
        {"1 kB beside a download, no loss", 8, 1000, 0, false, true, 99, 160, 95, false, false},
        {"1 kB beside a download, 3 % loss", 16, 1000, 30000, false, true, 99, 180, 90, false, false},
        {"1 kB beside a download, 3 % loss", 40, 1000, 30000, false, true, 99, 160, 90, false, false},
        {"30 kB beside a download, 3 % loss", 8, 30000, 30000, false, true, 99, 300, 86, false, false},
        {"30 kB beside a download, 3 % loss", 40, 30000, 30000, false, true, 99, 250, 90, false, false},
        {"300 kB beside a download, 3 % loss", 16, 300000, 30000, false, true, 95, 330, 86, false, false},
        {"300 kB beside a download, 3 % loss", 40, 300000, 30000, false, true, 95, 330, 88, false, false},
};

/* Requests that are made one after another, AT_ONCE at a time. */
struct requests {
	const struct situation *situation;
	struct sim_flow *running[AT_ONCE];
	unsigned started, answered;
	unsigned little, all; /* of all the first are small, and only the last REQUESTS count */
	uint64_t took_us[REQUESTS];
};

/* How many are started: all of the small ones have their answers before the first of the others is. */
static unsigned startable(const struct requests *requests)
{
	return requests->answered < requests->little ? requests->little : requests->all;
}

static void on_step(struct sim *sim, void *user)
{
	struct requests *requests = user;

	if (sim->now_us < BEGIN_US)
		return;
	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct sim_flow *flow = requests->running[i];
		if (flow && flow->ends[SIM_CLIENT].read < flow->plan.bytes[SIM_SERVER])
			continue;
		if (flow) {
			unsigned number = requests->answered++ - (requests->all - REQUESTS);
			if (number < REQUESTS)
				requests->took_us[number] = sim->now_us - flow->started_us;
		}
		requests->running[i] = NULL;
		if (requests->started >= startable(requests))
			continue;
		bool little = requests->started++ < requests->little;
		const struct situation *situation = requests->situation;
		requests->running[i] =
		        sim_add(sim, &(struct sim_plan){.bytes = {100, little ? LITTLE_BYTES : situation->answer_bytes},
		                                        .answers = true,
		                                        .early = situation->early});
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* All requests with one seed; the download's share of what they leave of the link, in percent. */
static unsigned run(const struct situation *situation, uint64_t seed, uint64_t took_us[REQUESTS])
{
	const unsigned little = situation->after_little ? LITTLE : 0, warm_up = situation->cold ? 0 : WARM_UP;
	struct requests requests = {.situation = situation, .little = little, .all = little + warm_up + REQUESTS};
	struct sim_config config = {.seed = seed,
	                            .path_count = 1,
	                            .paths = {{.stripes = situation->stripes,
	                                       .rate_Bps = 12500000,
	                                       .delay_us = 25000,
	                                       .queue_bytes = 625000,
	                                       .loss_ppm = situation->loss_ppm,
	                                       .congestion = SIM_BBR}},
	                            .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 512 << 20},
	                            .step = on_step,
	                            .user = &requests};
	struct sim *sim = sim_new(&config);
	struct sim_flow *download = NULL;
	uint64_t before = 0, share = 0;

	if (!UNIT_TRUE(sim))
		return 0;
	if (situation->download)
		download = sim_add(
		        sim, &(struct sim_plan){.bytes = {100, 1000000000}, .answers = true, .chunk = {0, 100000}});
	sim->wake_us = BEGIN_US;
	sim_run_until(sim, BEGIN_US);
	sim->wake_us = 0;
	if (download)
		before = download->ends[SIM_CLIENT].read;
	while (requests.answered < requests.all && sim->now_us < 60ull * SIM_SECOND)
		if (!sim_run_until(sim, sim->now_us + 100 * SIM_MS))
			break;
	UNIT_STR(sim->wrong, "");
	UNIT_EQ(requests.answered, requests.all);
	if (download) {
		uint64_t could = config.paths[0].rate_Bps * (sim->now_us - BEGIN_US) / SIM_SECOND *
		                 (1000000 - situation->loss_ppm) / 1000000;
		could -= (uint64_t)requests.answered * situation->answer_bytes;
		share = (download->ends[SIM_CLIENT].read - before) * 100 / could;
	}
	for (unsigned i = 0; i < REQUESTS; i++)
		took_us[i] = requests.took_us[i];
	sim_free(sim);
	return (unsigned)share;
}

int main(void)
{
	static uint64_t took_us[SEEDS * REQUESTS];
	const size_t count = sizeof took_us / sizeof took_us[0];

	for (size_t i = 0; i < sizeof situations / sizeof situations[0]; i++) {
		const struct situation *situation = &situations[i];
		UNIT_CASE("%u stripes, %s: %u of 100 within %u ms", situation->stripes, situation->name,
		          situation->percent, situation->within_ms) {
			unsigned share = 0;
			for (unsigned seed = 1; seed <= SEEDS; seed++)
				share += run(situation, seed, &took_us[(seed - 1) * REQUESTS]);
			qsort(took_us, count, sizeof took_us[0], compare);
			uint64_t took_ms = took_us[count * situation->percent / 100] / 1000;
			if (took_ms >= situation->within_ms)
				UNIT_FAIL("it took %u ms", (unsigned)took_ms);
			if (share < SEEDS * situation->download_share)
				UNIT_FAIL("the download kept %u %% of what the link had left", share / SEEDS);
		}
	}
	return unit_exit();
}
