/* One bulk flow over two paths: our scheduler beside the two simple ones, lowest round trip first and round robin, and
 * beside each path alone; and that a second path, whatever it is like, does not make the first one slower.
 * time-limit: 400 (under sanitizers, on a busy machine)
 *
 *   test_scheduler --table     what doc/architecture.md shows
 */
#include <stdio.h>
#include <string.h>

#include "../../common/core/sched.h"
#include "../unit/unit.h"
#include "sim_net.h"

enum {
	PATHS = 2,
	STRIPES = 8,
	SEEDS = 10, /* where chance has a part */
	START_US = 3 * SIM_SECOND,
	FOR_US = 6 * SIM_SECOND
};

/* A path as its user would describe it; its queue holds one bandwidth-delay product unless it is told. */
struct described {
	double mbit_s, rtt_ms, loss_percent;
	enum sim_congestion congestion;
	double queue_ms;
};

static const struct pair {
	const char *name;
	struct described paths[PATHS];
	double share; /* of the sum of both alone that must be reached; 0: `of_better` */
	double of_better;
} pairs[] = {
        {"2 x 100 Mbit/s 25 ms", {{.mbit_s = 100, .rtt_ms = 25}, {.mbit_s = 100, .rtt_ms = 25}}, .share = 0.98},
        {"300 Mbit/s 10 ms + 80 Mbit/s 30 ms",
         {{.mbit_s = 300, .rtt_ms = 10}, {.mbit_s = 80, .rtt_ms = 30}},
         .share = 0.96},
        {"100 Mbit/s 20 ms 1 % + 30 Mbit/s 60 ms 0.5 %",
         {{100, 20, 1, SIM_BBR, 0}, {30, 60, 0.5, SIM_BBR, 0}},
         .share = 0.96},
        {"100 Mbit/s 20 ms + 5 Mbit/s 300 ms 5 %",
         {{100, 20, 0, SIM_BBR, 0}, {5, 300, 5, SIM_BBR, 0}},
         .of_better = 0.98},
};

/* The second one is no help. */
static const struct pair burdens[] = {
        {"one that loses a fifth", {{100, 20, 0, SIM_BBR, 0}, {5, 300, 20, SIM_BBR, 0}}, .of_better = 0.98},
        {"one by way of the moon", {{100, 20, 0, SIM_BBR, 0}, {1, 1000, 1, SIM_BBR, 0}}, .of_better = 0.98},
        {"one with a queue of 1.6 s", {{100, 20, 0, SIM_BBR, 0}, {10, 50, 0, SIM_RENO, 1600}}, .of_better = 0.98},
        {"one that loses a twentieth, beside Reno",
         {{100, 20, 0, SIM_RENO, 0}, {5, 300, 5, SIM_BBR, 0}},
         .of_better = 0.98},
        {"a slow one, both on Reno", {{100, 20, 0, SIM_RENO, 0}, {5, 300, 5, SIM_RENO, 0}}, .of_better = 0.98},
        {"a radio link beside a slow line", {{16, 30, 0, SIM_RENO, 50}, {8, 120, 0.2, SIM_BBR, 400}}, .of_better = 1.2},
};

static struct sim_path path_of(const struct described *d)
{
	double queue_ms = d->queue_ms > 0 ? d->queue_ms : d->rtt_ms;

	return (struct sim_path){.stripes = STRIPES,
	                         .rate_Bps = (uint64_t)(d->mbit_s * 125000),
	                         .delay_us = (uint32_t)(d->rtt_ms * 500),
	                         .queue_bytes = (uint32_t)(d->mbit_s * 125 * queue_ms),
	                         .loss_ppm = (uint32_t)(d->loss_percent * 10000),
	                         .congestion = d->congestion};
}

/* --- The simple ones ----------------------------------------------------------------------------------------------*/

/* Everything else of the engine stays as it is: the program is linked so that its calls of sched_pick and
 * sched_later_us come here (Makefile), and go on to sched.c unless a simple scheduler is in its place. */

typedef int scheduler(const struct sched_choice *choices, size_t count, int not_index);

static scheduler *simple; /* NULL: ours */

static bool takes(const struct sched_choice *choices, size_t index, int not_index)
{
	return choices[index].usable && choices[index].room_bytes && (int)index != not_index;
}

static int lowest_rtt(const struct sched_choice *choices, size_t count, int not_index)
{
	int best = -1;

	for (size_t i = 0; i < count; i++)
		if (takes(choices, i, not_index) && (best < 0 || choices[i].srtt_us < choices[best].srtt_us))
			best = (int)i;
	return best;
}

static size_t turn;

static int round_robin(const struct sched_choice *choices, size_t count, int not_index)
{
	for (size_t i = 0; i < count; i++) {
		size_t index = (turn + 1 + i) % count;
		if (takes(choices, index, not_index)) {
			turn = index;
			return (int)index;
		}
	}
	return -1;
}

int __real_sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
                      bool lane_reserved, int not_index);
int __wrap_sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
                      bool lane_reserved, int not_index);
int __wrap_sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
                      bool lane_reserved, int not_index)
{
	if (simple && class != SCHED_EXPRESS)
		return simple(choices, count, not_index);
	return __real_sched_pick(choices, count, class, len_bytes, lane_reserved, not_index);
}

uint64_t __real_sched_later_us(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes);
uint64_t __wrap_sched_later_us(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes);
uint64_t __wrap_sched_later_us(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes)
{
	return simple ? 0 : __real_sched_later_us(choices, count, index, len_bytes);
}

/* --- Runs ---------------------------------------------------------------------------------------------------------*/

/* What one flow's receiver has got in FOR_US, in Mbit/s, over the paths with a bit in `which`. */
static double goodput(const struct pair *pair, unsigned which, uint64_t seed, scheduler *which_one)
{
	struct sim_config config = {.seed = seed, .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 256 << 20}};

	for (unsigned p = 0; p < PATHS; p++)
		if (which & 1u << p)
			config.paths[config.path_count++] = path_of(&pair->paths[p]);
	simple = which_one;
	turn = 0;
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return 0;
	/* The paths' stripes had time to come up. */
	const struct sim_flow *flow =
	        sim_add(sim, &(struct sim_plan){.bytes = {1ull << 40, 0}, .start_us = START_US, .never_ends = true});
	sim_run_until(sim, START_US + FOR_US);
	if (sim->wrong[0])
		UNIT_FAIL("%s, seed %u: %s", pair->name, (unsigned)seed, sim->wrong);
	double mbit_s = (double)flow->ends[SIM_SERVER].read * 8 / FOR_US;
	sim_free(sim);
	return mbit_s;
}

static double mean_of(const struct pair *pair, unsigned which, scheduler *which_one)
{
	bool chance = pair->paths[0].loss_percent > 0 || pair->paths[1].loss_percent > 0;
	unsigned seeds = chance ? SEEDS : 1;
	double sum = 0;

	for (uint64_t seed = 1; seed <= seeds; seed++)
		sum += goodput(pair, which, seed, which_one);
	return sum / seeds;
}

static void check_bounds(const struct pair *pair, double first, double second, double ours)
{
	double better = first > second ? first : second;

	if (pair->share > 0 && ours < pair->share * (first + second))
		UNIT_FAIL("%.1f Mbit/s are %.3f of %.1f + %.1f alone, not %.2f", ours, ours / (first + second), first,
		          second, pair->share);
	if (pair->of_better > 0 && ours < pair->of_better * better)
		UNIT_FAIL("%.1f Mbit/s are %.3f of the better path's %.1f alone, not %.2f", ours, ours / better, better,
		          pair->of_better);
}

static void check_pair(const struct pair *pair, bool table)
{
	double first = mean_of(pair, 1, NULL), second = mean_of(pair, 2, NULL), ours = mean_of(pair, 3, NULL);
	double rtt = mean_of(pair, 3, lowest_rtt), turns = mean_of(pair, 3, round_robin);

	if (table)
		printf("| %s | %.1f + %.1f | %.1f | %.1f | %.1f |\n", pair->name, first, second, ours, rtt, turns);
	check_bounds(pair, first, second, ours);
	/* Where the links are full, they differ by which segments were lost. */
	if (ours < 0.98 * rtt || ours < 0.98 * turns)
		UNIT_FAIL("%.1f Mbit/s, lowest round trip first %.1f, round robin %.1f", ours, rtt, turns);
}

int main(int argc, char **argv)
{
	bool table = argc > 1 && !strcmp(argv[1], "--table");

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
		UNIT_CASE("%s", pairs[i].name)
			check_pair(&pairs[i], table);
	for (size_t i = 0; i < sizeof burdens / sizeof burdens[0]; i++)
		UNIT_CASE("no slower for a second path: %s", burdens[i].name)
			check_bounds(&burdens[i], mean_of(&burdens[i], 1, NULL), 0, mean_of(&burdens[i], 3, NULL));
	return unit_exit();
}
