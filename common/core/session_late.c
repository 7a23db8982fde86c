/* What of a flow is late, and goes again. Three occasions, each within the budgets of the paths (session_repeat.c):
 *
 *   held up     what was put ahead of its turn on a slow path has not come, and will be needed soon: before new bytes
 *   window full the window, and no link, stops the sender: whatever a better stripe would have brought by now
 *   tail        there is nothing new to send: what its own stripe should have brought; of a few last bytes, as soon as
 *               an acknowledgement is missing: the kernel, which sees less, waits longer when nothing follows them
 *
 * The last two are opportunistic reinjection (Raiciu et al., NSDI 2012), and use room that nothing new wants.
 */
#include "session_internal.h"

enum { DUE_SLACK_US = 2000 };

/* How long a record may be under way before its acknowledgement is due: its stripe's RTT with some slack, and the time
 * its backlog takes. */
static uint64_t due_after_us(const struct stripe *stripe)
{
	if (!stripe || !stripe->info.srtt_us)
		return STALE_MIN_US;
	uint64_t us = stripe->info.srtt_us + stripe->info.srtt_us / 16 + DUE_SLACK_US;
	if (stripe_rate_Bps(&stripe->info))
		us += stripe_backlog_bytes(stripe) * 1000000 / stripe_rate_Bps(&stripe->info);
	return us;
}

/* And before another stripe could have brought it sooner, for a repair takes another RTT. */
static uint64_t late_after_us(const struct stripe *stripe)
{
	return due_after_us(stripe) + (stripe ? stripe->info.srtt_us : 0);
}

void late_look(const struct session *session, struct tick *tick)
{
	*tick = (struct tick){.least_us = delivery_least_us(session), .best_after_us = UINT64_MAX};
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP && late_after_us(stripe) < tick->best_after_us)
			tick->best_after_us = late_after_us(stripe);
}

/* --- Held up ------------------------------------------------------------------------------------------------------*/

/* Whether the record, which has not arrived as far as is known, is to be repeated. On a slow path it should have come
 * by now: that the first missing one has not is known from the data ack, which comes back on the best path; what is
 * behind it on its stripe, or on another that is stuck, has not either; of all others the slow path's own
 * acknowledgements would have told. On a path that is not slow a repair comes as soon as a repetition would, unless it
 * takes much longer than such things do. */
static bool is_late(const struct egress_record *record, const struct stripe *stripe, uint64_t now_us, uint64_t least_us,
                    bool missing)
{
	const struct stripe_info *info = &stripe->info;
	if (info->srtt_us < SLOW_PATH * least_us)
		return missing && now_us > record->due_us + (record->due_us - record->sent_us) + info->srtt_us;
	if (missing)
		return now_us > record->due_us + least_us;
	return delivery_stuck(stripe) || now_us > record->due_us + info->rtt_min_us / 2;
}

static void check_held_up(struct flow *flow, const struct tick *tick)
{
	struct session *session = flow->session;
	struct egress *e = &flow->egress;
	uint64_t soon = e->acked + flow->rate_Bps * 2 * tick->least_us / 1000000;
	uint32_t missing = 0;
	for (uint32_t i = 0; i < e->record_count; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (record->offset > soon)
			break;
		if (!record->stripe || record->reinjected || record->repeat)
			continue;
		const struct stripe *stripe = session_find_stripe(session, record->stripe);
		if (!stripe || delivery_known(session, record))
			continue;
		if (record->offset <= e->acked)
			missing = record->stripe;
		if (!is_late(record, stripe, session->now_us, tick->least_us, record->stripe == missing))
			continue;
		egress_mark_repeat(e, record);
		flow->held_up = true;
	}
	flow->held_up = flow->held_up && e->repeats;
	if (flow->held_up)
		flow_update_turn(flow);
}

/* --- Window full, tail --------------------------------------------------------------------------------------------*/

/* An application that pauses for less than an RTT is no tail, unless it says little. */
static bool pauses(const struct flow *flow)
{
	const struct session *session = flow->session;
	const struct egress_record *last = egress_record_at(&flow->egress, flow->egress.record_count - 1);
	const struct stripe *stripe = session_find_stripe(session, last->stripe);
	return !flow->egress.fin && flow->express_bytes <= 0 && stripe &&
	       session->now_us - last->sent_us < stripe->info.srtt_us;
}

static void check_idle_room(struct flow *flow, const struct tick *tick)
{
	struct session *session = flow->session;
	struct egress *e = &flow->egress;
	bool window_full = e->end > e->sent, last_bytes = !window_full && e->sent - e->acked <= LAST_BYTES;
	if (egress_sendable(e) || e->lost || session->stripes_up < 2 || (!window_full && pauses(flow)))
		return;
	for (uint32_t i = 0; i < e->record_count && i < REPEATS_PER_TICK; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (record->reinjected || delivery_known(session, record))
			continue;
		const struct stripe *stripe = session_find_stripe(session, record->stripe);
		uint64_t after_us = window_full  ? tick->best_after_us
		                    : last_bytes ? due_after_us(stripe)
		                                 : late_after_us(stripe);
		uint64_t due_us = record->sent_us + after_us;
		if (due_us <= session->now_us)
			egress_mark_repeat(e, record);
		else if (due_us < session->tick_us)
			session->tick_us = due_us;
	}
	flow_update_turn(flow);
}

/* The other side says once that it has everything, and leaves. When that is lost with a stripe of its choice, nothing
 * that is seen here tells: so the oldest record goes again, on whatever stripe, until there is an ack, or GONE. */
static void repeat_oldest(struct flow *flow)
{
	struct egress_record *oldest = egress_record_at(&flow->egress, 0);
	if (!oldest->stripe || flow->session->now_us - oldest->sent_us <
	                               REPEAT_US + late_after_us(session_find_stripe(flow->session, oldest->stripe)))
		return;
	egress_mark_lost(&flow->egress, oldest);
	oldest->asks = true;
	flow_update_turn(flow);
}

/* --- How fast the flow is -----------------------------------------------------------------------------------------*/

static void measure_rate(struct flow *flow)
{
	uint64_t now_us = flow->session->now_us, took_us = now_us - flow->rate_us;
	if (took_us < RATE_US)
		return;
	uint64_t rate_Bps = flow->rate_bytes * 1000000 / took_us;
	/* Down more slowly: what was put too far ahead of its turn waits, what was put too near holds up. */
	flow->rate_Bps =
	        rate_Bps > flow->rate_Bps ? (flow->rate_Bps + rate_Bps) / 2 : (3 * flow->rate_Bps + rate_Bps) / 4;
	flow->rate_bytes = 0;
	flow->rate_us = now_us;
	if (now_us - flow->ahead_us > AHEAD_KEPT_US)
		flow->egress.ahead_bytes = 0;
}

void late_check(struct flow *flow, const struct tick *tick)
{
	measure_rate(flow);
	check_held_up(flow, tick);
	check_idle_room(flow, tick);
	repeat_oldest(flow);
}
