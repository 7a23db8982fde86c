/* Paths that are bad for a while, with a bulk flow over two of them.
 *
 * One that was ten times slower is in use again soon after it is well, though nothing was put on it meanwhile that
 * would have told so. And when one or the other loses everything, in turn, the flow goes on; what that costs is mostly
 * TCP's: a path that is back stays idle until its connections' backed-off timers run out.
 */
#include "../unit/unit.h"
#include "sim_net.h"

enum { SPELL_US = 4 * SIM_SECOND, WELL_US = 12 * SIM_SECOND, SOON_US = 2 * SIM_SECOND, FACTOR = 10, SEEDS = 3 };

static const struct spell {
	const char *name;
	unsigned path;
	bool in_delay; /* else in rate */
} spells[] = {
        {"the faster one, in rate", 0, false},
        {"the slower one, in rate", 1, false},
        {"the faster one, in delay", 0, true},
        {"the slower one, in delay", 1, true},
};

/* 100 Mbit/s at 20 ms, and half of that at twice as much; the queues hold a round trip. */
static void set_paths(struct sim_config *config, enum sim_congestion congestion)
{
	config->path_count = 2;
	config->paths[0] = (struct sim_path){
	        .stripes = 8, .rate_Bps = 12500000, .delay_us = 10000, .queue_bytes = 250000, .congestion = congestion};
	config->paths[1] = (struct sim_path){
	        .stripes = 8, .rate_Bps = 6250000, .delay_us = 20000, .queue_bytes = 250000, .congestion = congestion};
}

/* How much of the path is used, of 1, in the second that begins two after the spell. */
static double share_after(const struct spell *spell, enum sim_congestion congestion, uint64_t seed)
{
	struct sim_config config = {.seed = seed, .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 256 << 20}};

	set_paths(&config, congestion);
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return 0;
	struct sim_link *links = sim->links[spell->path];
	const struct sim_link well[SIM_SIDES] = {links[0], links[1]};
	sim_add(sim, &(struct sim_plan){.bytes = {1ull << 40, 0}, .start_us = 2 * SIM_SECOND, .never_ends = true});
	sim_run_until(sim, SPELL_US);
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		links[side].rate_Bps /= spell->in_delay ? 1 : FACTOR;
		links[side].delay_us *= spell->in_delay ? FACTOR : 1;
	}
	sim_run_until(sim, WELL_US);
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		links[side].rate_Bps = well[side].rate_Bps;
		links[side].delay_us = well[side].delay_us;
	}
	sim_run_until(sim, WELL_US + SOON_US);
	uint64_t before = sim->delivered[spell->path];
	UNIT_TRUE(sim_run_until(sim, WELL_US + SOON_US + SIM_SECOND));
	double share = (double)(sim->delivered[spell->path] - before) / (double)well[0].rate_Bps;
	sim_free(sim);
	return share;
}

/* A mean: BBR's PROBE_RTT, for which all of the path's stripes pause, may be in that second. */
static void check_spell(const struct spell *spell, enum sim_congestion congestion)
{
	double share = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		share += share_after(spell, congestion, seed) / SEEDS;
	if (share < 0.7)
		UNIT_FAIL("%s: it is used to %.0f %%", congestion == SIM_BBR ? "BBR" : "Reno", share * 100);
}

/* 15 MB over two paths of 20 Mbit/s, of which always just one loses nothing: how long it takes, or until `for_us`. */
static uint64_t in_turn_us(enum sim_congestion congestion, uint64_t for_us)
{
	struct sim_config config = {.seed = 1, .path_count = 2};

	for (unsigned p = 0; p < config.path_count; p++)
		config.paths[p] = (struct sim_path){.stripes = 8,
		                                    .rate_Bps = 2500000,
		                                    .delay_us = 15000,
		                                    .queue_bytes = 125000,
		                                    .congestion = congestion};
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return 0;
	sim_run_until(sim, SPELL_US);
	const struct sim_flow *flow = sim_add(sim, &(struct sim_plan){.bytes = {15000000, 0}});
	for (unsigned turn = 0; !flow->ends[SIM_SERVER].over && sim->now_us < SPELL_US + for_us; turn++) {
		for (unsigned p = 0; p < config.path_count; p++)
			for (unsigned side = 0; side < SIM_SIDES; side++)
				sim->links[p][side].loss_ppm = p == turn % 2 ? 1000000 : 0;
		sim_run_until(sim, sim->now_us + SIM_SECOND);
	}
	UNIT_TRUE(!sim->wrong[0]);
	uint64_t took_us = flow->ends[SIM_SERVER].over ? flow->ends[SIM_SERVER].over_us - SPELL_US : for_us;
	sim_free(sim);
	return took_us;
}

static void check_in_turn(enum sim_congestion congestion, uint64_t within_us)
{
	uint64_t us = in_turn_us(congestion, 2 * within_us);

	if (us > within_us)
		UNIT_FAIL("%.1f s at least, not %.1f", (double)us / SIM_SECOND, (double)within_us / SIM_SECOND);
}

int main(void)
{
	for (size_t i = 0; i < sizeof spells / sizeof spells[0]; i++)
		UNIT_CASE("two seconds after a slow spell of eight a path is full again: %s", spells[i].name) {
			check_spell(&spells[i], SIM_BBR);
			check_spell(&spells[i], SIM_RENO);
		}
	/* 6 s without a pause. */
	UNIT_CASE("two paths silent in turn, a second each: 15 MB get through in 20 s, with BBR")
		check_in_turn(SIM_BBR, 20 * SIM_SECOND);
	UNIT_CASE("and in 40 s with Reno")
		check_in_turn(SIM_RENO, 40 * SIM_SECOND);
	return unit_exit();
}
