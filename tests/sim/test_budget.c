/* What travels twice keeps to its path's budget, as the statistics say and as it is seen on the wire; and what a dead
 * path carried is delivered whatever the budget.
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "sim_net.h"

enum { PATHS = 2, STRIPES = 4, FLOWS = 32, FLOW_BYTES = 1500000 };

/* What the wire has seen. */
struct wire {
	struct frame_reader readers[SIM_SIDES][PATHS][STRIPES];
	bool seen[SIM_SIDES][FLOWS + 1][FLOW_BYTES]; /* that byte of that flow, from that side, on any path */
	uint64_t fresh[SIM_SIDES][PATHS];            /* payload bytes for the first time */
	uint64_t again[SIM_SIDES][PATHS];            /* not for the first time */
	uint64_t copies[SIM_SIDES][PATHS];           /* frames with COPY, and parity */
	uint64_t kill_us;                            /* when path 0 dies; 0: it lives */
};

static void look(const struct sim_conn *conn, unsigned side, const uint8_t *bytes, size_t len, void *user)
{
	struct wire *wire = user;
	struct frame_reader *reader = &wire->readers[side][conn->path][conn->index];
	const uint8_t *at = bytes, *end = bytes + len;
	struct frame f;

	while (frame_reader_next(reader, &at, end, &f) == 1) {
		wire->copies[side][conn->path] += f.flags & FRAME_FLAG_COPY || f.type == FRAME_PARITY;
		if (f.type != FRAME_DATA || f.flow > FLOWS || f.offset + f.payload_len > FLOW_BYTES)
			continue;
		bool *seen = wire->seen[side][f.flow] + f.offset;
		for (uint32_t i = 0; i < f.payload_len; i++) {
			wire->again[side][conn->path] += seen[i];
			wire->fresh[side][conn->path] += !seen[i];
			seen[i] = true;
		}
	}
}

static void strike(struct sim *sim, void *user)
{
	struct wire *wire = user;

	if (!wire->kill_us || sim->now_us < wire->kill_us)
		return;
	wire->kill_us = 0;
	sim_path_down(sim, 0, true);
}

/* Small flows, with answers and pauses, beside two that are not small. */
static void add_flows(struct sim *sim)
{
	for (unsigned i = 0; i < FLOWS - 2; i++)
		sim_add(sim, &(struct sim_plan){.start_us = 1200 * SIM_MS + i * 60 * SIM_MS,
		                                .bytes = {100 + 700 * i, 3000 * i},
		                                .early = i % 2,
		                                .answers = i % 3 != 0,
		                                .chunk = {0, i % 4 ? 0 : 3000},
		                                .pause_us = {0, i % 4 ? 0 : 30 * SIM_MS}});
	sim_add(sim, &(struct sim_plan){.start_us = 1100 * SIM_MS, .bytes = {FLOW_BYTES, 200000}});
	sim_add(sim, &(struct sim_plan){.start_us = 1900 * SIM_MS, .bytes = {300000, FLOW_BYTES}});
}

/* Runs it to its end; the budgets are 1 + percent, or 0 for the default. */
static struct sim *run(uint64_t seed, const uint8_t budgets[PATHS], struct wire *wire)
{
	struct sim_config config = {
	        .seed = seed,
	        .path_count = PATHS,
	        .paths = {SIM_DSL, {.stripes = STRIPES, .rate_Bps = 2000000, .delay_us = 30000, .queue_bytes = 125000}},
	        .step = strike,
	        .wire = look,
	        .user = wire};

	for (unsigned p = 0; p < PATHS; p++) {
		config.paths[p].budget = budgets[p];
		config.paths[p].loss_ppm = 10000;
	}
	uint64_t kill_us = wire->kill_us;
	memset(wire, 0, sizeof *wire);
	wire->kill_us = kill_us;
	struct sim *sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return NULL;
	add_flows(sim);
	sim->wake_us = wire->kill_us;
	UNIT_TRUE(sim_run(sim, 120ull * SIM_SECOND));
	sim_check(sim);
	return sim;
}

static struct session_path_stats stats_of(const struct sim *sim, unsigned side, unsigned path)
{
	struct session_path_stats stats;

	UNIT_TRUE(session_get_path_stats(sim->hosts[side].session, path, &stats));
	return stats;
}

/* Within percent and burst, and none at all with 0. */
static void check_budget(const struct sim *sim, unsigned side, unsigned path, unsigned percent)
{
	struct session_path_stats stats = stats_of(sim, side, path);
	const struct stripe_traffic *traffic = &stats.traffic;
	uint64_t repeats = traffic->copied_bytes + traffic->repeated_bytes;
	uint64_t first = traffic->bytes_out - repeats - traffic->reinjected_bytes;

	UNIT_EQ(stats.reinject_percent, percent);
	UNIT_TRUE(repeats <= first * percent / 100 + (percent ? 262144 : 0));
}

static void check_metered(struct wire *wire)
{
	UNIT_CASE("a path with 0 percent carries no second copy of any byte, in either direction, under loss") {
		for (uint64_t seed = 1; seed <= 8; seed++) {
			struct sim *sim = run(seed, (uint8_t[]){0, 1}, wire);

			for (unsigned side = 0; sim && side < SIM_SIDES; side++) {
				struct session_path_stats stats = stats_of(sim, side, 1);

				check_budget(sim, side, 0, 100);
				check_budget(sim, side, 1, 0);
				UNIT_EQ(wire->copies[side][1], 0);
				UNIT_TRUE(wire->again[side][1] <= stats.traffic.reinjected_bytes);
				if (!sim->hosts[side].events[SESSION_STRIPE_STALE])
					UNIT_EQ(wire->again[side][1], 0);
				UNIT_TRUE(wire->fresh[side][1] > 50000);
				/* There was something to refuse. */
				UNIT_TRUE(stats.refused_bytes > 0);
				UNIT_TRUE(wire->copies[side][0] > 0);
			}
			if (sim)
				sim_free(sim);
		}
	}
	UNIT_CASE("without a budget of its own it carries some") {
		struct sim *sim = run(1, (uint8_t[]){0, 0}, wire);

		for (unsigned side = 0; sim && side < SIM_SIDES; side++) {
			struct session_path_stats stats = stats_of(sim, side, 1);

			check_budget(sim, side, 0, 100);
			check_budget(sim, side, 1, 100);
			UNIT_TRUE(wire->copies[side][1] > 0);
			UNIT_TRUE(stats.traffic.copied_bytes > 0);
		}
		if (sim)
			sim_free(sim);
	}
}

static void check_percent(struct wire *wire)
{
	static const uint8_t percents[] = {1, 10, 40};

	for (unsigned i = 0; i < sizeof percents; i++)
		UNIT_CASE("a path with %u percent keeps within them and the burst", percents[i]) {
			uint64_t refused_bytes = 0;
			for (uint64_t seed = 1; seed <= 4; seed++) {
				struct sim *sim = run(seed, (uint8_t[]){1 + percents[i], 1}, wire);

				for (unsigned side = 0; sim && side < SIM_SIDES; side++) {
					check_budget(sim, side, 0, percents[i]);
					check_budget(sim, side, 1, 0);
				}
				if (sim) {
					refused_bytes += stats_of(sim, SIM_SERVER, 0).refused_bytes;
					sim_free(sim);
				}
			}
			UNIT_TRUE(percents[i] > 1 || refused_bytes > 0);
		}
}

static void check_death(struct wire *wire)
{
	UNIT_CASE("what a path carried that died is delivered whatever the budget, and counts as no repetition") {
		for (uint64_t seed = 1; seed <= 8; seed++) {
			wire->kill_us = (1300 + 70 * seed) * SIM_MS;
			struct sim *sim = run(seed, (uint8_t[]){1, 1}, wire);
			uint64_t reinjected_bytes = 0;

			for (unsigned side = 0; sim && side < SIM_SIDES; side++) {
				struct session_path_stats stats = stats_of(sim, side, 1);

				UNIT_EQ(wire->kill_us, 0);
				UNIT_EQ(wire->copies[side][1], 0);
				UNIT_TRUE(wire->again[side][1] <= stats.traffic.reinjected_bytes);
				UNIT_EQ(stats.traffic.copied_bytes + stats.traffic.repeated_bytes, 0);
				reinjected_bytes += stats.traffic.reinjected_bytes;
			}
			UNIT_TRUE(reinjected_bytes > 0);
			if (sim)
				sim_free(sim);
		}
	}
}

static void check_totals(struct wire *wire)
{
	UNIT_CASE("a session's figures are the sums of its paths'") {
		struct sim *sim = run(3, (uint8_t[]){31, 1}, wire);

		for (unsigned side = 0; sim && side < SIM_SIDES; side++) {
			struct session_stats total;
			struct session_path_stats a = stats_of(sim, side, 0), b = stats_of(sim, side, 1);

			session_get_stats(sim->hosts[side].session, &total);
			UNIT_EQ(total.copied_bytes, a.traffic.copied_bytes + b.traffic.copied_bytes);
			UNIT_EQ(total.repeated_bytes, a.traffic.repeated_bytes + b.traffic.repeated_bytes);
			UNIT_EQ(total.reinjected_bytes, a.traffic.reinjected_bytes + b.traffic.reinjected_bytes);
			UNIT_EQ(total.refused_bytes, a.refused_bytes + b.refused_bytes);
			UNIT_TRUE(!session_get_path_stats(sim->hosts[side].session, 2, &a));
		}
		if (sim)
			sim_free(sim);
	}
}

int main(void)
{
	struct wire *wire = calloc(1, sizeof *wire);

	if (!wire)
		abort();
	check_metered(wire);
	check_percent(wire);
	check_death(wire);
	check_totals(wire);
	free(wire);
	return unit_exit();
}
