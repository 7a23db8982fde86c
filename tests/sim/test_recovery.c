/* A path that was ten times slower for a while, with a bulk flow over it and another: it is in use again soon after it
 * is well, though nothing was put on it meanwhile that would have told so.
 */
#include "../unit/unit.h"
#include "sim_net.h"

enum { SPELL_US = 4 * SIM_SECOND, WELL_US = 12 * SIM_SECOND, SOON_US = 2 * SIM_SECOND, FACTOR = 10 };

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

static void check_spell(const struct spell *spell, enum sim_congestion congestion)
{
	struct sim_config config = {.seed = 1, .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 256 << 20}};

	set_paths(&config, congestion);
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return;
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
	if (share < 0.7)
		UNIT_FAIL("%s: it is used to %.0f %%", congestion == SIM_BBR ? "BBR" : "Reno", share * 100);
	sim_free(sim);
}

int main(void)
{
	for (size_t i = 0; i < sizeof spells / sizeof spells[0]; i++)
		UNIT_CASE("two seconds after a slow spell of eight a path is full again: %s", spells[i].name) {
			check_spell(&spells[i], SIM_BBR);
			check_spell(&spells[i], SIM_RENO);
		}
	return unit_exit();
}
