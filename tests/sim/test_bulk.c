/* Bulk alone: stripes fill their path's bottleneck, and do not overrun its queue; and what is taken for a queue, but is
 * not theirs, holds nothing back for long.
 * time-limit: 200 (under sanitizers, on a busy machine)
 */
#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

enum {
	STRIPES = 40,
	RATE_BPS = 12500000,
	DELAY_US = 25000,
	QUEUE_BYTES = 625000,
	BEGIN_US = 1000000,
	JITTER_EVERY_US = 30000,
	FOUND_US = 4000000, /* the stripes have found their rates */
	JITTER_SEEDS = 3
};

/* Of the queue that bulk is in, from FOUND_US on; and what the path is like from then on. */
struct seen {
	uint64_t longest_us, sum_us, looks;
	uint32_t jitter_us; /* longest; another one every JITTER_EVERY_US */
	uint64_t jitter_next_us;
};

static void look(struct sim *sim, void *user)
{
	struct seen *seen = user;
	const struct sim_link *link = &sim->links[0][SIM_CLIENT];
	uint64_t queue_us = link->free_us > sim->now_us ? link->free_us - sim->now_us : 0;

	if (sim->now_us < FOUND_US)
		return;
	if (seen->jitter_us && sim->now_us >= seen->jitter_next_us) {
		sim->links[0][SIM_CLIENT].delay_us = DELAY_US + (uint32_t)unit_below(&sim->seed, seen->jitter_us + 1);
		seen->jitter_next_us = sim->now_us + JITTER_EVERY_US;
	}
	seen->looks++;
	seen->sum_us += queue_us;
	if (queue_us > seen->longest_us)
		seen->longest_us = queue_us;
}

static struct sim *start_on(struct seen *seen, uint64_t seed, struct sim_path path)
{
	*seen = (struct seen){0};
	struct sim *sim =
	        sim_new(&(struct sim_config){.seed = seed,
	                                     .path_count = 1,
	                                     .paths = {path},
	                                     .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 512 << 20},
	                                     .step = look,
	                                     .user = seen});
	sim_add(sim, &(struct sim_plan){.bytes = {1ull << 40, 0}, .start_us = BEGIN_US, .never_ends = true});
	return sim;
}

static struct sim *start(struct seen *seen, uint64_t seed, uint32_t loss_ppm)
{
	return start_on(seen, seed,
	                (struct sim_path){.stripes = STRIPES,
	                                  .rate_Bps = RATE_BPS,
	                                  .delay_us = DELAY_US,
	                                  .queue_bytes = QUEUE_BYTES,
	                                  .loss_ppm = loss_ppm,
	                                  .congestion = SIM_BBR});
}

/* What arrives until then, in percent of what the link carries. */
static unsigned share_until(struct sim *sim, uint64_t until_us)
{
	uint64_t from_us = sim->now_us, before = sim->flows[0]->ends[SIM_SERVER].read;

	UNIT_TRUE(sim_run_until(sim, until_us));
	UNIT_STR(sim->wrong, "");
	return (unsigned)((sim->flows[0]->ends[SIM_SERVER].read - before) * 100 * SIM_SECOND /
	                  ((until_us - from_us) * sim->links[0][SIM_CLIENT].rate_Bps));
}

int main(void)
{
	static const struct sim_path slow = {.stripes = 64,
	                                     .rate_Bps = 250000,
	                                     .delay_us = DELAY_US,
	                                     .queue_bytes = 50000,
	                                     .loss_ppm = 10000,
	                                     .congestion = SIM_BBR};
	struct seen seen;

	UNIT_CASE("40 stripes on BBR, 1 %% loss: the link is full for 30 s, and its queue never")
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim *sim = start(&seen, seed, 10000);
			UNIT_TRUE(sim_run_until(sim, FOUND_US));
			unsigned share = share_until(sim, FOUND_US + 30 * SIM_SECOND);
			if (share < 94)
				UNIT_FAIL("%u %% arrived", share);
			if (seen.longest_us >= 9 * DELAY_US / 5 || seen.sum_us / seen.looks >= DELAY_US / 2)
				UNIT_FAIL("the queue was %u ms long, %u ms as a rule",
				          (unsigned)(seen.longest_us / SIM_MS),
				          (unsigned)(seen.sum_us / seen.looks / SIM_MS));
			sim_free(sim);
		}
	/* Means of the first ten seconds, in which what overran the queue at first is sent again. */
	UNIT_CASE("64 stripes on BBR over 2 Mbit/s, which holds nine segments, and its queue 35: the link is full") {
		unsigned first = 0;
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim *sim = start_on(&seen, seed, slow);
			UNIT_TRUE(sim_run_until(sim, BEGIN_US));
			first += share_until(sim, BEGIN_US + 10 * SIM_SECOND);
			unsigned later = share_until(sim, BEGIN_US + 40 * SIM_SECOND);
			if (later < 90)
				UNIT_FAIL("%u %% arrived", later);
			sim_free(sim);
		}
		if (first < 3 * 75)
			UNIT_FAIL("%u %% arrived at first", first / 3);
	}
	/* A mean: where the limit is off, the queue overruns now and then, and what is lost waits for timeouts. */
	UNIT_CASE("a path that becomes twice as long, which looks like a queue, is not held back for long") {
		unsigned share = 0;
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim *sim = start(&seen, seed, 1000);
			UNIT_TRUE(sim_run_until(sim, FOUND_US));
			sim->links[0][SIM_CLIENT].delay_us = sim->links[0][SIM_SERVER].delay_us = 2 * DELAY_US;
			share_until(sim, FOUND_US + 6 * SIM_SECOND);
			share += share_until(sim, FOUND_US + 36 * SIM_SECOND);
			sim_free(sim);
		}
		if (share < 3 * 60)
			UNIT_FAIL("%u %% arrived", share / 3);
	}
	/* Means, since the same jitter with another seed is held back for twice as long, or half. */
	UNIT_CASE("jitter, which looks like a queue now and then, holds nothing back for long, and ever less")
		for (uint32_t jitter_us = 20000; jitter_us <= 40000; jitter_us += 20000) {
			unsigned first = 0, later = 0;
			for (uint64_t seed = 1; seed <= JITTER_SEEDS; seed++) {
				struct sim *sim = start(&seen, seed, 1000);
				UNIT_TRUE(sim_run_until(sim, FOUND_US));
				seen.jitter_us = jitter_us;
				share_until(sim, FOUND_US + 6 * SIM_SECOND);
				first += share_until(sim, FOUND_US + 36 * SIM_SECOND);
				later += share_until(sim, FOUND_US + 96 * SIM_SECOND);
				sim_free(sim);
			}
			if (first < 70 * JITTER_SEEDS || later < 85 * JITTER_SEEDS)
				UNIT_FAIL("up to %u ms: %u %% arrived, then %u", (unsigned)(jitter_us / SIM_MS),
				          first / JITTER_SEEDS, later / JITTER_SEEDS);
		}
	return unit_exit();
}
