/* Stripes die, paths go and come back, the far end restarts: nothing is lost, and nobody waits for ever.
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include <string.h>

#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"

/* What is done to the simulation, and when: after so many bytes were delivered on all paths. */
struct blow {
	enum { KILL_ONE, KILL_ALL_BUT_ONE, KILL_ALL, KILL_RANDOM, PATH_DOWN_AND_UP } kind;
	uint64_t at_bytes;
	bool silent;
	uint64_t every_bytes; /* again after so many more; 0: once */
	uint64_t up_us;       /* PATH_DOWN_AND_UP: when it comes back; 0: it is not down */
};

static void kill_some(struct sim *sim, const struct blow *blow)
{
	bool spared = false;

	for (unsigned p = 0; p < sim->config.path_count; p++)
		for (unsigned i = 0; i < sim->config.paths[p].stripes; i++) {
			struct sim_conn *conn = sim_find_conn(sim, p, i);
			if (!conn)
				continue;
			if (blow->kind == KILL_ALL_BUT_ONE && !spared) {
				spared = true;
				continue;
			}
			if (blow->kind == KILL_RANDOM && unit_chance(&sim->seed, 2, 3))
				continue;
			sim_kill(sim, conn, blow->silent);
			if (blow->kind == KILL_ONE)
				return;
		}
}

static void strike(struct sim *sim, void *user)
{
	struct blow *blow = user;
	uint64_t bytes = 0;

	if (blow->up_us && sim->now_us >= blow->up_us) {
		sim_path_up(sim, 0);
		blow->up_us = 0;
	}
	for (unsigned p = 0; p < sim->config.path_count; p++)
		bytes += sim->delivered[p];
	if (!blow->at_bytes || bytes < blow->at_bytes)
		return;
	blow->at_bytes = blow->every_bytes ? bytes + blow->every_bytes : 0;
	if (blow->kind == PATH_DOWN_AND_UP) {
		sim_path_down(sim, 0, blow->silent);
		sim->wake_us = blow->up_us = sim->now_us + 5 * SIM_SECOND;
	} else {
		kill_some(sim, blow);
	}
}

static bool transfer(uint64_t seed, const struct blow *blow, unsigned stripes, unsigned paths, uint64_t bytes)
{
	struct blow state = *blow;
	struct sim_config config = {
	        .seed = seed,
	        .path_count = paths,
	        .paths = {SIM_DSL, {.stripes = 2, .rate_Bps = 1000000, .delay_us = 60000, .queue_bytes = 60000}},
	        .partial = true,
	        .step = strike,
	        .user = &state};
	struct sim *sim;
	bool good;

	config.paths[0].stripes = stripes;
	config.paths[0].loss_ppm = 3000;
	sim = sim_new(&config);
	if (!UNIT_TRUE(sim))
		return false;
	sim_add(sim, &(struct sim_plan){.bytes = {bytes, bytes}, .early = true});
	sim_add(sim, &(struct sim_plan){.bytes = {700, bytes / 2}, .answers = true, .start_us = 1050000});
	sim_add(sim, &(struct sim_plan){
	                     .bytes = {bytes / 2, 10}, .start_us = 1100000, .chunk = {900, 0}, .pause_us = {1000, 0}});
	good = sim_run(sim, 300ull * SIM_SECOND);
	sim_check(sim);
	sim_free(sim);
	return good;
}

static void check_every_moment(void)
{
	static const char *const names[] = {"one stripe dies", "all stripes but one die", "all stripes die",
	                                    "some stripes die"};
	static const uint64_t total = 260000;

	for (unsigned kind = KILL_ONE; kind <= KILL_RANDOM; kind++)
		for (unsigned silent = 0; silent < 2; silent++)
			UNIT_CASE("%s%s, at every moment of a transfer", names[kind], silent ? " in silence" : "")
				for (uint64_t at = 1; at < total; at += at < 3000 ? 97 : 9973) {
					struct blow blow = {.kind = kind, .at_bytes = at, .silent = silent};
					if (!transfer(at, &blow, 1 + at % 5, 1 + at % 2, 60000)) {
						UNIT_FAIL("after %u bytes", (unsigned)at);
						break;
					}
				}
}

static void check_again_and_again(void)
{
	UNIT_CASE("stripes die again and again")
		for (uint64_t seed = 1; seed <= 25; seed++) {
			struct blow blow = {.kind = KILL_RANDOM,
			                    .at_bytes = 1,
			                    .every_bytes = 20000 + 4000 * seed,
			                    .silent = seed % 2};
			if (!transfer(seed, &blow, 1 + seed % 8, 1 + seed % 2, 400000))
				break;
		}
	UNIT_CASE("the first path goes and comes back")
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct blow blow = {.kind = PATH_DOWN_AND_UP, .at_bytes = 20000 * seed, .silent = seed % 2};
			if (!transfer(seed, &blow, 4, 2, 300000))
				break;
		}
	UNIT_CASE("the only path goes and comes back")
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct blow blow = {.kind = PATH_DOWN_AND_UP, .at_bytes = 20000 * seed, .silent = seed % 2};
			if (!transfer(seed, &blow, 4, 1, 300000))
				break;
		}
}

static void check_prompt(void)
{
	UNIT_CASE("what a dead stripe carried goes again as soon as there is another, not after a time") {
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct sim_config config = {
			        .seed = seed, .path_count = 1, .paths = {SIM_DSL}, .redial_us = 10 * SIM_MS};
			struct sim *sim = sim_new(&config);
			struct sim_flow *f =
			        sim_add(sim, &(struct sim_plan){.bytes = {8000, 0}, .start_us = 1300 * SIM_MS});

			while (!f->ends[SIM_CLIENT].written && sim_run_until(sim, sim->now_us + SIM_MS))
				;
			uint64_t died_us = sim->now_us;
			sim_path_down(sim, 0, false);
			sim_path_up(sim, 0);
			UNIT_TRUE(sim_run(sim, 10 * SIM_SECOND));
			sim_check(sim);
			/* 40 ms to dial, 40 for HELLO and WELCOME, 20 for the bytes; the engine's own patience is 300
			 * at the least. */
			UNIT_TRUE(f->ends[SIM_SERVER].over_us - died_us < 250 * SIM_MS);
			sim_free(sim);
		}
	}
}

/* Everything on the path is lost, or nothing. */
static void set_hole(struct sim *sim, unsigned path, bool hole)
{
	for (unsigned side = 0; side < SIM_SIDES; side++)
		sim->links[path][side].loss_ppm = hole ? 1000000 : 0;
}

static void check_used_again(void)
{
	UNIT_CASE("a path that was silent for seconds, while its stripes lived, carries its part again")
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct sim_path path = {.stripes = 8,
			                        .rate_Bps = 2500000,
			                        .delay_us = 10000,
			                        .queue_bytes = 125000,
			                        .congestion = SIM_BBR};
			struct sim *sim =
			        sim_new(&(struct sim_config){.seed = seed, .path_count = 2, .paths = {path, path}});

			sim->links[1][SIM_CLIENT].delay_us = sim->links[1][SIM_SERVER].delay_us = 25000;
			sim_add(sim, &(struct sim_plan){.bytes = {100000000, 0}});
			sim_run_until(sim, 3 * SIM_SECOND);
			set_hole(sim, 1, true);
			sim_run_until(sim, (3 + 2 * seed) * SIM_SECOND);
			set_hole(sim, 1, false);
			/* Timeouts have doubled meanwhile. */
			sim_run_until(sim, (6 + 2 * seed) * SIM_SECOND);
			uint64_t before = sim->delivered[1];
			UNIT_TRUE(sim_run_until(sim, (8 + 2 * seed) * SIM_SECOND));
			UNIT_TRUE(sim->delivered[1] - before > 2 * path.rate_Bps * 3 / 4);
			UNIT_TRUE(!sim->wrong[0]);
			sim_free(sim);
		}
}

/* --- The session ends or begins again
 * -------------------------------------------------------------------------------*/

static struct sim *busy_sim(uint64_t seed, unsigned flows)
{
	struct sim_config config = {
	        .seed = seed, .path_count = 1, .paths = {SIM_DSL}, .limits = {.timeout_us = 10 * SIM_SECOND}};
	struct sim *sim = sim_new(&config);

	for (unsigned i = 0; sim && i < flows; i++)
		sim_add(sim, &(struct sim_plan){.bytes = {3000000, 3000000}, .start_us = 1100000});
	return sim;
}

static bool quiet(struct sim *sim, unsigned side)
{
	struct session_stats stats;

	session_get_stats(sim->hosts[side].session, &stats);
	return UNIT_EQ(stats.flows, 0) && UNIT_EQ(stats.egress_pages, 0) && UNIT_EQ(stats.ingress_pages, 0) &&
	       UNIT_EQ(stats.promised_bytes, 0);
}

static void expect_lost(struct sim *sim, unsigned side)
{
	for (uint32_t i = 0; i < sim->flow_count; i++) {
		UNIT_TRUE(sim->flows[i]->ends[side].over);
		UNIT_EQ(sim->flows[i]->ends[side].reason, RESET_SESSION);
	}
	quiet(sim, side);
}

static void check_session_lost(void)
{
	UNIT_CASE("down for longer than the timeout: every flow is reset, at both ends, and the next one works") {
		struct sim *sim = busy_sim(1, 5);
		struct sim_flow *next;

		UNIT_TRUE(sim_run_until(sim, 1500000));
		sim_path_down(sim, 0, false);
		UNIT_TRUE(sim_run_until(sim, 9 * SIM_SECOND));
		UNIT_TRUE(!sim->flows[0]->ends[0].over && !sim->flows[0]->ends[1].over);
		UNIT_TRUE(sim_run_until(sim, 15 * SIM_SECOND));
		for (unsigned side = 0; side < SIM_SIDES; side++) {
			expect_lost(sim, side);
			UNIT_EQ(sim->hosts[side].events[SESSION_LOST], 1);
			UNIT_EQ(sim->hosts[side].events[SESSION_DOWN], 1);
		}
		sim_path_up(sim, 0);
		next = sim_add(sim, &(struct sim_plan){.bytes = {1000, 1000}});
		UNIT_TRUE(sim_run(sim, 10 * SIM_SECOND));
		UNIT_STR(sim->wrong, "");
		sim_flow_check(sim, next);
		UNIT_EQ(sim->hosts[SIM_CLIENT].events[SESSION_UP], 2);
		sim_free(sim);
	}
	UNIT_CASE("back before the timeout: nothing is reset") {
		struct sim *sim = busy_sim(2, 5);

		UNIT_TRUE(sim_run_until(sim, 1500000));
		sim_path_down(sim, 0, false);
		UNIT_TRUE(sim_run_until(sim, 9 * SIM_SECOND));
		sim_path_up(sim, 0);
		UNIT_TRUE(sim_run(sim, 120ull * SIM_SECOND));
		sim_check(sim);
		UNIT_EQ(sim->hosts[SIM_CLIENT].events[SESSION_LOST], 0);
		sim_free(sim);
	}
}

/* A link that is dead for about the timeout, in one direction or both: the two ends give up at different times, or one
 * does not. */
static void expect_same_end(const struct sim_plan *plan, uint64_t timeout_us, uint64_t dead_us, unsigned directions)
{
	for (uint64_t start_us = 4 * SIM_SECOND; start_us < 9 * SIM_SECOND; start_us += 500 * SIM_MS) {
		struct sim *sim = sim_new(&(struct sim_config){
		        .seed = start_us, .path_count = 1, .paths = {SIM_DSL}, .limits = {.timeout_us = timeout_us}});
		struct sim_flow *flow = sim_add(sim, plan);
		const struct sim_end *ends = flow->ends;

		sim_run_until(sim, start_us);
		for (unsigned side = 0; side < SIM_SIDES; side++)
			if (directions & 1u << side)
				sim->links[0][side].loss_ppm = 1000000;
		sim_run_until(sim, start_us + dead_us);
		sim->links[0][SIM_CLIENT].loss_ppm = sim->links[0][SIM_SERVER].loss_ppm = 0;
		sim_run_until(sim, 100 * SIM_SECOND);
		UNIT_STR(sim->wrong, "");
		if (ends[0].over != ends[1].over)
			UNIT_FAIL("dead from %u ms, directions %u: %s still has the flow",
			          (unsigned)(start_us / SIM_MS), directions,
			          ends[0].over ? "the server" : "the client");
		for (unsigned side = 0; side < SIM_SIDES; side++)
			if (ends[side].over && ends[side].reason == RESET_NONE && ends[!side].read < plan->bytes[side])
				UNIT_FAIL("dead from %u ms, directions %u: a clean end, but %u bytes arrived",
				          (unsigned)(start_us / SIM_MS), directions, (unsigned)ends[!side].read);
		sim_free(sim);
	}
}

static void check_one_side(void)
{
	static const struct sim_plan upload = {.bytes = {18000, 0}, .pause_us = {200000, 0}, .chunk = {1000, 0}},
	                             download = {.bytes = {10000, 1ull << 30},
	                                         .pause_us = {0, 300000},
	                                         .chunk = {0, 1000},
	                                         .never_ends = true},
	                             answer = {.bytes = {100, 18000},
	                                       .answers = true,
	                                       .pause_us = {0, 200000},
	                                       .chunk = {0, 1000}},
	                             idle = {.bytes = {1000, 1000}, .never_ends = true};

	for (unsigned directions = 1; directions <= 3; directions++)
		for (uint64_t dead_us = 4 * SIM_SECOND; dead_us <= 8 * SIM_SECOND; dead_us += 2 * SIM_SECOND) {
			UNIT_CASE("%u s in directions %u, more than the timeout: both ends lose the flow, or none",
			          (unsigned)(dead_us / SIM_SECOND), directions) {
				expect_same_end(&upload, 2 * SIM_SECOND, dead_us, directions);
				expect_same_end(&answer, 2 * SIM_SECOND, dead_us, directions);
				expect_same_end(&download, 2 * SIM_SECOND, dead_us, directions);
				expect_same_end(&idle, 2 * SIM_SECOND, dead_us, directions);
			}
		}
}

static void check_session_renewed(void)
{
	UNIT_CASE("the server restarts: the client's flows are reset at once, and the next one works")
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct sim *sim = busy_sim(seed, 5);
			struct sim_flow *next;

			UNIT_TRUE(sim_run_until(sim, 1100000 + 25000 * seed));
			sim_restart_server(sim);
			UNIT_TRUE(sim_run_until(sim, sim->now_us + SIM_SECOND));
			UNIT_EQ(sim->hosts[SIM_CLIENT].events[SESSION_RENEWED], 1);
			for (uint32_t i = 0; i < sim->flow_count; i++)
				UNIT_TRUE(sim->flows[i]->ends[0].over || !sim->flows[i]->started);
			next = sim_add(sim, &(struct sim_plan){.bytes = {1000, 100000}});
			UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
			UNIT_STR(sim->wrong, "");
			if (!sim_flow_check(sim, next))
				seed = 1000;
			sim_free(sim);
		}
}

static void check_goaway(void)
{
	UNIT_CASE("GOAWAY: flows that are there go on, no new one opens, also after a new dial") {
		for (unsigned side = 0; side < SIM_SIDES; side++) {
			struct sim *sim = busy_sim(3 + side, 3);

			UNIT_TRUE(sim_run_until(sim, 1500000));
			session_goaway(sim->hosts[side].session, sim->now_us);
			sim->hosts[side].dirty = true;
			UNIT_TRUE(sim_run_until(sim, 1700000));
			UNIT_TRUE(!session_can_open(sim->hosts[SIM_CLIENT].session));
			UNIT_EQ(sim->hosts[!side].events[SESSION_GOAWAY], 1);
			sim_kill(sim, sim_find_conn(sim, 0, 1), false);
			UNIT_TRUE(sim_run_until(sim, 3 * SIM_SECOND));
			UNIT_TRUE(!session_can_open(sim->hosts[SIM_CLIENT].session));
			UNIT_TRUE(sim_run(sim, 60ull * SIM_SECOND));
			sim_check(sim);
			UNIT_TRUE(!session_can_open(sim->hosts[SIM_CLIENT].session));
			sim_free(sim);
		}
	}
	UNIT_CASE("GOAWAY, and then gone for longer than the timeout: what comes back is asked anew") {
		struct sim *sim = busy_sim(5, 3);

		UNIT_TRUE(sim_run_until(sim, 1500000));
		session_goaway(sim->hosts[SIM_SERVER].session, sim->now_us);
		sim->hosts[SIM_SERVER].dirty = true;
		UNIT_TRUE(sim_run_until(sim, 1700000));
		UNIT_TRUE(!session_can_open(sim->hosts[SIM_CLIENT].session));
		sim_path_down(sim, 0, false);
		UNIT_TRUE(sim_run_until(sim, 15 * SIM_SECOND));
		UNIT_EQ(sim->hosts[SIM_CLIENT].events[SESSION_LOST], 1);
		sim_restart_server(sim);
		sim_path_up(sim, 0);
		UNIT_TRUE(sim_run_until(sim, 20 * SIM_SECOND));
		UNIT_TRUE(session_can_open(sim->hosts[SIM_CLIENT].session));
		sim_free(sim);
	}
}

int main(void)
{
	check_every_moment();
	check_again_and_again();
	check_prompt();
	check_used_again();
	check_session_lost();
	check_one_side();
	check_session_renewed();
	check_goaway();
	return unit_exit();
}
