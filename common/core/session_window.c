/* Ingress memory: what is promised, what is advertised, when a data ack is owed.
 *
 * A window is a promise, so its bytes are set aside before it is advertised. Each flow has FRAME_FIRST_WINDOW_BYTES for
 * as long as it lives, and more as it shows that it uses more: when the sender has come past the middle of the window
 * while the application keeps up, the window was (or will be) what limits it, and it doubles. This
 * measures rate × RTT over all paths without knowing either; waiting for a slow path's bytes counts as well, which is
 * what 2·ΣBW·RTTmax (RFC 6182, 5.3) asks room for. Half of the memory is kept for first windows, so that flows that
 * have grown do not keep new ones out; of the other half no flow takes more than what is still free (dynamic
 * thresholds, as in session_flow.c). And a window that the system could not back (memory_backs) is not opened.
 */
#include "memory.h"
#include "session_internal.h"

/* What the pages of a window take: it may begin and end within one. */
static uint64_t cost_of(uint64_t window_bytes)
{
	return ((window_bytes + PAGE_BYTES - 1) / PAGE_BYTES + 1) * PAGE_BYTES;
}

static uint64_t budget_of(const struct session *session)
{
	return (uint64_t)session->ingress_pool.limit * PAGE_BYTES;
}

static uint64_t free_bytes(const struct session *session)
{
	uint64_t budget = budget_of(session);
	return budget > session->promised_bytes ? budget - session->promised_bytes : 0;
}

static void promise(struct flow *flow)
{
	uint64_t window_bytes = flow->ingress.edge - flow->ingress.delivered;
	if (window_bytes < FRAME_FIRST_WINDOW_BYTES)
		window_bytes = FRAME_FIRST_WINDOW_BYTES;
	uint64_t bytes = cost_of(window_bytes);
	flow->session->promised_bytes += bytes - flow->promised_bytes;
	memory_promise((int64_t)(bytes - flow->promised_bytes));
	flow->promised_bytes = bytes;
}

bool window_fits(const struct session *session, uint32_t count)
{
	/* The pages of the egress are not promised, but each flow may always have one. */
	return free_bytes(session) >= count * cost_of(FRAME_FIRST_WINDOW_BYTES) &&
	       (uint64_t)session->flow_count + count <= session->egress_pool.limit;
}

bool window_admits(const struct session *session, uint32_t count)
{
	return memory_backs(count * cost_of(FRAME_FIRST_WINDOW_BYTES)) && window_fits(session, count);
}

/* What windows may still grow by, all together. */
static uint64_t growth_bytes(const struct session *session)
{
	/* Flows that are being reset count as well, and hold nothing. */
	uint64_t first_bytes = session->flow_count * cost_of(FRAME_FIRST_WINDOW_BYTES);
	uint64_t grown_bytes = session->promised_bytes > first_bytes ? session->promised_bytes - first_bytes : 0;
	uint64_t half = budget_of(session) / 2;
	uint64_t growth = half > grown_bytes ? half - grown_bytes : 0;
	if (memory_is_scarce())
		return 0;
	return growth < free_bytes(session) ? growth : free_bytes(session);
}

/* The widest window that memory allows the flow now: a `share`-th of what is left. */
static uint64_t allowed_bytes(const struct flow *flow, unsigned share)
{
	uint64_t max = growth_bytes(flow->session) / share;
	if (max > flow->session->config.limits.flow_window_bytes)
		max = flow->session->config.limits.flow_window_bytes;
	return max > FRAME_FIRST_WINDOW_BYTES ? max : FRAME_FIRST_WINDOW_BYTES;
}

/* Whether the system has what a window of that width takes. */
static bool is_backed(const struct flow *flow, uint64_t window_bytes)
{
	uint64_t bytes = cost_of(window_bytes);
	return bytes <= flow->promised_bytes || memory_backs(bytes - flow->promised_bytes);
}

void window_start(struct flow *flow)
{
	promise(flow);
	uint64_t bytes = allowed_bytes(flow, 16);
	flow->window_bytes = (uint32_t)(bytes < WINDOW_START_MAX ? bytes : WINDOW_START_MAX);
	if (!is_backed(flow, flow->window_bytes))
		flow->window_bytes = FRAME_FIRST_WINDOW_BYTES;
	flow->ingress.edge = flow->window_bytes;
	promise(flow);
}

static void cancel_ack_later(struct flow *flow)
{
	struct session *session = flow->session;
	if (!flow->ack_due_us)
		return;
	flow->ack_due_us = 0;
	if (flow->ack_prev)
		flow->ack_prev->ack_next = flow->ack_next;
	else
		session->ack_first = flow->ack_next;
	if (flow->ack_next)
		flow->ack_next->ack_prev = flow->ack_prev;
	else
		session->ack_last = flow->ack_prev;
}

void window_release(struct flow *flow)
{
	flow->session->promised_bytes -= flow->promised_bytes;
	memory_promise(-(int64_t)flow->promised_bytes);
	flow->promised_bytes = 0;
	cancel_ack_later(flow);
}

void window_ack_later(struct flow *flow)
{
	struct session *session = flow->session;
	if (flow->ack_due_us || flow->control & FLOW_CONTROL_ACK)
		return;
	flow->ack_due_us = session->now_us + ACK_DELAY_US;
	flow->ack_next = NULL;
	flow->ack_prev = session->ack_last;
	if (session->ack_last)
		session->ack_last->ack_next = flow;
	else
		session->ack_first = flow;
	session->ack_last = flow;
}

static void ack_now(struct flow *flow)
{
	cancel_ack_later(flow);
	session_add_control(flow, FLOW_CONTROL_ACK);
}

/* The window is, or will be, what limits the sender: it has come past the middle, or the application took half of it
 * within a round trip (dynamic right-sizing, Fisk and Feng, LACSI 2001). */
static bool measure_narrow(struct flow *flow)
{
	const struct ingress *in = &flow->ingress;
	const struct session *session = flow->session;
	uint64_t took_us = session->now_us - flow->round_us, rtt_us = session->longest_rtt_us;
	uint64_t taken_bytes = in->delivered - flow->round_offset;
	bool round_over = rtt_us && took_us >= rtt_us;
	if (round_over) {
		flow->round_us = session->now_us;
		flow->round_offset = in->delivered;
	}
	return in->highest + flow->window_bytes / 2 > in->edge ||
	       (round_over && taken_bytes * rtt_us / took_us > flow->window_bytes / 2);
}

void window_update(struct flow *flow)
{
	struct ingress *in = &flow->ingress;
	bool app_keeps_up = !ingress_readable(in);
	uint64_t max_bytes = flow->session->config.limits.flow_window_bytes;
	bool moved = false;

	if (app_keeps_up && flow->window_bytes < max_bytes && measure_narrow(flow)) {
		uint64_t doubled = 2 * (uint64_t)flow->window_bytes;
		flow->window_bytes = (uint32_t)(doubled < max_bytes ? doubled : max_bytes);
	}
	promise(flow);
	uint64_t window_bytes = allowed_bytes(flow, 1);
	/* What it holds already is not in the free part. */
	uint64_t held_bytes = in->edge - in->delivered;
	if (window_bytes < held_bytes)
		window_bytes = held_bytes;
	if (window_bytes > flow->window_bytes)
		window_bytes = flow->window_bytes;
	if (window_bytes < FRAME_FIRST_WINDOW_BYTES || !is_backed(flow, window_bytes))
		window_bytes = FRAME_FIRST_WINDOW_BYTES;
	uint64_t edge = in->delivered + window_bytes;
	/* In steps: an edge that creeps would cost an ack for every read. */
	if (edge >= in->edge + window_bytes / 4 && in->end == UINT64_MAX) {
		in->edge = edge;
		promise(flow);
		moved = true;
	}
	uint64_t owed_bytes = in->next - flow->acked;
	uint64_t often = flow->window_bytes / 8 < ACK_BYTES ? flow->window_bytes / 8 : ACK_BYTES;
	if (moved || owed_bytes >= often || (owed_bytes && in->next > in->end))
		ack_now(flow);
	else if (owed_bytes)
		window_ack_later(flow);
}

void window_ack_sent(struct flow *flow)
{
	cancel_ack_later(flow);
	flow->acked = flow->ingress.next;
}

void window_acks_due(struct session *session)
{
	while (session->ack_first && session->ack_first->ack_due_us <= session->now_us)
		ack_now(session->ack_first);
}
