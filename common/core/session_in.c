/* Frames from stripes → flows. Everything here comes from the network: what breaks the rules of the stripe closes the
 * stripe, what breaks the rules of a flow resets the flow, and nothing else is harmed. */
#include "session_internal.h"

#include <errno.h>

/* 0, or -EPROTO with stripe->error set. */
static int refuse(struct stripe *stripe, const char *why)
{
	stripe->error = why;
	return -EPROTO;
}

/* --- Flow frames --------------------------------------------------------------------------------------------------*/

/* What came could not be put in. */
static void take_error(struct flow *flow, int err, uint32_t len)
{
	if (err == -EPROTO)
		flow_break(flow, RESET_PROTOCOL, "data beyond the window or the end, or too scattered");
	else if (err == -ENOBUFS)
		flow->session->stats.dropped_bytes += len;
	else
		flow_break(flow, RESET_ABORTED, "out of memory for received data");
}

/* Something new has arrived. */
static void take_new(struct flow *flow)
{
	if (ingress_readable(&flow->ingress) || flow_at_end(flow))
		session_add_event(flow, FLOW_EVENT_READABLE);
	window_update(flow);
}

/* Whether what is still missing of the flow's block can be worked out now. */
static void recover(struct flow *flow)
{
	int len = ingress_recover(&flow->ingress);
	if (!flow->ingress.block)
		session_unlink(flow, LINK_BLOCK);
	if (len < 0) {
		take_error(flow, len, 0);
	} else if (len > 0) {
		flow->session->stats.recovered_bytes += (uint64_t)len;
		take_new(flow);
	}
}

/* Sent on purpose although it may be here already: its sender wants no answer. */
static bool is_planned(const struct frame *f)
{
	return f->flags & FRAME_FLAG_COPY || f->block.rows;
}

/* A piece of DATA; payload NULL: its bytes are in place. */
static void take_data(struct flow *flow, const struct frame *f)
{
	bool fin = f->flags & FRAME_FLAG_FIN;
	block_expect(flow, f);
	int err = f->payload || !f->payload_len
	                  ? ingress_put(&flow->ingress, f->offset, f->payload, f->payload_len, fin)
	                  : ingress_placed(&flow->ingress, f->offset, f->payload_len, fin);
	if (err < 0) {
		take_error(flow, err, f->payload_len);
		return;
	}
	if (!err) {
		flow->session->stats.duplicate_bytes += f->payload_len;
		if (!is_planned(f) && (f->payload_len || fin))
			window_ack_later(flow); /* the sender does not know that it is here */
		return;
	}
	take_new(flow);
	recover(flow);
}

/* An acknowledgement may let go: new bytes from the application, the next turn, the end. */
static void take_ack(struct flow *flow, uint64_t offset, uint64_t edge)
{
	if (egress_ack(&flow->egress, offset, edge)) {
		flow_break(flow, RESET_PROTOCOL, "acknowledges what was never sent");
		return;
	}
	flow_offer_room(flow);
	flow_update_turn(flow);
	flow_check_done(flow);
}

static void take_connected(struct flow *flow, uint64_t window_edge)
{
	flow->open_status = OPEN_CONNECTED;
	session_drop_control(flow, FLOW_CONTROL_OPEN);
	session_add_event(flow, FLOW_EVENT_RESULT | FLOW_EVENT_READABLE);
	flow->state = FLOW_OPEN;
	take_ack(flow, 0, window_edge);
}

/* Of a flow that is no longer known: that it is gone, or, if that is why, once more that it was refused. */
static void reply_gone(struct session *session, uint32_t flow)
{
	for (size_t i = 0; i < REFUSALS_MAX; i++) {
		const struct reply *refusal = &session->refusals[i];
		if (refusal->flow == flow) {
			session_add_reply(session, FRAME_OPEN_RESULT, flow, refusal->status);
			return;
		}
	}
	session_add_reply(session, FRAME_GONE, flow, OPEN_CONNECTED);
}

static int in_data(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	struct flow *flow = session_find_flow(session, f->flow);
	if (flow) {
		/* Only a connected destination sends: the answer to OPEN is late, or was lost with its stripe. */
		if (flow->state == FLOW_OPENING)
			take_connected(flow, flow->egress.edge);
		if (flow->state != FLOW_RESETTING && flow->state != FLOW_REFUSED)
			take_data(flow, f);
		return 0;
	}
	if (!session_has_seen(session, f->flow))
		return refuse(stripe, "DATA for a flow that was never opened");
	session->stats.duplicate_bytes += f->payload_len;
	if (!is_planned(f))
		reply_gone(session, f->flow);
	return 0;
}

/* A piece of a row. */
static int in_parity(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	struct flow *flow = session_find_flow(session, f->flow);
	if (!flow)
		return session_has_seen(session, f->flow) ? 0
		                                          : refuse(stripe, "PARITY for a flow that was never opened");
	if (flow->state != FLOW_OPEN && flow->state != FLOW_CONNECTING)
		return 0;
	int err = ingress_put_parity(&flow->ingress, f->block.start, f->block.len, f->block.row, f->offset, f->payload,
	                             f->payload_len);
	if (!err && f->flags & FRAME_FLAG_FIN)
		err = ingress_put(&flow->ingress, f->block.start + f->block.len, NULL, 0, true);
	if (err < 0) {
		take_error(flow, err, 0);
		return 0;
	}
	if (err)
		take_new(flow);
	recover(flow);
	return 0;
}

static int in_ack(struct stripe *stripe, const struct frame *f)
{
	struct flow *flow = session_find_flow(stripe->session, f->flow);
	if (!flow)
		return session_has_seen(stripe->session, f->flow)
		               ? 0
		               : refuse(stripe, "ACK for a flow that was never opened");
	if (flow->state == FLOW_OPEN || flow->state == FLOW_OPENING)
		take_ack(flow, f->ack.offset, f->ack.edge);
	return 0;
}

static int in_open(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	if (session->config.role != SESSION_SERVER)
		return refuse(stripe, "OPEN from the accepting side");
	struct flow *flow = session_find_flow(session, f->flow);
	if (flow) {
		/* A copy, or sent again because a stripe died: perhaps with it our answer. */
		if (!(f->flags & FRAME_FLAG_COPY) && flow->state == FLOW_OPEN)
			session_add_control(flow, FLOW_CONTROL_RESULT);
		return 0;
	}
	if (session_has_seen(session, f->flow)) {
		if (!(f->flags & FRAME_FLAG_COPY))
			reply_gone(session, f->flow);
		return 0;
	}
	session_mark_seen(session, f->flow);
	if (!session->goaway_sent)
		flow = session_add_flow(session, f->flow, &f->open.syn, FLOW_CONNECTING);
	if (!flow) {
		session_tell(session, SESSION_LIMIT, stripe, f->flow,
		             session->goaway_sent ? "ending" : "flows or memory");
		session_add_refusal(session, f->flow, OPEN_LIMIT);
		session_add_reply(session, FRAME_OPEN_RESULT, f->flow, OPEN_LIMIT);
		return 0;
	}
	egress_ack(&flow->egress, 0, f->open.window_edge);
	session_add_event(flow, FLOW_EVENT_OPEN);
	return 0;
}

static int in_open_result(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	if (session->config.role != SESSION_CLIENT)
		return refuse(stripe, "OPEN_RESULT from the dialling side");
	struct flow *flow = session_find_flow(session, f->flow);
	if (!flow)
		return session_has_seen(session, f->flow)
		               ? 0
		               : refuse(stripe, "OPEN_RESULT for a flow that was never opened");
	if (flow->state == FLOW_RESETTING && f->result.status != OPEN_CONNECTED) {
		flow_finish(flow, flow->reason);
		return 0;
	}
	if (flow->state != FLOW_OPENING)
		return 0;
	if (f->result.status == OPEN_CONNECTED) {
		take_connected(flow, f->result.window_edge);
		return 0;
	}
	flow->open_status = f->result.status;
	session_add_event(flow, FLOW_EVENT_RESULT);
	flow_finish(flow, RESET_ABORTED);
	return 0;
}

static int in_reset(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	struct flow *flow = session_find_flow(session, f->flow);
	if (flow) {
		flow_finish(flow, f->reason);
	} else if (!session_has_seen(session, f->flow)) {
		/* It overtook the OPEN, which must not open anything any more. */
		if (session->config.role == SESSION_CLIENT)
			return refuse(stripe, "RESET for a flow that was never opened");
		session_mark_seen(session, f->flow);
	}
	session_add_reply(session, FRAME_GONE, f->flow, OPEN_CONNECTED);
	return 0;
}

static int in_gone(struct stripe *stripe, const struct frame *f)
{
	struct flow *flow = session_find_flow(stripe->session, f->flow);
	if (!flow)
		return 0;
	struct egress *e = &flow->egress;
	if (flow->state == FLOW_OPENING) {
		/* The flow was answered and forgotten there while the answer was lost with its stripe. */
		flow->open_status = OPEN_FAILED;
		session_add_event(flow, FLOW_EVENT_RESULT);
		flow_finish(flow, RESET_ABORTED);
	} else if (flow->state == FLOW_OPEN && e->fin && e->sent == e->end + 1 &&
	           flow->ingress.next > flow->ingress.end) {
		/* A flow leaves the other side only when it has all and we have all: its last ack was lost. */
		take_ack(flow, e->sent, e->edge);
	} else {
		flow_finish(flow, flow->state == FLOW_RESETTING ? flow->reason : RESET_ABORTED);
	}
	return 0;
}

/* --- Stripe and session frames ------------------------------------------------------------------------------------*/

static int in_welcome(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;
	if (f->welcome.status != WELCOME_OK)
		return refuse(stripe, f->welcome.status == WELCOME_BUSY ? "the far end has no room for another session"
		                                                        : "the far end denies access");
	bool same = memcmp(session->incarnation, f->welcome.incarnation, FRAME_ID_BYTES) == 0;
	if (session->incarnation_known && !same) {
		/* Stripes of before are dead or dying; what they carried means nothing there. */
		for (struct stripe *other = session->stripes; other; other = other->next)
			if (other != stripe && stripe_is_up(other))
				other->error = "the far end has restarted";
		session_reset_all(session, RESET_SESSION);
		session_tell(session, SESSION_RENEWED, stripe, 0, NULL);
		session->goaway_heard = false;
	}
	memcpy(session->incarnation, f->welcome.incarnation, FRAME_ID_BYTES);
	session->incarnation_known = true;
	session_set_stripe_state(stripe, STRIPE_UP);
	return 0;
}

static int in_frame(struct stripe *stripe, const struct frame *f)
{
	struct session *session = stripe->session;

	if (stripe->state == STRIPE_HANDSHAKE)
		return f->type == FRAME_WELCOME ? in_welcome(stripe, f) : refuse(stripe, "no WELCOME at the start");
	switch (f->type) {
	case FRAME_HELLO:
	case FRAME_WELCOME:
		return refuse(stripe, "a second handshake");
	case FRAME_PING:
		stripe->pong_token = f->token;
		stripe->pong_due = true;
		return 0;
	case FRAME_PONG:
		return 0; /* it was heard: that is all */
	case FRAME_GOAWAY:
		if (!session->goaway_heard)
			session_tell(session, SESSION_GOAWAY, stripe, 0, NULL);
		session->goaway_heard = true;
		return 0;
	case FRAME_OPEN:
		return in_open(stripe, f);
	case FRAME_OPEN_RESULT:
		return in_open_result(stripe, f);
	case FRAME_DATA:
	case FRAME_BLOCK: /* as DATA, from the reader */
		return in_data(stripe, f);
	case FRAME_PARITY:
		return in_parity(stripe, f);
	case FRAME_ACK:
		return in_ack(stripe, f);
	case FRAME_RESET:
		return in_reset(stripe, f);
	case FRAME_GONE:
		return in_gone(stripe, f);
	}
	return refuse(stripe, "unknown frame type");
}

static void heard(struct stripe *stripe, size_t len, uint64_t now_us)
{
	struct session *session = stripe->session;
	session->now_us = now_us;
	stripe->traffic.bytes_in += len;
	session->paths[stripe->path].heard_us = now_us;
	session->asked_us = 0;
}

unsigned session_stripe_place(struct stripe *stripe, struct iovec *slices, unsigned max, size_t *bytes)
{
	uint32_t id;
	uint64_t offset;
	uint32_t len = frame_reader_payload(&stripe->reader, &id, &offset);
	bool ready = len && !stripe->error && stripe->state != STRIPE_HANDSHAKE;
	struct flow *flow = ready ? session_find_flow(stripe->session, id) : NULL;
	if (!flow || flow->state == FLOW_RESETTING || flow->state == FLOW_REFUSED)
		return 0;
	return ingress_place(&flow->ingress, offset, len, slices, max, bytes);
}

int session_stripe_placed(struct stripe *stripe, size_t len, uint64_t now_us)
{
	struct frame f;
	if (!len)
		return 0;
	heard(stripe, len, now_us);
	frame_reader_took(&stripe->reader, (uint32_t)len, &f);
	return in_data(stripe, &f);
}

int session_stripe_in(struct stripe *stripe, const uint8_t *bytes, size_t len, uint64_t now_us)
{
	const uint8_t *at = bytes, *end = bytes + len;
	struct frame f;
	int more;

	if (!len || stripe->error || stripe->state == STRIPE_DEAD)
		return 0;
	heard(stripe, len, now_us);
	while ((more = frame_reader_next(&stripe->reader, &at, end, &f)) == 1) {
		int err = in_frame(stripe, &f);
		if (err)
			return err;
	}
	return more < 0 ? refuse(stripe, stripe->reader.error) : 0;
}
