#include "sim_net.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/core/memory.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_conn.h"
#include "sim_time.h"

enum { START_US = 1000000, SPIN_MAX = 20000, SETTLE_MAX = 64 };

void sim_wrong(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (sim->wrong[0])
		return;
	va_start(args, format);
	vsnprintf(sim->wrong, sizeof sim->wrong, format, args);
	va_end(args);
}

void sim_note(struct sim *sim, uint64_t a, uint64_t b, uint64_t c)
{
	const uint64_t values[] = {sim->now_us, a, b, c};

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		sim->trace = (sim->trace ^ values[i]) * 0x9e3779b97f4a7c15u;
		sim->trace ^= sim->trace >> 32;
	}
}

/* --- Callbacks ----------------------------------------------------------------------------------------------------*/

static unsigned side_of(const struct stripe *stripe)
{
	const struct sim_conn *conn = stripe->user;

	return conn->stripes[SIM_CLIENT] == stripe ? SIM_CLIENT : SIM_SERVER;
}

static void on_output(void *user, struct stripe *stripe)
{
	struct sim_host *host = user;
	struct sim_conn *conn = stripe->user;
	unsigned side = side_of(stripe);

	if (stripe->error) {
		if (strcmp(stripe->error, "the far end has restarted") &&
		    strcmp(stripe->error, "the session was given up"))
			sim_wrong(host->sim, "side %u closes a stripe: %s", side, stripe->error);
		sim_conn_close(conn, side);
		return;
	}
	if (!conn->retry_us[side])
		sim_conn_write(conn, side);
}

static void on_measure(void *user, struct stripe *stripe)
{
	sim_conn_report(stripe->user, side_of(stripe));
}

static void on_event(void *user, const struct session_event_info *info)
{
	struct sim_host *host = user;

	host->events[info->event]++;
	if (info->event == SESSION_LOST) {
		uint8_t id[FRAME_ID_BYTES];
		for (unsigned i = 0; i < FRAME_ID_BYTES; i++)
			id[i] = (uint8_t)unit_random(&host->sim->seed);
		session_renew(host->session, id);
	}
	sim_note(host->sim, host->side, info->event, 40);
	if (info->event == SESSION_FLOW_BROKEN && strncmp(info->text, "out of memory", 13))
		sim_wrong(host->sim, "side %u breaks flow %u: %s", host->side, info->flow, info->text);
}

static const struct session_ops ops = {
        .flow_result = sim_app_result,
        .flow_open = sim_app_open,
        .flow_readable = sim_app_readable,
        .flow_writable = sim_app_writable,
        .flow_ended = sim_app_ended,
        .stripe_output = on_output,
        .stripe_measure = on_measure,
        .event = on_event,
};

/* --- Life ---------------------------------------------------------------------------------------------------------*/

static bool start_session(struct sim *sim, unsigned side)
{
	struct session_config config = {.role = side == SIM_CLIENT ? SESSION_CLIENT : SESSION_SERVER,
	                                .limits = sim->config.limits};

	for (unsigned i = 0; i < FRAME_ID_BYTES; i++) {
		config.id[i] = (uint8_t)i;
		config.incarnation[i] = (uint8_t)unit_random(&sim->seed);
	}
	memcpy(sim->hosts[SIM_SERVER].peer, config.id, FRAME_ID_BYTES);
	sim->hosts[side].sim = sim;
	sim->hosts[side].side = side;
	sim->hosts[side].session = session_new(&config, &ops, &sim->hosts[side], sim->now_us);
	return sim->hosts[side].session;
}

struct sim *sim_new(const struct sim_config *config)
{
	struct sim *sim = calloc(1, sizeof *sim);

	if (!sim)
		return NULL;
	sim->config = *config;
	sim->seed = config->seed;
	sim->now_us = START_US;
	sim->live_before = memory_live();
	struct session_limits *limits = &sim->config.limits;
	limits->flows = limits->flows ? limits->flows : 10000;
	limits->flow_window_bytes = limits->flow_window_bytes ? limits->flow_window_bytes : 8 << 20;
	limits->memory_bytes = limits->memory_bytes ? limits->memory_bytes : 64 << 20;
	limits->timeout_us = limits->timeout_us ? limits->timeout_us : 60 * SIM_SECOND;
	for (unsigned p = 0; p < config->path_count; p++) {
		const struct sim_path *path = &config->paths[p];
		for (unsigned side = 0; side < SIM_SIDES; side++)
			sim->links[p][side] = (struct sim_link){.rate_Bps = path->rate_Bps,
			                                        .delay_us = path->delay_us,
			                                        .queue_bytes = path->queue_bytes,
			                                        .loss_ppm = path->loss_ppm,
			                                        .congestion = path->congestion};
		for (unsigned i = 0; i < path->stripes; i++)
			sim->redial_us[p][i] = sim->now_us + 1;
	}
	if (!start_session(sim, SIM_CLIENT) || !start_session(sim, SIM_SERVER)) {
		sim_free(sim);
		return NULL;
	}
	return sim;
}

void sim_restart_server(struct sim *sim)
{
	struct sim_host *host = &sim->hosts[SIM_SERVER];

	for (unsigned i = 0; i < sim->conn_slots; i++) {
		struct sim_conn *conn = sim->conns[i];
		if (!conn || conn->closed[SIM_SERVER])
			continue;
		conn->closed[SIM_SERVER] = true;
		conn->stripes[SIM_SERVER] = NULL; /* freed with its session */
		conn->retry_us[SIM_SERVER] = 0;
		conn->pipes[SIM_SERVER].frozen = true;
		if (!conn->lost_us[SIM_CLIENT])
			conn->lost_us[SIM_CLIENT] = sim->now_us + 1;
	}
	session_free(host->session);
	if (!start_session(sim, SIM_SERVER))
		abort();
	sim_app_server_gone(sim);
}

void sim_free(struct sim *sim)
{
	for (unsigned side = 0; side < SIM_SIDES; side++)
		if (sim->hosts[side].session)
			session_free(sim->hosts[side].session);
	UNIT_EQ(memory_live(), sim->live_before);
	for (unsigned i = 0; i < sim->conn_slots; i++)
		if (sim->conns[i])
			sim_conn_free(sim->conns[i]);
	for (uint32_t i = 0; i < sim->flow_count; i++)
		free(sim->flows[i]);
	free(sim->flows);
	free(sim);
}

/* --- The loop -----------------------------------------------------------------------------------------------------*/

static uint64_t next_us(struct sim *sim)
{
	uint64_t us = sim_sooner(sim_app_next_us(sim), sim_timer(sim->wake_us));

	for (unsigned side = 0; side < SIM_SIDES; side++)
		us = sim_sooner(us, sim->hosts[side].dirty ? 0 : session_next_us(sim->hosts[side].session));
	for (unsigned i = 0; i < sim->conn_slots; i++) {
		struct sim_conn *conn = sim->conns[i];
		if (!conn)
			continue;
		conn->next_us = sim_conn_next_us(conn);
		us = sim_sooner(us, conn->next_us);
	}
	for (unsigned p = 0; p < sim->config.path_count; p++)
		for (unsigned i = 0; !sim->path_down[p] && i < sim->config.paths[p].stripes; i++)
			us = sim_sooner(us, sim_timer(sim->redial_us[p][i]));
	return us;
}

static void dial_due(struct sim *sim)
{
	for (unsigned p = 0; p < sim->config.path_count; p++)
		for (unsigned i = 0; !sim->path_down[p] && i < sim->config.paths[p].stripes; i++)
			if (sim_due(sim->redial_us[p][i], sim->now_us)) {
				sim->redial_us[p][i] = 0;
				sim_conn_dial(sim, p, i);
			}
}

/* One wakeup of a daemon: runs until the sockets take no more or nothing is left to write. */
static void run_host(struct sim_host *host)
{
	struct sim *sim = host->sim;

	host->dirty = false;
	for (unsigned round = 0; round < SETTLE_MAX; round++) {
		bool more = false;
		session_run(host->session, sim->now_us);
		for (unsigned i = 0; i < sim->conn_slots; i++) {
			struct sim_conn *conn = sim->conns[i];
			if (!conn || !conn->wrote[host->side])
				continue;
			conn->wrote[host->side] = false;
			if (!conn->stripes[host->side])
				continue;
			sim_conn_report(conn, host->side);
			more = more || sim_pipe_room(&conn->pipes[host->side]);
		}
		if (!more)
			return;
	}
}

static void check_host(struct sim_host *host)
{
	struct session_stats stats;
	uint64_t limit = host->sim->config.limits.memory_bytes;

	session_get_stats(host->session, &stats);
	uint64_t bytes = (stats.egress_pages + stats.ingress_pages) * sizeof(struct page);
	size_t each = EGRESS_RECORDS_FIRST * sizeof(struct egress_record) + RANGE_FIRST * sizeof(struct range);
	if (stats.account_bytes > limit / 8 + stats.flows * each)
		sim_wrong(host->sim, "side %u's accounts take %u bytes", host->side, (unsigned)stats.account_bytes);
	if (stats.account_bytes > host->peak_account_bytes)
		host->peak_account_bytes = stats.account_bytes;
	if (bytes > host->peak_bytes)
		host->peak_bytes = bytes;
	if (bytes > limit)
		sim_wrong(host->sim, "side %u holds %llu bytes in pages, its limit is %llu", host->side,
		          (unsigned long long)bytes, (unsigned long long)limit);
	if (stats.promised_bytes > limit / 2)
		sim_wrong(host->sim, "side %u promised %llu bytes, its limit is %llu", host->side,
		          (unsigned long long)stats.promised_bytes, (unsigned long long)limit / 2);
}

static void sweep(struct sim *sim)
{
	for (unsigned i = 0; i < sim->conn_slots; i++) {
		struct sim_conn *conn = sim->conns[i];
		if (!conn || !conn->closed[SIM_CLIENT] || !conn->closed[SIM_SERVER])
			continue;
		sim_conn_free(conn);
		sim->conns[i] = NULL;
	}
}

/* False: nothing is going to happen any more. */
static bool step(struct sim *sim, uint64_t until_us)
{
	uint64_t us = next_us(sim);
	bool idle = us == UINT64_MAX;

	us = us < sim->now_us ? sim->now_us : us;
	if (us > until_us)
		us = until_us;
	sim->steps = us == sim->now_us ? sim->steps + 1 : 0;
	if (sim->steps > SPIN_MAX)
		sim_wrong(sim, "time does not go on");
	sim->now_us = us;
	if (sim->wake_us <= sim->now_us)
		sim->wake_us = 0;
	if (sim->config.step)
		sim->config.step(sim, sim->config.user);
	dial_due(sim);
	for (unsigned i = 0; i < sim->conn_slots; i++)
		if (sim->conns[i] && sim->conns[i]->next_us <= sim->now_us)
			sim_conn_run(sim->conns[i]);
	sim_app_run(sim);
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		struct sim_host *host = &sim->hosts[side];
		if (host->dirty || session_next_us(host->session) <= sim->now_us)
			run_host(host);
		check_host(host);
	}
	sweep(sim);
	return !idle;
}

bool sim_run_until(struct sim *sim, uint64_t us)
{
	while (sim->now_us < us && !sim->wrong[0])
		step(sim, us);
	return !sim->wrong[0];
}

static bool all_quiet(struct sim *sim)
{
	if (!sim_app_done(sim))
		return false;
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		struct session_stats stats;
		session_get_stats(sim->hosts[side].session, &stats);
		if (stats.flows || stats.egress_pages || stats.ingress_pages || stats.promised_bytes)
			return false;
	}
	return true;
}

bool sim_run(struct sim *sim, uint64_t for_us)
{
	uint64_t until_us = sim->now_us + for_us;
	bool goes_on = true;

	while (!sim->wrong[0] && goes_on && sim->now_us < until_us) {
		goes_on = step(sim, until_us);
		if (all_quiet(sim))
			return !sim->wrong[0];
	}
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		struct session_stats stats;
		session_get_stats(sim->hosts[side].session, &stats);
		sim_wrong(sim, "%s: side %u has %u flows, %llu + %llu pages, %llu bytes promised",
		          goes_on ? "too slow" : "stuck", side, stats.flows, (unsigned long long)stats.egress_pages,
		          (unsigned long long)stats.ingress_pages, (unsigned long long)stats.promised_bytes);
	}
	return false;
}
