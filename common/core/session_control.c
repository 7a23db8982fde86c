/* Control frames → stripes: questions, answers and acks of flows, answers about flows that are gone, and what stripes
 * say for themselves. They are few and small, and let go what waits, so they go before all data; with copies where a
 * loss would hold a flow up.
 */
#include "session_run.h"

#include <string.h>

static uint32_t put_control(struct run *run, int index, const struct frame *f, enum sending sending)
{
	uint32_t len = output_frame(run->stripes[index], f);
	run_account(run, (size_t)index, sending, len);
	run_look_at(run, (size_t)index);
	return len;
}

/* Puts a control frame on the best stripe for its class, and with `copied`, when copies travel at all, on others.
 * Returns the id of the first, or 0: no stripe takes it now. */
static uint32_t send_control(struct run *run, const struct frame *f, enum sched_class class, bool copied)
{
	int copies[COPIES_MAX];
	int first = run_pick(run, NULL, class, FRAME_HEAD_MAX, -1);
	if (first < 0)
		return 0;
	uint32_t len = put_control(run, first, f, SENDING_NEW);
	unsigned count = copied ? run_pick_copies(run, NULL, class, len, first, copies) : 0;
	for (unsigned i = 0; i < count; i++)
		put_control(run, copies[i], f, SENDING_COPY);
	return run->stripes[first]->id;
}

/* Acks of several flows share a segment, where they can: each that travels is one more to be lost. */
static uint32_t send_ack(struct run *run, const struct frame *f)
{
	int index = run->ack_index;
	if (index < 0 || !run->choices[index].usable || !run->choices[index].room_bytes ||
	    run->stripes[index]->output_bytes + FRAME_HEAD_MAX > RUN_FRAME_MIN)
		index = run_pick(run, NULL, SCHED_SMALL, FRAME_HEAD_MAX, -1);
	run->ack_index = index;
	if (index < 0)
		return 0;
	put_control(run, index, f, SENDING_NEW);
	return run->stripes[index]->id;
}

/* What the application said until now travels with OPEN: with capture.open = "early" that is the first request. */
static bool first_data(struct flow *flow, uint32_t stripe_id, struct egress_piece *piece)
{
	if (flow->egress.sent || !egress_next(&flow->egress, RUN_FRAME_MIN, piece) || !piece->len)
		return false;
	piece->fin = false; /* OPEN has no such flag */
	if (egress_sent(&flow->egress, piece, stripe_id, flow->session->now_us))
		return false;
	flow->express_bytes -= (int32_t)piece->len;
	flow_offer_room(flow);
	return true;
}

static bool send_open(struct run *run, struct flow *flow)
{
	struct session *session = run->session;
	int first = run_pick(run, NULL, SCHED_EXPRESS, RUN_FRAME_MIN, -1);
	if (first < 0)
		return false;
	uint32_t first_id = run->stripes[first]->id;
	struct egress_piece piece = {0};
	struct frame f = {.type = FRAME_OPEN, .flow = flow->id};
	f.open.syn = flow->syn;
	f.open.window_edge = flow->ingress.edge;
	if (first_data(flow, first_id, &piece))
		f.payload_len = piece.len;
	run_put_frame(run, first, flow, &f, SENDING_NEW, piece.record);
	memset(flow->open_stripes, 0, sizeof flow->open_stripes);
	flow->open_stripes[0] = first_id;
	int copies[COPIES_MAX];
	unsigned count = run_pick_copies(run, NULL, SCHED_EXPRESS, FRAME_HEAD_MAX + f.payload_len, first, copies);
	f.flags = FRAME_FLAG_COPY;
	for (unsigned i = 0; i < count; i++) {
		run_put_frame(run, copies[i], flow, &f, SENDING_COPY, piece.record);
		flow->open_stripes[1 + i] = run->stripes[copies[i]]->id;
		if (f.payload_len)
			piece.record->copy_stripe = run->stripes[copies[i]]->id;
	}
	flow->asked_us = session->now_us;
	run_use_lane(session, flow);
	time_asked(session);
	return true;
}

static bool send_flow_control(struct run *run, struct flow *flow)
{
	struct session *session = run->session;
	struct frame f = {.flow = flow->id};
	uint32_t on;

	if (flow->control & FLOW_CONTROL_OPEN) {
		if (!send_open(run, flow))
			return false;
		session_drop_control(flow, FLOW_CONTROL_OPEN);
		flow_update_turn(flow);
	}
	if (flow->control & FLOW_CONTROL_RESULT) {
		f.type = FRAME_OPEN_RESULT;
		f.result.status = flow->open_status;
		f.result.window_edge = flow->ingress.edge;
		on = send_control(run, &f, SCHED_EXPRESS, true);
		if (!on)
			return false;
		flow->result_stripe = on;
		run_use_lane(session, flow);
		session_drop_control(flow, FLOW_CONTROL_RESULT);
		flow_update_turn(flow);
		if (flow->state == FLOW_REFUSED) {
			session_add_refusal(session, flow->id, flow->open_status);
			flow_finish(flow, RESET_ABORTED);
		}
	}
	if (flow->control & FLOW_CONTROL_ACK) {
		f.type = FRAME_ACK;
		f.ack.offset = flow->ingress.next;
		f.ack.edge = flow->ingress.edge;
		/* Acks are many, and another follows, so they keep off a narrow lane and travel once; but the last one
		 * of a direction ends the flow at the other side. */
		on = flow->ingress.next > flow->ingress.end ? send_control(run, &f, SCHED_SMALL, true)
		                                            : send_ack(run, &f);
		if (!on)
			return false;
		window_ack_sent(flow);
		flow->ack_stripe = on;
		session_drop_control(flow, FLOW_CONTROL_ACK);
	}
	if (flow->control & FLOW_CONTROL_RESET) {
		f.type = FRAME_RESET;
		f.reason = flow->reason;
		if (!send_control(run, &f, SCHED_EXPRESS, true))
			return false;
		session->moving = true;
		flow->asked_us = session->now_us;
		flow->resets_sent++;
		session_drop_control(flow, FLOW_CONTROL_RESET);
	}
	flow_check_done(flow);
	return true;
}

static void send_replies(struct run *run)
{
	struct session *session = run->session;
	while (session->reply_count) {
		const struct reply *reply = &session->replies[session->reply_first];
		struct frame f = {.type = reply->type, .flow = reply->flow};
		if (reply->type == FRAME_OPEN_RESULT)
			f.result.status = reply->status;
		if (!send_control(run, &f, SCHED_EXPRESS, reply->type == FRAME_OPEN_RESULT))
			return;
		session->reply_first = (session->reply_first + 1) % REPLIES_MAX;
		session->reply_count--;
	}
}

static void send_stripe_control(struct run *run)
{
	struct session *session = run->session;
	bool goaway_told = false;
	for (size_t i = 0; i < run->count; i++) {
		struct stripe *stripe = run->stripes[i];
		if (!stripe_output_fits(stripe, 4) || stripe->rest_us)
			continue;
		if (session->goaway_due)
			output_frame(stripe, &(struct frame){.type = FRAME_GOAWAY});
		goaway_told = true;
		if (stripe->pong_due)
			output_frame(stripe, &(struct frame){.type = FRAME_PONG, .token = stripe->pong_token});
		if (stripe->ping_due) {
			output_frame(stripe, &(struct frame){.type = FRAME_PING, .token = session->now_us});
			time_asked(session);
		}
		stripe->pong_due = stripe->ping_due = false;
		run_look_at(run, i);
	}
	if (goaway_told)
		session->goaway_due = false;
}

void run_send_control(struct run *run)
{
	struct session *session = run->session;
	send_stripe_control(run);
	while (session->control_first && send_flow_control(run, session->control_first))
		;
	send_replies(run);
}
