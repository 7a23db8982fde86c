#include "sim_net.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/core/memory.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"

enum {
	MSS = 1448,
	RING_BYTES = 1 << 20,
	REDIAL_US = 200000,
	START_US = 1000000,
	SPIN_MAX = 20000,
	SETTLE_MAX = 64,
	SLICES = 16
};

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

/* --- Connections --------------------------------------------------------------------------------------------------*/

static void dial(struct sim *sim, unsigned path, unsigned index)
{
	unsigned slot = 0;

	while (slot < SIM_CONNS && sim->conns[slot])
		slot++;
	struct sim_conn *conn = slot < SIM_CONNS ? calloc(1, sizeof *conn) : NULL;
	if (!conn)
		abort();
	uint32_t mss = sim->config.mss ? sim->config.mss : MSS;
	uint32_t ring = mss > MSS ? 4 * RING_BYTES : RING_BYTES;
	for (unsigned side = 0; side < SIM_SIDES; side++)
		if (!sim_pipe_init(&conn->pipes[side], &sim->links[path][side], &sim->seed, ring, mss))
			abort();
	conn->sim = sim;
	conn->path = path;
	conn->index = index;
	conn->open_us = sim->now_us + 2 * (uint64_t)sim->config.paths[path].delay_us + 1;
	frame_reader_init(&conn->greeting);
	sim->conns[slot] = conn;
	if (slot >= sim->conn_slots)
		sim->conn_slots = slot + 1;
}

static unsigned side_of(const struct stripe *stripe)
{
	const struct sim_conn *conn = stripe->user;

	return conn->stripes[SIM_CLIENT] == stripe ? SIM_CLIENT : SIM_SERVER;
}

/* This side's socket is closed; the other side will hear of it. */
static void close_end(struct sim_conn *conn, unsigned side)
{
	struct sim *sim = conn->sim;
	const struct sim_path *path = &sim->config.paths[conn->path];
	struct stripe *stripe = conn->stripes[side];

	if (conn->closed[side])
		return;
	conn->closed[side] = true;
	conn->stripes[side] = NULL;
	conn->retry_us[side] = 0;
	conn->pipes[side].frozen = true;
	if (stripe)
		session_stripe_lost(stripe, sim->now_us);
	if (!conn->closed[!side] && !conn->lost_us[!side])
		conn->lost_us[!side] = sim->now_us + path->delay_us + 1;
	if (side == SIM_CLIENT)
		sim->redial_us[conn->path][conn->index] =
		        sim->now_us + (sim->config.redial_us ? sim->config.redial_us : REDIAL_US);
	sim->hosts[side].dirty = true;
	sim_note(sim, conn->path, conn->index, 10 + side);
}

static void report(struct sim_conn *conn, unsigned side)
{
	struct stripe *stripe = conn->stripes[side];
	struct stripe_info info;
	uint32_t room = sim_pipe_room(&conn->pipes[side]);

	sim_pipe_info(&conn->pipes[side], &info);
	room = room > stripe->output_bytes ? room - (uint32_t)stripe->output_bytes : 0;
	session_stripe_info(stripe, &info, room, conn->sim->now_us);
}

static void write_out(struct sim_conn *conn, unsigned side)
{
	struct sim *sim = conn->sim;
	struct sim_pipe *pipe = &conn->pipes[side];
	struct stripe *stripe = conn->stripes[side];
	struct iovec slices[SLICES];
	unsigned count;

	conn->retry_us[side] = 0;
	while ((count = stripe_output_peek(stripe, slices, SLICES)) > 0) {
		size_t total = 0;
		for (unsigned i = 0; i < count; i++) {
			size_t want = slices[i].iov_len;
			if (sim->config.partial && unit_chance(&sim->seed, 1, 10))
				want = unit_below(&sim->seed, want);
			size_t done = sim_pipe_write(pipe, slices[i].iov_base, want);
			if (sim->config.wire)
				sim->config.wire(conn, side, slices[i].iov_base, done, sim->config.user);
			total += done;
			if (done < want)
				want = slices[i].iov_len; /* full: goes on when acknowledgements come */
			else if (want < slices[i].iov_len)
				conn->retry_us[side] = sim->now_us + 1 + unit_below(&sim->seed, 2000);
			if (done < slices[i].iov_len)
				break;
		}
		sim_note(sim, conn->path, total, 12 + side);
		stripe_output_consume(stripe, total);
		conn->wrote[side] = true;
		if (!total || conn->retry_us[side])
			break;
		sim_pipe_run(pipe, sim->now_us);
	}
}

static void on_output(void *user, struct stripe *stripe)
{
	struct sim_host *host = user;
	struct sim_conn *conn = stripe->user;
	unsigned side = side_of(stripe);

	if (stripe->error) {
		if (strcmp(stripe->error, "the far end has restarted"))
			sim_wrong(host->sim, "side %u closes a stripe: %s", side, stripe->error);
		close_end(conn, side);
		return;
	}
	if (!conn->retry_us[side])
		write_out(conn, side);
}

static void on_measure(void *user, struct stripe *stripe)
{
	report(stripe->user, side_of(stripe));
}

static void on_event(void *user, const struct session_event_info *info)
{
	struct sim_host *host = user;

	host->events[info->event]++;
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

/* The server knows a stripe's session only when its HELLO has come. True: the stripe is there. */
static bool greet(struct sim_conn *conn, const uint8_t **at, const uint8_t *end)
{
	struct sim_host *host = &conn->sim->hosts[SIM_SERVER];
	struct frame f;
	int got = frame_reader_next(&conn->greeting, at, end, &f);

	if (!got)
		return false;
	if (got < 0 || f.type != FRAME_HELLO) {
		sim_wrong(conn->sim, "a stripe does not begin with HELLO");
		return false;
	}
	conn->stripes[SIM_SERVER] = session_stripe_accepted(host->session, &f.hello, conn, conn->sim->now_us);
	if (!conn->stripes[SIM_SERVER])
		close_end(conn, SIM_SERVER);
	return conn->stripes[SIM_SERVER];
}

static void feed(struct sim_conn *conn, unsigned to, const uint8_t *bytes, size_t len)
{
	struct sim *sim = conn->sim;
	const uint8_t *end = bytes + len;

	if (to == SIM_SERVER && !conn->closed[to] && !conn->stripes[to] && !greet(conn, &bytes, end))
		return;
	if (!conn->stripes[to])
		return;
	sim->hosts[to].dirty = true;
	if (session_stripe_in(conn->stripes[to], bytes, (size_t)(end - bytes), sim->now_us)) {
		sim_wrong(sim, "side %u refuses what a stripe brought: %s", to, conn->stripes[to]->error);
		close_end(conn, to);
	}
}

static void deliver(struct sim_conn *conn, unsigned from)
{
	struct sim *sim = conn->sim;
	struct sim_pipe *pipe = &conn->pipes[from];
	const uint8_t *bytes;
	size_t len;

	while ((len = sim_pipe_arrived(pipe, sim->now_us, &bytes)) > 0) {
		if (sim->config.partial && unit_chance(&sim->seed, 1, 3))
			len = 1 + unit_below(&sim->seed, len);
		sim_note(sim, conn->path * 64 + conn->index, len, 20 + from);
		sim->delivered[conn->path] += len;
		feed(conn, !from, bytes, len);
		sim_pipe_taken(pipe, len);
	}
}

struct sim_conn *sim_find_conn(struct sim *sim, unsigned path, unsigned index)
{
	for (unsigned i = 0; i < sim->conn_slots; i++) {
		struct sim_conn *conn = sim->conns[i];
		if (conn && conn->path == path && conn->index == index && !conn->closed[SIM_CLIENT] &&
		    !conn->lost_us[SIM_CLIENT])
			return conn;
	}
	return NULL;
}

void sim_kill(struct sim *sim, struct sim_conn *conn, bool silent)
{
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		struct sim_pipe *pipe = &conn->pipes[side];
		const uint8_t *bytes;
		size_t len = sim_pipe_arrived(pipe, UINT64_MAX, &bytes);

		if (!pipe->frozen && len) {
			len = unit_below(&sim->seed, len + 1);
			feed(conn, !side, bytes, len);
			sim_pipe_taken(pipe, len);
		}
		uint64_t delay_us = silent ? 300 * SIM_MS + unit_below(&sim->seed, 3 * SIM_SECOND) : 1;
		if (!conn->lost_us[side])
			conn->lost_us[side] = sim->now_us + delay_us;
	}
	conn->pipes[0].frozen = conn->pipes[1].frozen = true;
	sim_note(sim, conn->path, conn->index, 14);
}

void sim_path_down(struct sim *sim, unsigned path, bool silent)
{
	sim->path_down[path] = true;
	for (unsigned i = 0; i < sim->conn_slots; i++)
		if (sim->conns[i] && sim->conns[i]->path == path)
			sim_kill(sim, sim->conns[i], silent);
}

void sim_path_up(struct sim *sim, unsigned path)
{
	sim->path_down[path] = false;
}

static void free_conn(struct sim_conn *conn)
{
	for (unsigned side = 0; side < SIM_SIDES; side++)
		sim_pipe_fini(&conn->pipes[side]);
	free(conn);
}

/* --- Life ---------------------------------------------------------------------------------------------------------*/

static bool start_session(struct sim *sim, unsigned side)
{
	struct session_config config = {.role = side == SIM_CLIENT ? SESSION_CLIENT : SESSION_SERVER,
	                                .limits = sim->config.limits};

	for (unsigned i = 0; i < FRAME_ID_BYTES; i++) {
		config.id[i] = (uint8_t)i;
		config.incarnation[i] = (uint8_t)unit_random(&sim->seed);
	}
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
			free_conn(sim->conns[i]);
	for (uint32_t i = 0; i < sim->flow_count; i++)
		free(sim->flows[i]);
	free(sim->flows);
	free(sim);
}

/* --- The loop -----------------------------------------------------------------------------------------------------*/

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return b < a ? b : a;
}

static uint64_t timer(uint64_t at_us)
{
	return at_us ? at_us : UINT64_MAX;
}

static uint64_t conn_next_us(const struct sim_conn *conn)
{
	uint64_t us = timer(conn->open_us);

	for (unsigned side = 0; side < SIM_SIDES; side++) {
		us = sooner(us, sim_pipe_next_us(&conn->pipes[side]));
		us = sooner(us, timer(conn->lost_us[side]));
		us = sooner(us, timer(conn->retry_us[side]));
	}
	return us;
}

static uint64_t next_us(struct sim *sim)
{
	uint64_t us = sooner(sim_app_next_us(sim), timer(sim->wake_us));

	for (unsigned side = 0; side < SIM_SIDES; side++)
		us = sooner(us, sim->hosts[side].dirty ? 0 : session_next_us(sim->hosts[side].session));
	for (unsigned i = 0; i < sim->conn_slots; i++) {
		struct sim_conn *conn = sim->conns[i];
		if (!conn)
			continue;
		conn->next_us = conn_next_us(conn);
		us = sooner(us, conn->next_us);
	}
	for (unsigned p = 0; p < sim->config.path_count; p++)
		for (unsigned i = 0; !sim->path_down[p] && i < sim->config.paths[p].stripes; i++)
			us = sooner(us, timer(sim->redial_us[p][i]));
	return us;
}

static bool due(uint64_t at_us, uint64_t now_us)
{
	return at_us && at_us <= now_us;
}

static void open_conn(struct sim_conn *conn)
{
	struct sim *sim = conn->sim;
	const struct sim_path *path = &sim->config.paths[conn->path];
	struct hello hello = {.path = (uint16_t)conn->path,
	                      .index = (uint16_t)conn->index,
	                      .stripes = (uint16_t)path->stripes,
	                      .backup = path->backup,
	                      .reinject_percent = path->budget ? path->budget - 1 : 100,
	                      .congestion = "bbr"};

	conn->open_us = 0;
	if (conn->closed[SIM_CLIENT])
		return;
	sim->hosts[SIM_CLIENT].dirty = true;
	conn->stripes[SIM_CLIENT] = session_stripe_dialled(sim->hosts[SIM_CLIENT].session, &hello, conn, sim->now_us);
	if (!conn->stripes[SIM_CLIENT])
		close_end(conn, SIM_CLIENT);
}

/* What the kernels and the wire do. */
static void run_conn(struct sim_conn *conn)
{
	struct sim *sim = conn->sim;

	if (due(conn->open_us, sim->now_us))
		open_conn(conn);
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		if (due(conn->lost_us[side], sim->now_us)) {
			conn->lost_us[side] = 0;
			close_end(conn, side);
		}
		bool writable = sim_pipe_run(&conn->pipes[side], sim->now_us);
		deliver(conn, side);
		writable = sim_pipe_run(&conn->pipes[side], sim->now_us) || writable;
		if (!conn->stripes[side])
			continue;
		bool retry = due(conn->retry_us[side], sim->now_us);
		if (retry || (writable && conn->stripes[side]->output_bytes && !conn->retry_us[side]))
			write_out(conn, side);
		if (retry ||
		    (writable && sim_pipe_room(&conn->pipes[side]) >= sim_pipe_lowat(&conn->pipes[side]) / 2)) {
			report(conn, side);
			sim->hosts[side].dirty = true;
		}
	}
}

static void dial_due(struct sim *sim)
{
	for (unsigned p = 0; p < sim->config.path_count; p++)
		for (unsigned i = 0; !sim->path_down[p] && i < sim->config.paths[p].stripes; i++)
			if (due(sim->redial_us[p][i], sim->now_us)) {
				sim->redial_us[p][i] = 0;
				dial(sim, p, i);
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
			report(conn, host->side);
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
		free_conn(conn);
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
			run_conn(sim->conns[i]);
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
