/* Liveness, stale stripes, reinjection of what is held up, timeouts. Every limit comes from a measured RTT, with a
 * floor. */
#include "session_internal.h"

static uint32_t max_srtt_us(const struct session *session)
{
	uint32_t max = 0;
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP && stripe->info.srtt_us > max)
			max = stripe->info.srtt_us;
	return max;
}

void time_asked(struct session *session)
{
	if (!session->asked_us)
		session->asked_us = session->now_us;
}

static uint64_t patience_us(const struct session *session)
{
	uint64_t us = 6 * (uint64_t)max_srtt_us(session);
	return us > ANSWER_MIN_US ? us : ANSWER_MIN_US;
}

bool time_far_end_answers(const struct session *session)
{
	return !session->asked_us || session->now_us - session->asked_us < patience_us(session);
}

/* --- Stripes ------------------------------------------------------------------------------------------------------*/

/* How long a working stripe may go without an acknowledgement: TCP repairs a loss in about two RTTs, a lost repair
 * after its RTO (srtt + 4·rttvar, at least 200 ms on Linux). */
static uint64_t stale_after_us(const struct stripe *stripe)
{
	uint64_t us = 4 * (uint64_t)stripe->info.srtt_us;
	return us > STALE_MIN_US ? us : STALE_MIN_US;
}

static void check_stripe(struct stripe *stripe)
{
	struct session *session = stripe->session;
	bool waits = stripe->info.in_flight_bytes || stripe->info.notsent_bytes;
	if (stripe->state != STRIPE_UP || !waits || session->now_us - stripe->progress_us < stale_after_us(stripe))
		return;
	session_set_stripe_state(stripe, STRIPE_STALE);
	session_send_elsewhere(stripe, true);
	time_asked(session);
}

/* On a silent path a stripe that waits for an acknowledgement will tell without being asked; the others are tried. */
static struct stripe *next_to_ask(const struct session *session, unsigned path_index)
{
	const struct path *path = &session->paths[path_index];
	unsigned turn = path->ping_turn % path->stripes_up;
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		if (stripe->path != path_index || (stripe->state != STRIPE_UP && stripe->state != STRIPE_STALE))
			continue;
		if (path->state == PATH_SILENT ? stripe->state == STRIPE_UP && !stripe->info.in_flight_bytes : !turn--)
			return stripe;
	}
	return NULL;
}

static void ping_path(struct session *session, unsigned path_index)
{
	struct path *path = &session->paths[path_index];
	struct stripe *stripe = next_to_ask(session, path_index);
	if (stripe)
		stripe->ping_due = true;
	path->ping_turn++;
	path->pinged_us = session->now_us;
}

static uint64_t ping_interval_us(const struct session *session, const struct path *path)
{
	if (session->asked_us || path->state == PATH_SILENT)
		return PING_BUSY_US;
	uint64_t us = (uint64_t)PING_IDLE_MAX_US / path->stripes_up;
	return us < PING_IDLE_US ? us : PING_IDLE_US;
}

/* --- Flows --------------------------------------------------------------------------------------------------------*/

/* How long a record may be under way before another stripe could have brought it sooner: its stripe's RTT, one more for
 * a repair, and the time its backlog takes. */
static uint64_t held_up_after_us(const struct session *session, uint32_t stripe_id)
{
	const struct stripe *stripe = session_find_stripe(session, stripe_id);
	if (!stripe || !stripe->info.srtt_us)
		return STALE_MIN_US;
	uint64_t us = 2 * (uint64_t)stripe->info.srtt_us + 2 * ACK_DELAY_US;
	if (stripe->info.rate_Bps)
		us += stripe_backlog_bytes(stripe) * 1000000 / stripe->info.rate_Bps;
	return us;
}

/* The soonest that any working stripe would get a record across. */
static uint64_t best_after_us(const struct session *session)
{
	uint64_t best_us = UINT64_MAX;
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP && held_up_after_us(session, stripe->id) < best_us)
			best_us = held_up_after_us(session, stripe->id);
	return best_us;
}

/* Opportunistic reinjection (Raiciu et al., NSDI 2012): when the flow has nothing new to send, what holds it up goes
 * again on another stripe. Each record once. With a full window that is whatever a better stripe would have brought by
 * now; at the end of what there is to send, only what its own stripe should have brought. */
static void reinject_held_up(struct flow *flow)
{
	struct session *session = flow->session;
	struct egress *e = &flow->egress;
	if (egress_sendable(e) || e->lost || session->stripes_up < 2)
		return;
	bool window_full = e->end > e->sent;
	/* An application that pauses for less than an RTT is no tail. */
	if (!window_full && session->now_us - egress_record_at(e, e->record_count - 1)->sent_us < max_srtt_us(session))
		return;
	uint64_t best_us = window_full ? best_after_us(session) : 0;
	for (uint32_t i = 0; i < e->record_count && i < REINJECT_PER_TICK; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (record->reinjected || record->copy_stripe || delivery_known(session, record))
			continue;
		uint64_t after_us = window_full ? best_us : held_up_after_us(session, record->stripe);
		if (session->now_us - record->sent_us < after_us)
			continue;
		egress_mark_repeat(e, record);
	}
	flow_update_turn(flow);
}

/* The other side says once that it has everything, and leaves. When that is lost with a stripe of its choice, nothing
 * that is seen here tells: so the oldest record goes again, on whatever stripe, until there is an ack, or GONE. */
static void repeat_oldest(struct flow *flow)
{
	struct egress_record *oldest = egress_record_at(&flow->egress, 0);
	if (!oldest->stripe ||
	    flow->session->now_us - oldest->sent_us < REPEAT_US + held_up_after_us(flow->session, oldest->stripe))
		return;
	egress_mark_lost(&flow->egress, oldest);
	oldest->asks = true;
	flow_update_turn(flow);
}

/* OPEN and RESET, until they are answered. */
static void repeat_question(struct flow *flow)
{
	struct session *session = flow->session;
	bool opening = flow->state == FLOW_OPENING;
	if (flow->control || !flow->asked_us || !session->stripes_up ||
	    session->now_us - flow->asked_us < (opening ? OPEN_REPEAT_US : REPEAT_US))
		return;
	if (opening)
		session_add_control(flow, FLOW_CONTROL_OPEN);
	else if (flow->resets_sent < RESET_REPEATS)
		session_add_control(flow, FLOW_CONTROL_RESET);
	else
		flow_finish(flow, flow->reason);
}

/* Whether the record, which has not arrived as far as is known, is to be repeated. One that was put on a slow path,
 * ahead of its turn, should have come by now: that the first missing one has not is known from the data ack, which
 * comes back on the best path; what is behind it on its stripe, or on another that is stuck, has not either; of all
 * others the slow path's own acknowledgements would have told. On a path that is not slow a repair comes as soon as a
 * repetition would, unless it takes much longer than such things do. */
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

/* Repeats what is late of what will be needed soon, before anything new. */
static void repeat_late(struct flow *flow)
{
	struct session *session = flow->session;
	struct egress *e = &flow->egress;
	uint64_t least_us = delivery_least_us(session);
	uint64_t soon = e->acked + flow->rate_Bps * 2 * least_us / 1000000;
	uint32_t missing = 0;
	for (uint32_t i = 0; i < e->record_count; i++) {
		struct egress_record *record = egress_record_at(e, i);
		const struct stripe *stripe = record->stripe ? session_find_stripe(session, record->stripe) : NULL;
		if (record->offset > soon)
			break;
		if (!stripe || record->reinjected || record->repeat || delivery_known(session, record))
			continue;
		if (record->offset <= e->acked)
			missing = record->stripe;
		if (!is_late(record, stripe, session->now_us, least_us, record->stripe == missing))
			continue;
		egress_mark_repeat(e, record);
		flow->held_up = true;
	}
	flow->held_up = flow->held_up && e->repeats;
}

static void measure_flow(struct flow *flow)
{
	uint64_t now_us = flow->session->now_us, took_us = now_us - flow->rate_us;
	if (took_us < RATE_US)
		return;
	uint64_t rate_Bps = flow->rate_bytes * 1000000 / took_us;
	/* Up fast, down slowly: what was put ahead of its turn too far waits, too near holds up. */
	flow->rate_Bps =
	        rate_Bps > flow->rate_Bps ? (flow->rate_Bps + rate_Bps) / 2 : (3 * flow->rate_Bps + rate_Bps) / 4;
	flow->rate_bytes = 0;
	flow->rate_us = now_us;
	if (now_us - flow->ahead_us > AHEAD_KEPT_US)
		flow->egress.ahead_bytes = 0;
}

static void check_flow(struct flow *flow)
{
	bool asks = flow->state == FLOW_OPENING || flow->state == FLOW_RESETTING;
	flow->session->moving |= flow->egress.record_count || asks;
	if (asks) {
		repeat_question(flow);
	} else if (flow->egress.record_count) {
		measure_flow(flow);
		repeat_late(flow);
		reinject_held_up(flow);
		repeat_oldest(flow);
	}
}

/* --- The session --------------------------------------------------------------------------------------------------*/

static void measure_stripes(struct session *session)
{
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if ((stripe->state == STRIPE_UP || stripe->state == STRIPE_STALE) && !stripe->error &&
		    session->now_us - stripe->info_us >= TICK_US / 2)
			session->ops->stripe_measure(session->user, stripe);
}

static bool in_motion(const struct session *session)
{
	if (session->asked_us || output_waits(session))
		return true;
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->info.in_flight_bytes || stripe->info.notsent_bytes || stripe->output_bytes ||
		    stripe->state == STRIPE_STALE)
			return true;
	return false;
}

void session_expire(struct session *session, uint64_t now_us)
{
	session->now_us = now_us;
	if (!session->stripes_up)
		session->down_us = now_us;
	session_reset_all(session, RESET_SESSION);
	session_tell(session, SESSION_LOST, NULL, 0, NULL);
}

/* When the flows have waited long enough for the other side: since no stripe is up, or since nothing is heard although
 * something must be answered. UINT64_MAX: they do not wait. */
static uint64_t expiry_us(const struct session *session)
{
	uint64_t timeout_us = session->config.limits.timeout_us;
	if (!session->flow_count)
		return UINT64_MAX;
	if (session->down_us)
		return session->down_us + timeout_us;
	if (!session->asked_us)
		return UINT64_MAX;
	return session->asked_us + (timeout_us > patience_us(session) ? timeout_us : patience_us(session));
}

void time_run(struct session *session)
{
	if (session->now_us >= expiry_us(session))
		session_expire(session, session->now_us);
	if (session->now_us >= paths_next_us(session))
		paths_check(session);
	if (session->now_us < session->tick_us)
		return;
	measure_stripes(session);
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		check_stripe(stripe);
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		struct path *path = &session->paths[i];
		if (path->stripes_up && session->now_us - path->pinged_us >= ping_interval_us(session, path))
			ping_path(session, i);
	}
	delivery_look(session);
	session->moving = session->egress_starved;
	session->starved_at = SIZE_MAX;
	for (uint32_t i = 0; i < session->hash_size; i++)
		for (struct flow *flow = session->hash[i]; flow; flow = flow->hash_next)
			check_flow(flow);
	session->tick_us = session->now_us + TICK_US;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t session_next_us(const struct session *session)
{
	uint64_t next_us = UINT64_MAX;
	if (session->event_first)
		return session->now_us;
	if (session->ack_first)
		next_us = session->ack_first->ack_due_us;
	next_us = earlier(next_us, expiry_us(session));
	if (!session->stripes_up)
		return next_us;
	next_us = earlier(next_us, paths_next_us(session));
	if (session->moving || in_motion(session))
		return earlier(next_us, session->tick_us);
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		const struct path *path = &session->paths[i];
		if (path->stripes_up)
			next_us = earlier(next_us, path->pinged_us + ping_interval_us(session, path));
	}
	return next_us > session->tick_us ? next_us : session->tick_us;
}
