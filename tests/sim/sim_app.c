/* Simulated applications: they write, read and compare, slowly or fast, end, reset and refuse, as their plan says. */
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "../unit/unit_random.h"
#include "sim_net.h"
#include "sim_time.h"

enum { SLICES = 8, CHUNK = 20000, READ_STEP_US = 10000 };

/* --- Content ------------------------------------------------------------------------------------------------------*/

static uint64_t word_at(uint64_t key, uint64_t number)
{
	uint64_t z = (number + key) * 0x9e3779b97f4a7c15u;

	return z ^ z >> 29;
}

static uint64_t key_of(const struct sim_flow *sim_flow, unsigned side)
{
	uint64_t state = 2 * (uint64_t)sim_flow->index + side + 1;

	return unit_random(&state) >> 8;
}

static void content(uint64_t key, uint64_t offset, uint8_t *bytes, size_t len)
{
	while (len) {
		uint64_t word = word_at(key, offset / 8);
		size_t skip = offset % 8, piece = 8 - skip < len ? 8 - skip : len;

		if (piece == 8)
			memcpy(bytes, &word, 8);
		else
			memcpy(bytes, (uint8_t *)&word + skip, piece);
		bytes += piece;
		offset += piece;
		len -= piece;
	}
}

static bool content_is(uint64_t key, uint64_t offset, const uint8_t *bytes, size_t len)
{
	uint64_t difference = 0;

	while (len) {
		uint64_t word = word_at(key, offset / 8), got = word;
		size_t skip = offset % 8, piece = 8 - skip < len ? 8 - skip : len;

		if (piece == 8)
			memcpy(&got, bytes, 8);
		else
			memcpy((uint8_t *)&got + skip, bytes, piece);
		difference |= word ^ got;
		bytes += piece;
		offset += piece;
		len -= piece;
	}
	return !difference;
}

/* --- Ends ---------------------------------------------------------------------------------------------------------*/

static struct sim_host *host_of(struct sim_end *end)
{
	return &end->sim->hosts[end->side];
}

static void leave(struct sim_end *end, enum reset_reason reason)
{
	end->flow = NULL;
	end->over = true;
	end->over_us = end->sim->now_us;
	end->reason = reason;
	end->write_us = end->read_us = end->connect_us = 0;
	host_of(end)->dirty = true;
	sim_note(end->sim, end->sim_flow->index, end->side, 100 + reason);
}

void sim_reset(struct sim_end *end)
{
	flow_reset(end->flow, end->sim_flow->plan.reset_reason);
	leave(end, end->sim_flow->plan.reset_reason);
}

/* --- Writing ------------------------------------------------------------------------------------------------------*/

static size_t write_some(struct sim_end *end, size_t len)
{
	struct sim *sim = end->sim;
	struct iovec slices[SLICES];
	uint64_t key = key_of(end->sim_flow, end->side);
	unsigned max = 1 + (unsigned)unit_below(&sim->seed, SLICES);
	unsigned count = flow_reserve(end->flow, len, slices, max);
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t piece = slices[i].iov_len < len - done ? slices[i].iov_len : len - done;
		if (slices[i].iov_len > len)
			sim_wrong(sim, "flow_reserve gave %zu bytes for %zu", slices[i].iov_len, len);
		if (unit_chance(&sim->seed, 1, 30))
			piece = unit_below(&sim->seed, piece + 1);
		content(key, end->written + done, slices[i].iov_base, piece);
		done += piece;
		if (piece < slices[i].iov_len)
			break;
	}
	if (count)
		flow_commit(end->flow, done);
	else
		end->waits = true;
	return done;
}

static void write_all(struct sim_end *end)
{
	const struct sim_plan *plan = &end->sim_flow->plan;
	uint64_t total = plan->bytes[end->side];
	uint32_t chunk = plan->chunk[end->side] ? plan->chunk[end->side] : CHUNK;

	end->write_us = 0;
	if (!end->flow || end->ended_write || (plan->answers && end->side == SIM_SERVER && !end->ended_read))
		return;
	while (end->written < total && !end->waits) {
		uint64_t len = 1 + unit_below(&end->sim->seed, chunk), left = total - end->written;
		size_t done = write_some(end, (size_t)(len < left ? len : left));

		end->written += done;
		host_of(end)->dirty |= done > 0;
		if (plan->pause_us[end->side] && end->written < total) {
			end->write_us = end->sim->now_us + plan->pause_us[end->side];
			return;
		}
	}
	if (end->written == total && !plan->never_ends) {
		flow_end(end->flow);
		end->ended_write = true;
		host_of(end)->dirty = true;
	}
}

/* --- Reading ------------------------------------------------------------------------------------------------------*/

static void take(struct sim_end *end, const struct iovec *slices, unsigned count, size_t len)
{
	struct sim_flow *sim_flow = end->sim_flow;
	uint64_t key = key_of(sim_flow, !end->side), at = end->read;
	size_t left = len;

	for (unsigned i = 0; i < count && left; i++) {
		size_t piece = slices[i].iov_len < left ? slices[i].iov_len : left;
		if (!content_is(key, at, slices[i].iov_base, piece))
			sim_wrong(end->sim, "flow %u: wrong bytes for side %u at %llu..%llu", sim_flow->index,
			          end->side, (unsigned long long)at, (unsigned long long)(at + piece));
		at += piece;
		left -= piece;
	}
	if (at > sim_flow->ends[!end->side].written)
		sim_wrong(end->sim, "flow %u: side %u read more than was written", sim_flow->index, end->side);
	if (!end->first_read_us)
		end->first_read_us = end->last_read_us = end->sim->now_us;
	if (end->sim->now_us - end->last_read_us > end->gap_us)
		end->gap_us = end->sim->now_us - end->last_read_us;
	end->last_read_us = end->sim->now_us;
	end->read = at;
	flow_consume(end->flow, len);
}

static void read_end(struct sim_end *end)
{
	if (!end->flow || !flow_at_end(end->flow))
		return;
	if (!end->sim_flow->ends[!end->side].ended_write || end->read != end->sim_flow->ends[!end->side].written)
		sim_wrong(end->sim, "flow %u: side %u read an end at %llu that was not written", end->sim_flow->index,
		          end->side, (unsigned long long)end->read);
	flow_end_taken(end->flow);
	end->ended_read = true;
	sim_note(end->sim, end->sim_flow->index, end->side, 50);
	write_all(end);
}

static void read_all(struct sim_end *end)
{
	struct sim *sim = end->sim;
	const struct sim_plan *plan = &end->sim_flow->plan;
	uint64_t quantum = UINT64_MAX;

	end->read_us = 0;
	if (plan->holds[end->side] && sim->now_us < plan->release_us) {
		end->read_us = plan->release_us;
		return;
	}
	if (plan->read_Bps[end->side])
		quantum = (uint64_t)plan->read_Bps[end->side] * READ_STEP_US / SIM_SECOND + 1;
	while (end->flow && quantum) {
		struct iovec slices[SLICES];
		unsigned count = flow_peek(end->flow, slices, 1 + (unsigned)unit_below(&sim->seed, SLICES));
		size_t len = 0;

		for (unsigned i = 0; i < count; i++)
			len += slices[i].iov_len;
		if (!len)
			break;
		if (unit_chance(&sim->seed, 1, 10))
			len = 1 + unit_below(&sim->seed, len);
		if (len > quantum)
			len = quantum;
		quantum -= len;
		take(end, slices, count, len);
		if (plan->reset_at[end->side] && end->read >= plan->reset_at[end->side])
			sim_reset(end);
	}
	if (end->flow && !quantum)
		end->read_us = sim->now_us + READ_STEP_US;
	read_end(end);
	host_of(end)->dirty = true;
}

/* --- Callbacks ----------------------------------------------------------------------------------------------------*/

static struct sim_end *end_of(struct sim_host *host, const struct flow *flow)
{
	struct sim_end *end = flow->user;

	if (!end || end->side != host->side || end->flow != flow || end->over) {
		sim_wrong(host->sim, "side %u: a callback for a flow that is not its application's", host->side);
		return NULL;
	}
	return end;
}

void sim_app_result(void *user, struct flow *flow, enum open_status status)
{
	struct sim_end *end = end_of(user, flow);

	if (!end)
		return;
	if (end->side != SIM_CLIENT || end->sim_flow->result_us)
		sim_wrong(end->sim, "flow %u: a second answer, or one at the server", end->sim_flow->index);
	end->sim_flow->status = status;
	end->sim_flow->result_us = end->sim->now_us;
	sim_note(end->sim, end->sim_flow->index, 30, status);
	if (status != OPEN_CONNECTED) {
		leave(end, RESET_NONE);
		return;
	}
	end->opened = true;
	write_all(end);
}

void sim_app_open(void *user, struct flow *flow)
{
	struct sim_host *host = user;
	struct sim *sim = host->sim;
	uint32_t index;

	memcpy(&index, flow->syn.dst.ip, sizeof index);
	if (index >= sim->flow_count || sim->flows[index]->ends[SIM_SERVER].flow ||
	    sim->flows[index]->ends[SIM_SERVER].over) {
		sim_wrong(sim, "flow %u was opened twice, or by nobody", index);
		return;
	}
	struct sim_end *end = &sim->flows[index]->ends[SIM_SERVER];
	end->flow = flow;
	flow->user = end;
	end->connect_us = sim->now_us + sim->flows[index]->plan.connect_us;
	sim_note(sim, index, 31, 0);
}

static void connected(struct sim_end *end)
{
	enum open_status status = end->sim_flow->plan.status;

	end->connect_us = 0;
	flow_connected(end->flow, status);
	host_of(end)->dirty = true;
	if (status != OPEN_CONNECTED) {
		leave(end, RESET_NONE);
		return;
	}
	end->opened = true;
	write_all(end);
}

void sim_app_readable(void *user, struct flow *flow)
{
	struct sim_end *end = end_of(user, flow);

	if (!end)
		return;
	if (!end->opened)
		sim_wrong(end->sim, "flow %u: readable at side %u before it is open", end->sim_flow->index, end->side);
	if (end->read_us > end->sim->now_us)
		return; /* reads at its own time */
	read_all(end);
}

void sim_app_writable(void *user, struct flow *flow)
{
	struct sim_end *end = end_of(user, flow);

	if (!end)
		return;
	if (!end->waits)
		sim_wrong(end->sim, "flow %u: writable at side %u, which did not wait", end->sim_flow->index,
		          end->side);
	end->waits = false;
	if (!end->write_us)
		write_all(end);
}

void sim_app_ended(void *user, struct flow *flow, enum reset_reason reason)
{
	struct sim_end *end = end_of(user, flow);

	if (!end)
		return;
	if (reason == RESET_NONE && (!end->ended_read || !end->ended_write))
		sim_wrong(end->sim, "flow %u ended in order at side %u, whose directions are open",
		          end->sim_flow->index, end->side);
	leave(end, reason);
}

/* --- The round ----------------------------------------------------------------------------------------------------*/

static void start(struct sim *sim, struct sim_flow *sim_flow)
{
	struct sim_end *end = &sim_flow->ends[SIM_CLIENT];
	struct syn syn = {
	        .src = {.family = ADDR_IPV4, .port = 1}, .dst = {.family = ADDR_IPV4, .port = 80}, .window_scale = 7};

	memcpy(syn.dst.ip, &sim_flow->index, sizeof sim_flow->index);
	if (!session_can_open(sim->hosts[SIM_CLIENT].session))
		return;
	end->flow = session_open(sim->hosts[SIM_CLIENT].session, &syn, end, sim->now_us);
	if (!end->flow)
		return; /* memory: tries again */
	sim_flow->started = true;
	sim_flow->started_us = sim->now_us;
	sim->hosts[SIM_CLIENT].dirty = true;
	sim_note(sim, sim_flow->index, 32, 0);
	if (sim_flow->plan.early)
		write_all(end);
}

static bool flow_done(const struct sim_flow *sim_flow)
{
	const struct sim_end *ends = sim_flow->ends;

	if (!sim_flow->started)
		return false;
	/* A flow that the client gave up early may never have reached the server. */
	return ends[SIM_CLIENT].over && (ends[SIM_SERVER].over || !ends[SIM_SERVER].flow);
}

uint64_t sim_app_next_us(const struct sim *sim)
{
	uint64_t next_us = UINT64_MAX;

	for (uint32_t i = sim->first_unfinished; i < sim->flow_count; i++) {
		const struct sim_flow *f = sim->flows[i];
		if (!f->started) {
			uint64_t at_us = f->plan.start_us > sim->now_us ? f->plan.start_us : sim->now_us + 5 * SIM_MS;
			next_us = sim_sooner(next_us, at_us);
		}
		for (unsigned side = 0; side < SIM_SIDES; side++) {
			next_us = sim_sooner(next_us, sim_timer(f->ends[side].write_us));
			next_us = sim_sooner(next_us, sim_timer(f->ends[side].read_us));
			next_us = sim_sooner(next_us, sim_timer(f->ends[side].connect_us));
		}
	}
	return next_us;
}

void sim_app_run(struct sim *sim)
{
	for (uint32_t i = sim->first_unfinished; i < sim->flow_count; i++) {
		struct sim_flow *f = sim->flows[i];
		if (!f->started && f->plan.start_us <= sim->now_us)
			start(sim, f);
		for (unsigned side = 0; side < SIM_SIDES; side++) {
			struct sim_end *end = &f->ends[side];
			if (sim_due(end->connect_us, sim->now_us))
				connected(end);
			if (sim_due(end->read_us, sim->now_us))
				read_all(end);
			if (sim_due(end->write_us, sim->now_us))
				write_all(end);
		}
		if (i == sim->first_unfinished && flow_done(f))
			sim->first_unfinished++;
	}
}

bool sim_app_done(struct sim *sim)
{
	for (uint32_t i = sim->first_unfinished; i < sim->flow_count; i++)
		if (!flow_done(sim->flows[i]))
			return false;
	return true;
}

void sim_app_server_gone(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->flow_count; i++)
		if (sim->flows[i]->ends[SIM_SERVER].flow)
			leave(&sim->flows[i]->ends[SIM_SERVER], RESET_SESSION);
}

/* --- Adding and checking ------------------------------------------------------------------------------------------*/

struct sim_flow *sim_add(struct sim *sim, const struct sim_plan *plan)
{
	if (sim->flow_count == sim->flow_capacity) {
		uint32_t capacity = sim->flow_capacity ? 2 * sim->flow_capacity : 16;
		struct sim_flow **flows = reallocarray(sim->flows, capacity, sizeof *flows);
		if (!flows)
			abort();
		sim->flows = flows;
		sim->flow_capacity = capacity;
	}
	struct sim_flow *f = calloc(1, sizeof *f);
	if (!f)
		abort();
	f->plan = *plan;
	f->index = sim->flow_count;
	for (unsigned side = 0; side < SIM_SIDES; side++)
		f->ends[side] = (struct sim_end){.sim = sim, .sim_flow = f, .side = side};
	sim->flows[sim->flow_count++] = f;
	return f;
}

bool sim_flow_check(const struct sim *sim, const struct sim_flow *f)
{
	bool resets = f->plan.reset_at[0] || f->plan.reset_at[1];
	const struct sim_end *ends = f->ends;

	if (!f->started || f->status != f->plan.status || (!f->result_us && !resets)) {
		UNIT_FAIL("seed %llu: flow %u: answered %s, not %s", (unsigned long long)sim->config.seed, f->index,
		          f->result_us ? open_status_name(f->status) : "nothing", open_status_name(f->plan.status));
		return false;
	}
	for (unsigned side = 0; side < SIM_SIDES; side++) {
		enum reset_reason want = resets ? f->plan.reset_reason : RESET_NONE;
		/* The other end resets, but this one had everything by then. */
		bool complete =
		        resets && ends[side].reason == RESET_NONE && ends[side].ended_read && ends[side].ended_write;
		if (!ends[side].over || (ends[side].reason != want && !complete)) {
			UNIT_FAIL("seed %llu: flow %u: side %u is %s (%s), has read %llu of %llu",
			          (unsigned long long)sim->config.seed, f->index, side,
			          ends[side].over ? "over" : "not over", reset_reason_name(ends[side].reason),
			          (unsigned long long)ends[side].read, (unsigned long long)f->plan.bytes[!side]);
			return false;
		}
		if (!resets && f->status == OPEN_CONNECTED &&
		    (ends[side].read != f->plan.bytes[!side] || !ends[side].ended_read)) {
			UNIT_FAIL("seed %llu: flow %u: side %u has read %llu of %llu",
			          (unsigned long long)sim->config.seed, f->index, side,
			          (unsigned long long)ends[side].read, (unsigned long long)f->plan.bytes[!side]);
			return false;
		}
	}
	return true;
}

void sim_check(const struct sim *sim)
{
	if (sim->wrong[0])
		UNIT_FAIL("seed %llu, %llu us: %s", (unsigned long long)sim->config.seed,
		          (unsigned long long)sim->now_us, sim->wrong);
	for (uint32_t i = 0; i < sim->flow_count; i++)
		if (!sim_flow_check(sim, sim->flows[i]))
			break;
}
