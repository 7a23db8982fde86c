#include "sim_conn.h"

#include <stdlib.h>

#include "../unit/unit_random.h"
#include "sim_time.h"

enum { MSS = 1448, RING_BYTES = 1 << 20, REDIAL_US = 200000, SLICES = 16 };

void sim_conn_dial(struct sim *sim, unsigned path, unsigned index)
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

void sim_conn_free(struct sim_conn *conn)
{
	for (unsigned side = 0; side < SIM_SIDES; side++)
		sim_pipe_fini(&conn->pipes[side]);
	free(conn);
}

/* This side's socket is closed; the other side will hear of it. */
void sim_conn_close(struct sim_conn *conn, unsigned side)
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

void sim_conn_report(struct sim_conn *conn, unsigned side)
{
	struct stripe *stripe = conn->stripes[side];
	struct stripe_info info;
	uint32_t room = sim_pipe_room(&conn->pipes[side]);

	sim_pipe_info(&conn->pipes[side], &info);
	room = room > stripe->output_bytes ? room - (uint32_t)stripe->output_bytes : 0;
	session_stripe_info(stripe, &info, room, conn->sim->now_us);
}

void sim_conn_write(struct sim_conn *conn, unsigned side)
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
	/* There is room for one: another id ends the one before, which in a proxy would wait for its timeout. */
	if (memcmp(host->peer, f.hello.session, FRAME_ID_BYTES) != 0) {
		session_expire(host->session, conn->sim->now_us);
		memcpy(host->peer, f.hello.session, FRAME_ID_BYTES);
	}
	conn->stripes[SIM_SERVER] = session_stripe_accepted(host->session, &f.hello, conn, conn->sim->now_us);
	if (!conn->stripes[SIM_SERVER])
		sim_conn_close(conn, SIM_SERVER);
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
		sim_conn_close(conn, to);
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

uint64_t sim_conn_next_us(const struct sim_conn *conn)
{
	uint64_t us = sim_timer(conn->open_us);

	for (unsigned side = 0; side < SIM_SIDES; side++) {
		us = sim_sooner(us, sim_pipe_next_us(&conn->pipes[side]));
		us = sim_sooner(us, sim_timer(conn->lost_us[side]));
		us = sim_sooner(us, sim_timer(conn->retry_us[side]));
	}
	return us;
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
		sim_conn_close(conn, SIM_CLIENT);
}

/* What the kernels and the wire do. */
void sim_conn_run(struct sim_conn *conn)
{
	struct sim *sim = conn->sim;

	if (sim_due(conn->open_us, sim->now_us))
		open_conn(conn);
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		if (sim_due(conn->lost_us[side], sim->now_us)) {
			conn->lost_us[side] = 0;
			sim_conn_close(conn, side);
		}
		bool writable = sim_pipe_run(&conn->pipes[side], sim->now_us);
		deliver(conn, side);
		writable = sim_pipe_run(&conn->pipes[side], sim->now_us) || writable;
		if (!conn->stripes[side])
			continue;
		bool retry = sim_due(conn->retry_us[side], sim->now_us);
		if (retry || (writable && conn->stripes[side]->output_bytes && !conn->retry_us[side]))
			sim_conn_write(conn, side);
		if (retry ||
		    (writable && sim_pipe_room(&conn->pipes[side]) >= sim_pipe_lowat(&conn->pipes[side]) / 2)) {
			sim_conn_report(conn, side);
			sim->hosts[side].dirty = true;
		}
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
