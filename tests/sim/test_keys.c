/* Keystrokes beside uploads: a byte each 50 ms, so that there is always one that is not acknowledged. And what flows
 * that say somewhat more, as steadily, leave for bulk: they are not keystrokes, and do not travel twice. And what
 * keystrokes leave for an upload whose stripes loss keeps slow.
 * time-limit: 200 (under sanitizers, on a busy machine)
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "sim_net.h"

enum { UPLOADS = 10, BEGIN_US = 4 * SIM_SECOND, APART_US = 50 * SIM_MS, KEYS = 200, DELAY_MS = 25, SEEDS = 4 };

static const struct situation {
	const char *name;
	uint32_t loss_ppm;
	unsigned within_ms; /* bound: 99 of 100 have come */
} situations[] = {
        {"no loss", 0, DELAY_MS + 40},
        {"1 % loss", 10000, DELAY_MS + 110},
};

struct keys {
	const struct sim_flow *flow;
	uint64_t put_us[KEYS], took_us[KEYS];
	uint64_t put, come;
};

static void on_step(struct sim *sim, void *user)
{
	struct keys *keys = user;

	if (!keys->flow)
		return;
	for (; keys->put < keys->flow->ends[SIM_CLIENT].written; keys->put++)
		keys->put_us[keys->put] = sim->now_us;
	for (; keys->come < keys->flow->ends[SIM_SERVER].read; keys->come++)
		keys->took_us[keys->come] = sim->now_us - keys->put_us[keys->come];
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static struct sim_config one_path(uint32_t loss_ppm)
{
	return (struct sim_config){.seed = 1,
	                           .path_count = 1,
	                           .paths = {{.stripes = 8,
	                                      .rate_Bps = 12500000,
	                                      .delay_us = DELAY_MS * SIM_MS,
	                                      .queue_bytes = 625000,
	                                      .loss_ppm = loss_ppm,
	                                      .congestion = SIM_BBR}},
	                           .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 512 << 20}};
}

static void run(const struct situation *situation, struct keys *keys)
{
	struct sim_config config = one_path(situation->loss_ppm);
	config.step = on_step;
	config.user = keys;
	struct sim *sim = sim_new(&config);

	if (!UNIT_TRUE(sim))
		return;
	for (unsigned i = 0; i < UPLOADS; i++)
		sim_add(sim, &(struct sim_plan){.bytes = {1000000000, 0}, .chunk = {100000, 0}});
	keys->flow = sim_add(
	        sim, &(struct sim_plan){
	                     .bytes = {KEYS, 0}, .start_us = BEGIN_US, .chunk = {1, 0}, .pause_us = {APART_US, 0}});
	sim_run_until(sim, BEGIN_US + KEYS * APART_US + 2 * SIM_SECOND);
	UNIT_STR(sim->wrong, "");
	UNIT_EQ(keys->come, KEYS);
	sim_free(sim);
}

enum { TRICKLES = 200, FROM_US = 3 * SIM_SECOND, UNTIL_US = 6 * SIM_SECOND };

/* Mbit/s of an upload beside flows that take most of the link, in small pieces. */
static double upload_beside_trickles(void)
{
	struct sim_config config = one_path(0);
	const struct sim_plan trickle = {.bytes = {1000000000, 0}, .chunk = {2000, 0}, .pause_us = {20 * SIM_MS, 0}};
	struct sim *sim = sim_new(&config);

	if (!UNIT_TRUE(sim))
		return 0;
	const struct sim_flow *upload =
	        sim_add(sim, &(struct sim_plan){.bytes = {1000000000, 0}, .chunk = {100000, 0}});
	for (unsigned i = 0; i < TRICKLES; i++)
		sim_add(sim, &trickle);
	sim_run_until(sim, FROM_US);
	uint64_t before = upload->ends[SIM_SERVER].read;
	sim_run_until(sim, UNTIL_US);
	UNIT_STR(sim->wrong, "");
	double mbit_s = (double)(upload->ends[SIM_SERVER].read - before) * 8 / (UNTIL_US - FROM_US);
	sim_free(sim);
	return mbit_s;
}

/* What an upload carries beside keystrokes, in percent of what it carries alone, over 16 stripes whose windows 1 % loss
 * keeps far from filling the link. */
static uint64_t share_that_loss_limits(struct keys *keys, uint64_t seed)
{
	struct sim_config config = one_path(10000);
	config.seed = seed;
	config.paths[0].stripes = 16;
	config.paths[0].congestion = SIM_RENO;
	config.step = on_step;
	config.user = keys;
	struct sim *sim = sim_new(&config);

	if (!UNIT_TRUE(sim))
		return 0;
	const struct sim_flow *upload =
	        sim_add(sim, &(struct sim_plan){.bytes = {1000000000, 0}, .chunk = {100000, 0}});
	keys->flow = sim_add(
	        sim, &(struct sim_plan){
	                     .bytes = {KEYS, 0}, .start_us = BEGIN_US, .chunk = {1, 0}, .pause_us = {APART_US, 0}});
	sim_run_until(sim, BEGIN_US);
	uint64_t before = upload->ends[SIM_SERVER].read;
	sim_run_until(sim, BEGIN_US + KEYS * APART_US);
	uint64_t beside = upload->ends[SIM_SERVER].read - before;
	sim_run_until(sim, BEGIN_US + KEYS * APART_US + 3 * SIM_SECOND);
	before = upload->ends[SIM_SERVER].read;
	sim_run_until(sim, BEGIN_US + 2 * KEYS * APART_US + 3 * SIM_SECOND);
	UNIT_STR(sim->wrong, "");
	UNIT_EQ(keys->come, KEYS);
	uint64_t alone = upload->ends[SIM_SERVER].read - before;
	sim_free(sim);
	return alone ? beside * 100 / alone : 0;
}

int main(void)
{
	for (size_t i = 0; i < sizeof situations / sizeof situations[0]; i++) {
		const struct situation *situation = &situations[i];
		UNIT_CASE("keystrokes beside %d uploads, %s: 99 of 100 come within %u ms", UPLOADS, situation->name,
		          situation->within_ms) {
			struct keys keys = {0};
			run(situation, &keys);
			qsort(keys.took_us, KEYS, sizeof keys.took_us[0], compare);
			uint64_t took_ms = keys.took_us[KEYS * 99 / 100] / 1000;
			if (took_ms > situation->within_ms)
				UNIT_FAIL("it took %u ms (half of them %u)", (unsigned)took_ms,
				          (unsigned)(keys.took_us[KEYS / 2] / 1000));
		}
	}
	UNIT_CASE("an upload has what %d flows that say somewhat more leave of the link", TRICKLES) {
		double mbit_s = upload_beside_trickles();
		if (mbit_s < 8)
			UNIT_FAIL("it had %.1f Mbit/s", mbit_s);
	}
	UNIT_CASE("an upload over stripes that loss keeps slow has most of them, and keystrokes come all the same") {
		static uint64_t took_us[SEEDS * KEYS];
		uint64_t share = 0;
		for (unsigned seed = 1; seed <= SEEDS; seed++) {
			struct keys keys = {0};
			share += share_that_loss_limits(&keys, seed);
			memcpy(&took_us[(seed - 1) * KEYS], keys.took_us, sizeof keys.took_us);
		}
		qsort(took_us, SEEDS * KEYS, sizeof took_us[0], compare);
		uint64_t took_ms = took_us[SEEDS * KEYS * 99 / 100] / 1000;
		if (share < 80 * SEEDS || took_ms > 65)
			UNIT_FAIL("it kept %u %%; keystrokes took %u ms", (unsigned)(share / SEEDS), (unsigned)took_ms);
	}
	return unit_exit();
}
