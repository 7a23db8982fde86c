/* Liveness, stale stripes, timeouts. Every limit comes from a measured RTT, with a floor. */
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

/* That a repair is lost, too, the kernel learns from acknowledgements of what was sent after it (RACK, RFC 8985); if
 * nothing was, from its timeout, which is several round trips. So when its acknowledgement is overdue, a PONG follows,
 * which says nothing. */
static void follow_repair(struct stripe *stripe)
{
	const struct stripe_info *info = &stripe->info;
	uint64_t now_us = stripe->session->now_us, late_us = info->srtt_us + info->srtt_us / 4;
	if (stripe->state == STRIPE_UP && info->in_recovery && info->in_flight_bytes && !stripe->rest_us &&
	    !stripe_backlog_bytes(stripe) && now_us - stripe->progress_us >= late_us &&
	    now_us - stripe->put_us >= late_us)
		output_frame(stripe, &(struct frame){.type = FRAME_PONG});
}

/* On a silent path a stripe that waits for an acknowledgement will tell without being asked; the others are tried. */
static struct stripe *next_to_ask(const struct session *session, unsigned path_index)
{
	const struct path *path = &session->paths[path_index];
	unsigned turn = path->ping_turn % path->stripes_up;
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		if (stripe->path != path_index || !stripe_is_up(stripe))
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

static void check_flow(struct flow *flow, const struct tick *tick)
{
	bool asks = flow->state == FLOW_OPENING || flow->state == FLOW_RESETTING;
	flow->session->moving |= flow->egress.record_count || asks;
	if (asks)
		repeat_question(flow);
	else if (flow->egress.record_count)
		late_check(flow, tick);
	else if (flow->turn_list == TURN_NONE)
		session_unlink(flow, LINK_BUSY);
}

/* --- The session --------------------------------------------------------------------------------------------------*/

/* Something is to become of the stripe without more being put in. */
static bool is_moving(const struct stripe *stripe)
{
	return stripe->info.in_flight_bytes || stripe->info.notsent_bytes || stripe->output_bytes || stripe->rest_us ||
	       stripe->state == STRIPE_STALE;
}

/* Where all has arrived there is little new to learn, and nothing that matters while nothing is to be sent. */
bool time_to_measure(const struct stripe *stripe)
{
	const struct session *session = stripe->session;
	bool under_way = stripe_position(stripe) > stripe->info.arrived_bytes;
	bool used = under_way || is_moving(stripe) || stripe->ping_due || stripe->pong_due;
	if (stripe->error || (!used && !output_waits(session) && !session->linked[LINK_BUSY].first))
		return false;
	return session->now_us - stripe->info_us >= (under_way ? TICK_MIN_US / 2 : TICK_US / 2);
}

static void measure_stripes(struct session *session)
{
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe_is_up(stripe) && time_to_measure(stripe))
			session->ops->stripe_measure(session->user, stripe);
}

static bool in_motion(const struct session *session)
{
	if (session->asked_us || output_waits(session))
		return true;
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (is_moving(stripe))
			return true;
	return false;
}

void session_expire(struct session *session, uint64_t now_us)
{
	session->now_us = now_us;
	if (!session->stripes_up)
		session->down_us = now_us;
	session_reset_all(session, RESET_SESSION);
	/* What comes on stripes that are up belongs to flows that are gone here: the far end must not take an answer to
	 * that for the end of a flow that has all, nor keep what nobody will end. */
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state != STRIPE_DEAD && !stripe->error)
			stripe->error = "the session was given up";
	session_tell(session, SESSION_LOST, NULL, 0, NULL);
}

void session_renew(struct session *session, const uint8_t *id)
{
	bool client = session->config.role == SESSION_CLIENT;
	memcpy(client ? session->config.id : session->config.incarnation, id, FRAME_ID_BYTES);
	session->incarnation_known = false;
	session->goaway_heard = false;
}

/* When the flows have waited long enough for the other side: since no stripe is up, or since nothing is heard although
 * something must be answered; then a silence that ended in time is noticed a little later. UINT64_MAX: they do not
 * wait. */
static uint64_t expiry_us(const struct session *session)
{
	uint64_t timeout_us = session->config.limits.timeout_us;
	if (!session->flow_count)
		return UINT64_MAX;
	if (session->down_us)
		return session->down_us + timeout_us;
	if (!session->asked_us)
		return UINT64_MAX;
	if (timeout_us < patience_us(session))
		timeout_us = patience_us(session);
	return session->asked_us + timeout_us + TRY_AGAIN_US;
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
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		check_stripe(stripe);
		follow_repair(stripe);
	}
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		struct path *path = &session->paths[i];
		if (path->stripes_up && session->now_us - path->pinged_us >= ping_interval_us(session, path))
			ping_path(session, i);
	}
	session->longest_rtt_us = max_srtt_us(session);
	delivery_look(session);
	queues_look(session);
	session->tick_us = session->now_us + TICK_US;
	if (blocks_next_us(session) < session->tick_us)
		session->tick_us = blocks_next_us(session);
	rests_look(session);
	session->moving = session->linked[LINK_STARVED].first;
	session->starved_at = SIZE_MAX;
	struct tick tick;
	late_look(session, &tick);
	struct flow *next;
	for (struct flow *flow = session->linked[LINK_BUSY].first; flow; flow = next) {
		next = flow->links[LINK_BUSY].next;
		check_flow(flow, &tick);
	}
	if (session->tick_us < session->now_us + TICK_MIN_US)
		session->tick_us = session->now_us + TICK_MIN_US;
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
	/* It may have come nearer, and so be past, by what stripes were found to be like in this run. */
	uint64_t expires_us = expiry_us(session);
	next_us = earlier(next_us, expires_us > session->now_us ? expires_us : session->now_us);
	if (!session->stripes_up)
		return next_us;
	next_us = earlier(next_us, paths_next_us(session));
	/* No socket tells when a path has less under way. */
	if (session->held_back_us)
		next_us = earlier(next_us, session->held_back_us + TICK_MIN_US);
	if (session->moving || in_motion(session))
		return earlier(next_us, session->tick_us);
	uint64_t ping_us = UINT64_MAX;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		const struct path *path = &session->paths[i];
		if (path->stripes_up)
			ping_us = earlier(ping_us, path->pinged_us + ping_interval_us(session, path));
	}
	return earlier(next_us, ping_us > session->tick_us ? ping_us : session->tick_us);
}
