/* Paths that fall silent. A stripe alone may be held up by a loss or two; that nothing at all of what travels on a path
 * is acknowledged is much stronger evidence, and much sooner there.
 *
 *     WELL ── quiet for longer than acks have stayed out lately ──▶ QUIET ── and for longer than a round trip explains
 *       ▲                                                             │          │
 *       └──────────────────── with the first ack ─────────────────────┴────── SILENT
 *
 * QUIET comes early and may well be wrong (a radio link's pause). It keeps new data off the path, and what is on its
 * way there begins to go again elsewhere; what has not gone when the path is back need not (session_out.c). So a pause
 * costs no more than what the other paths carry meanwhile. SILENT takes all stripes of the path that carry something
 * for stale. Neither means anything where no other path could take over.
 *
 * Both look at what is sent, not at what comes: a path may be dead in one direction only.
 */
#include "session_internal.h"

enum {
	QUIET_MIN_US = 40000,   /* pauses of this length are nothing */
	QUIET_PAUSES = 3,       /* so many times the longest pause of late */
	PAUSE_ROUND_TRIPS = 5,  /* of so long ago a pause is half forgotten */
	DELAYED_ACK_US = 40000, /* a lone segment's ack may wait so long at the other kernel (TCP_DELACK_MIN) */
	SILENT_MIN_US = 100000,
	SILENT_TOLD_US = 1000000, /* while no flow is busy: a lost PING is no news */
	UNPROVEN_US = 1000000     /* a path that was not heard for so long may have died */
};

static bool carries(const struct stripe *stripe)
{
	return stripe_is_up(stripe) && (stripe->info.in_flight_bytes || stripe->info.notsent_bytes);
}

/* What is asked of one path at a time. */
struct outlook {
	uint64_t since_us;  /* nothing was acknowledged since, although something was under way; 0: nothing is */
	uint64_t quiet_us;  /* after so long it is QUIET */
	uint64_t silent_us; /* and SILENT */
	bool quiet_counts;  /* another path of its kind is well, and may carry what may be needless */
	bool silent_counts; /* another path is */
};

/* What TCP would call its retransmission timeout (RFC 6298), without the kernel's lower limit of 200 ms; young
 * connections guess their variance high. */
static uint64_t explained_us(const struct stripe *stripe)
{
	uint64_t srtt_us = stripe->info.srtt_us, spread_us = 4 * (uint64_t)stripe->info.rttvar_us;
	if (!srtt_us)
		return STALE_MIN_US;
	return srtt_us + (spread_us < srtt_us ? spread_us : srtt_us) + DELAYED_ACK_US;
}

static void look_out(const struct session *session, unsigned index, struct outlook *outlook)
{
	const struct path *path = &session->paths[index];
	uint64_t oldest_us = UINT64_MAX;
	*outlook = (struct outlook){.silent_us = SILENT_MIN_US};
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		if (stripe->path != index) {
			const struct path *other = &session->paths[stripe->path];
			bool well = stripe->state == STRIPE_UP && other->state == PATH_WELL;
			outlook->silent_counts |= well;
			outlook->quiet_counts |= well && (path->backup || !other->backup) && other->budget.percent;
		} else if (carries(stripe)) {
			if (stripe->progress_us < oldest_us)
				oldest_us = stripe->progress_us;
			if (explained_us(stripe) > outlook->silent_us)
				outlook->silent_us = explained_us(stripe);
		}
	}
	if (oldest_us != UINT64_MAX)
		outlook->since_us = oldest_us > path->progress_us ? oldest_us : path->progress_us;
	outlook->quiet_us = QUIET_PAUSES * (uint64_t)path->pause_us;
	if (outlook->quiet_us < QUIET_MIN_US)
		outlook->quiet_us = QUIET_MIN_US;
	/* After a rest the first ack takes a round trip. */
	if (outlook->quiet_us > outlook->silent_us || outlook->since_us != path->progress_us)
		outlook->quiet_us = outlook->silent_us;
}

/* Which state the path should be in by now; it never gets better here. */
static enum path_state state_now(const struct session *session, const struct path *path, const struct outlook *outlook)
{
	uint64_t quiet_for_us = outlook->since_us ? session->now_us - outlook->since_us : 0;
	if (outlook->silent_counts && outlook->since_us && quiet_for_us >= outlook->silent_us)
		return PATH_SILENT;
	if (path->state == PATH_WELL && outlook->quiet_counts && outlook->since_us && quiet_for_us >= outlook->quiet_us)
		return PATH_QUIET;
	return path->state;
}

static void tell(struct stripe *stripe, enum session_event event)
{
	session_tell(stripe->session, event, stripe, 0, NULL);
}

static void enter(struct session *session, unsigned index, enum path_state state)
{
	struct stripe *stripe = session->stripes;
	while (stripe->path != index || !carries(stripe))
		stripe = stripe->next;
	if (state == PATH_QUIET)
		tell(stripe, SESSION_PATH_QUIET);
	session->paths[index].state = state;
	session->paths[index].worse_us = session->now_us;
	time_asked(session);
	for (; stripe; stripe = stripe->next) {
		if (stripe->path != index || stripe->state != STRIPE_UP || !carries(stripe))
			continue;
		if (state == PATH_SILENT)
			session_set_stripe_state(stripe, STRIPE_STALE);
		session_send_elsewhere(stripe, true);
	}
}

static void measure(struct session *session, unsigned index)
{
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->path == index && carries(stripe) && !stripe->error && stripe->info_us != session->now_us)
			session->ops->stripe_measure(session->user, stripe);
}

/* When a silent path is to be told of; UINT64_MAX: it was. */
static uint64_t told_us(const struct session *session, const struct path *path)
{
	if (path->silence_told)
		return UINT64_MAX;
	return session->linked[LINK_BUSY].first ? session->now_us : path->worse_us + SILENT_TOLD_US;
}

static void tell_silence(struct session *session, unsigned index)
{
	struct path *path = &session->paths[index];
	struct stripe *stripe = session->stripes;
	if (session->now_us < told_us(session, path))
		return;
	while (stripe->path != index || !stripe_is_up(stripe))
		stripe = stripe->next;
	path->silence_told = true;
	tell(stripe, SESSION_PATH_SILENT);
}

void paths_check(struct session *session)
{
	struct outlook outlook;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		const struct path *path = &session->paths[i];
		if (!path->stripes_up)
			continue;
		if (path->state == PATH_SILENT) {
			tell_silence(session, i);
			continue;
		}
		look_out(session, i, &outlook);
		if (state_now(session, path, &outlook) == path->state)
			continue;
		/* What is known may be old. */
		measure(session, i);
		look_out(session, i, &outlook);
		enum path_state state = state_now(session, path, &outlook);
		if (state != path->state)
			enter(session, i, state);
		if (state == PATH_SILENT)
			tell_silence(session, i);
	}
}

uint64_t paths_next_us(const struct session *session)
{
	uint64_t next_us = UINT64_MAX;
	struct outlook outlook;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		const struct path *path = &session->paths[i];
		if (path->stripes_up && path->state == PATH_SILENT && told_us(session, path) < next_us)
			next_us = told_us(session, path);
		if (!path->stripes_up || path->stripes_up == session->stripes_up || path->state == PATH_SILENT)
			continue;
		look_out(session, i, &outlook);
		bool quiet_next = path->state == PATH_WELL && outlook.quiet_counts;
		if (!outlook.since_us || !(quiet_next || outlook.silent_counts))
			continue;
		uint64_t due_us = outlook.since_us + (quiet_next ? outlook.quiet_us : outlook.silent_us);
		if (due_us < next_us)
			next_us = due_us;
	}
	/* What was learnt since the last look may have made one due already. */
	return next_us > session->now_us ? next_us : session->now_us;
}

void path_is_well(struct stripe *stripe)
{
	struct path *path = &stripe->session->paths[stripe->path];
	if (path->silence_told)
		tell(stripe, SESSION_PATH_BACK);
	path->silence_told = false;
	path->state = PATH_WELL;
}

void path_progress(struct stripe *stripe, uint64_t looked_us)
{
	struct session *session = stripe->session;
	struct path *path = &session->paths[stripe->path];
	uint64_t now_us = session->now_us, memory_us = PAUSE_ROUND_TRIPS * (uint64_t)stripe->info.srtt_us + 1;
	uint64_t from_us = path->progress_us > stripe->progress_us ? path->progress_us : stripe->progress_us;
	uint64_t past_us = now_us - from_us;
	/* It came somewhen since it was last looked for. */
	uint64_t pause_us = looked_us > from_us ? looked_us - from_us : 0;

	if (past_us > memory_us)
		past_us = memory_us;
	path->pause_us -= (uint32_t)(path->pause_us * past_us / memory_us);
	/* A fault is no pause. */
	if (pause_us > path->pause_us && path->state != PATH_SILENT)
		path->pause_us = pause_us < explained_us(stripe) ? (uint32_t)pause_us : (uint32_t)explained_us(stripe);
	path->progress_us = path->heard_us = now_us;
	path_is_well(stripe);
}

bool path_is_unproven(const struct session *session, unsigned index)
{
	const struct path *path = &session->paths[index];
	return path->stripes_up < session->stripes_up && session->now_us - path->heard_us > UNPROVEN_US;
}

void paths_avoided(const struct session *session, bool avoided[SESSION_PATHS_MAX])
{
	bool any_well = false;
	for (const struct stripe *stripe = session->stripes; stripe && !any_well; stripe = stripe->next)
		any_well = stripe->state == STRIPE_UP && session->paths[stripe->path].state == PATH_WELL;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++)
		avoided[i] = any_well && session->paths[i].state != PATH_WELL;
}
