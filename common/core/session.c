#include "session_internal.h"

#include <assert.h>

#include "memory.h"

/* --- Life ---------------------------------------------------------------------------------------------------------*/

struct session *session_new(const struct session_config *config, const struct session_ops *ops, void *user,
                            uint64_t now_us)
{
	struct session *session = memory_new(1, sizeof *session);
	if (!session)
		return NULL;
	session->ops = ops;
	session->user = user;
	session->config = *config;
	if (session->config.limits.flow_window_bytes > WINDOW_MAX)
		session->config.limits.flow_window_bytes = WINDOW_MAX;
	session->now_us = session->down_us = now_us;
	session->hash_size = HASH_START;
	session->hash = memory_new(session->hash_size, sizeof *session->hash);
	if (config->role == SESSION_SERVER)
		session->seen = memory_new(SEEN_IDS / 64, sizeof *session->seen);
	/* An eighth is left for what is not pages: flows, and what they remember of bytes. */
	size_t pages = (size_t)(config->limits.memory_bytes * 7 / 16 / sizeof(struct page));
	page_pool_init(&session->egress_pool, pages);
	page_pool_init(&session->ingress_pool, pages);
	session->ingress_pool.promised = true;
	session->egress_pool.account.limit_bytes = session->ingress_pool.account.limit_bytes =
	        config->limits.memory_bytes / 16;
	if (!session->hash || (config->role == SESSION_SERVER && !session->seen)) {
		session_free(session);
		return NULL;
	}
	return session;
}

static void free_flow(struct flow *flow)
{
	struct session *session = flow->session;
	session_drop_control(flow, 0xff);
	flow_leave_turn(flow);
	session_unlink(flow, LINK_BUSY);
	session_unlink(flow, LINK_STARVED);
	session_unlink(flow, LINK_OWED);
	block_drop(flow);
	session_unlink(flow, LINK_BLOCK);
	window_release(flow);
	egress_fini(&flow->egress);
	ingress_fini(&flow->ingress);
	session->flow_count--;
	memory_free(flow);
}

static struct stripe **place_of(struct session *session, uint32_t stripe_id)
{
	return &session->by_id[stripe_id % SESSION_STRIPES_MAX];
}

static void free_stripe(struct stripe *stripe)
{
	struct stripe **place = place_of(stripe->session, stripe->id);
	if (*place == stripe)
		*place = NULL;
	stripe_output_clear(stripe);
	stats_add_traffic(&stripe->session->paths[stripe->path].past, &stripe->traffic);
	memory_free(stripe->items);
	stripe->session->stripe_count--;
	memory_free(stripe);
}

void session_free(struct session *session)
{
	while (session->stripes) {
		struct stripe *stripe = session->stripes;
		session->stripes = stripe->next;
		free_stripe(stripe);
	}
	for (uint32_t i = 0; session->hash && i < session->hash_size; i++) {
		while (session->hash[i]) {
			struct flow *flow = session->hash[i];
			session->hash[i] = flow->hash_next;
			free_flow(flow);
		}
	}
	page_pool_fini(&session->egress_pool);
	page_pool_fini(&session->ingress_pool);
	memory_free(session->hash);
	memory_free(session->seen);
	memory_free(session);
}

void session_tell(struct session *session, enum session_event event, struct stripe *stripe, uint32_t flow,
                  const char *text)
{
	struct session_event_info info = {event, stripe ? stripe->path : 0, stripe, flow, text};
	session->ops->event(session->user, &info);
}

/* --- Flow table ---------------------------------------------------------------------------------------------------*/

/* Multiplicative hashing (Knuth, volume 3, 6.4): ids in any regular steps are spread. */
static uint32_t slot_of(uint32_t id, uint32_t hash_size)
{
	return (uint32_t)((uint64_t)(id * 2654435769u) * hash_size >> 32);
}

static struct flow **bucket_of(const struct session *session, uint32_t id)
{
	return &session->hash[slot_of(id, session->hash_size)];
}

/* Every frame would go along the chain. With as many buckets as flows, only ids that were picked for it make one so
 * long. */
static bool chain_is_full(const struct session *session, uint32_t id)
{
	unsigned length = 0;
	for (const struct flow *flow = *bucket_of(session, id); flow; flow = flow->hash_next)
		length++;
	return length >= CHAIN_MAX;
}

struct flow *session_find_flow(const struct session *session, uint32_t id)
{
	struct flow *flow = *bucket_of(session, id);
	while (flow && flow->id != id)
		flow = flow->hash_next;
	return flow && flow->state != FLOW_ENDED ? flow : NULL;
}

/* On failure the table only stays slower. */
static void grow_hash(struct session *session)
{
	uint32_t size = session->hash_size * 2;
	struct flow **hash = memory_new(size, sizeof *hash);
	if (!hash)
		return;
	for (uint32_t i = 0; i < session->hash_size; i++) {
		while (session->hash[i]) {
			struct flow *flow = session->hash[i];
			session->hash[i] = flow->hash_next;
			struct flow **bucket = &hash[slot_of(flow->id, size)];
			flow->hash_next = *bucket;
			*bucket = flow;
		}
	}
	memory_free(session->hash);
	session->hash = hash;
	session->hash_size = size;
}

struct flow *session_add_flow(struct session *session, uint32_t id, const struct syn *syn, enum flow_state state)
{
	if (session->flow_count >= session->config.limits.flows || !window_admits(session, 1))
		return NULL;
	if (chain_is_full(session, id))
		return NULL;
	struct flow *flow = memory_new(1, sizeof *flow);
	if (!flow)
		return NULL;
	if (session->flow_count >= session->hash_size)
		grow_hash(session);
	flow->session = session;
	flow->id = id;
	flow->state = state;
	flow->syn = *syn;
	egress_init(&flow->egress, &session->egress_pool);
	ingress_init(&flow->ingress, &session->ingress_pool);
	flow->express_bytes = EXPRESS_BYTES;
	flow->young_bytes = YOUNG_BYTES;
	struct flow **bucket = bucket_of(session, id);
	flow->hash_next = *bucket;
	*bucket = flow;
	session->flow_count++;
	session->stats.flows_opened++;
	window_start(flow);
	return flow;
}

bool session_has_seen(const struct session *session, uint32_t id)
{
	if (session->config.role == SESSION_CLIENT || id > session->last_flow_id)
		return id <= session->last_flow_id;
	if (session->last_flow_id - id >= SEEN_IDS)
		return true;
	uint32_t bit = id % SEEN_IDS;
	return session->seen[bit / 64] >> bit % 64 & 1;
}

void session_mark_seen(struct session *session, uint32_t id)
{
	if (id > session->last_flow_id) {
		uint32_t from = session->last_flow_id + 1;
		if (id - session->last_flow_id > SEEN_IDS)
			from = id - SEEN_IDS + 1;
		/* By words, since the other side chooses how many. */
		while (from != id) {
			bool whole = from % 64 == 0 && id - from >= 64;
			uint64_t bits = whole ? UINT64_MAX : (uint64_t)1 << from % 64;
			session->seen[from % SEEN_IDS / 64] &= ~bits;
			from += whole ? 64 : 1;
		}
		session->last_flow_id = id;
	}
	session->seen[id % SEEN_IDS / 64] |= (uint64_t)1 << id % SEEN_IDS % 64;
}

void session_reset_all(struct session *session, enum reset_reason reason)
{
	for (uint32_t i = 0; i < session->hash_size; i++)
		for (struct flow *flow = session->hash[i]; flow; flow = flow->hash_next)
			flow_finish(flow, reason);
	session->reply_count = 0;
}

/* --- What waits: events for the owner, control frames -------------------------------------------------------------*/

void session_add_event(struct flow *flow, uint8_t event)
{
	struct session *session = flow->session;
	if (!flow->events) {
		flow->event_next = NULL;
		if (session->event_last)
			session->event_last->event_next = flow;
		else
			session->event_first = flow;
		session->event_last = flow;
	}
	flow->events |= event;
}

void session_add_control(struct flow *flow, uint8_t control)
{
	struct session *session = flow->session;
	if (!flow->control) {
		flow->control_next = NULL;
		flow->control_prev = session->control_last;
		if (session->control_last)
			session->control_last->control_next = flow;
		else
			session->control_first = flow;
		session->control_last = flow;
	}
	flow->control |= control;
}

void session_drop_control(struct flow *flow, uint8_t control)
{
	struct session *session = flow->session;
	if (!flow->control)
		return;
	flow->control &= (uint8_t)~control;
	if (flow->control)
		return;
	if (flow->control_prev)
		flow->control_prev->control_next = flow->control_next;
	else
		session->control_first = flow->control_next;
	if (flow->control_next)
		flow->control_next->control_prev = flow->control_prev;
	else
		session->control_last = flow->control_prev;
}

void session_add_reply(struct session *session, enum frame_type type, uint32_t flow, enum open_status status)
{
	if (session->reply_count) {
		uint32_t last = (session->reply_first + session->reply_count - 1) % REPLIES_MAX;
		if (session->replies[last].flow == flow && session->replies[last].type == type)
			return;
	}
	if (session->reply_count == REPLIES_MAX)
		return; /* the other side asks again: its OPEN, RESET or DATA without an answer */
	session->replies[(session->reply_first + session->reply_count) % REPLIES_MAX] =
	        (struct reply){type, flow, status};
	session->reply_count++;
}

void session_add_refusal(struct session *session, uint32_t flow, enum open_status status)
{
	session->refusals[session->refusal_next] = (struct reply){FRAME_OPEN_RESULT, flow, status};
	session->refusal_next = (session->refusal_next + 1) % REFUSALS_MAX;
}

/* --- Stripes ------------------------------------------------------------------------------------------------------*/

static void set_path(struct path *path, const struct hello *hello)
{
	/* Each stripe of a path says the same; its dialler may have been configured anew. */
	if (!path->known || path->budget.percent != hello->reinject_percent)
		budget_init(&path->budget, hello->reinject_percent);
	path->known = true;
	path->backup = hello->backup;
}

static struct stripe *add_stripe(struct session *session, const struct hello *hello, void *user, uint64_t now_us)
{
	assert(hello->path < SESSION_PATHS_MAX);
	session->now_us = now_us;
	if (session->stripe_count >= SESSION_STRIPES_MAX)
		return NULL;
	struct stripe *stripe = memory_new(1, sizeof *stripe);
	if (!stripe)
		return NULL;
	stripe->items = memory_new(STRIPE_OUTPUT_ITEMS, sizeof *stripe->items);
	if (!stripe->items) {
		memory_free(stripe);
		return NULL;
	}
	set_path(&session->paths[hello->path], hello);
	stripe->session = session;
	stripe->user = user;
	stripe->id = ++session->last_stripe_id;
	stripe->path = hello->path;
	stripe->index = hello->index;
	if (!session->paths[hello->path].quota_bytes)
		session->paths[hello->path].quota_bytes = QUOTA_START_BYTES;
	stripe->express = output_is_express(hello->index, hello->stripes);
	stripe->wide = output_is_wide(hello->stripes);
	stripe->backup = hello->backup;
	stripe->pool = &session->egress_pool;
	stripe->progress_us = now_us;
	frame_reader_init(&stripe->reader);
	stripe->next = session->stripes;
	session->stripes = stripe;
	*place_of(session, stripe->id) = stripe;
	session->stripe_count++;
	return stripe;
}

struct stripe *session_stripe_dialled(struct session *session, const struct hello *hello, void *user, uint64_t now_us)
{
	struct stripe *stripe = add_stripe(session, hello, user, now_us);
	if (!stripe)
		return NULL;
	struct frame f = {.type = FRAME_HELLO, .hello = *hello};
	memcpy(f.hello.session, session->config.id, FRAME_ID_BYTES);
	output_frame(stripe, &f);
	return stripe;
}

struct stripe *session_stripe_accepted(struct session *session, const struct hello *hello, void *user, uint64_t now_us)
{
	struct stripe *stripe = add_stripe(session, hello, user, now_us);
	if (!stripe)
		return NULL;
	struct frame f = {.type = FRAME_WELCOME, .welcome = {.status = WELCOME_OK}};
	memcpy(f.welcome.incarnation, session->config.incarnation, FRAME_ID_BYTES);
	output_frame(stripe, &f);
	session->goaway_due = session->goaway_sent;
	session_set_stripe_state(stripe, STRIPE_UP);
	return stripe;
}

void session_set_stripe_state(struct stripe *stripe, enum stripe_state state)
{
	struct session *session = stripe->session;
	struct path *path = &session->paths[stripe->path];
	enum stripe_state old = stripe->state;
	bool was_up = stripe_is_up(stripe);
	assert(old != STRIPE_DEAD && state != STRIPE_HANDSHAKE && old != state);
	assert(state != STRIPE_STALE || old == STRIPE_UP);
	stripe->state = state;
	if (stripe_is_up(stripe) && !was_up) {
		session->stripes_up++;
		path->stripes_up++;
		path->progress_us = path->heard_us = session->now_us;
		path_is_well(stripe);
		stripe->progress_us = session->now_us;
		session_tell(session, SESSION_STRIPE_UP, stripe, 0, NULL);
		if (path->stripes_up == 1) {
			queue_forget(path);
			session_tell(session, SESSION_PATH_UP, stripe, 0, NULL);
		}
		if (session->stripes_up == 1) {
			session->down_us = 0;
			session->asked_us = 0;
			session_tell(session, SESSION_UP, stripe, 0, NULL);
		}
	} else if (state == STRIPE_STALE) {
		stripe->timed_us = stripe->rest_us = 0;
		session_tell(session, SESSION_STRIPE_STALE, stripe, 0, NULL);
	} else if (old == STRIPE_STALE && state == STRIPE_UP) {
		session_tell(session, SESSION_STRIPE_BACK, stripe, 0, NULL);
	} else if (state == STRIPE_DEAD && was_up) {
		session->stripes_up--;
		path->stripes_up--;
		if (!path->stripes_up) {
			path->silence_told = false;
			session_tell(session, SESSION_PATH_DOWN, stripe, 0, NULL);
		}
		if (!session->stripes_up) {
			session->down_us = session->now_us;
			session_tell(session, SESSION_DOWN, stripe, 0, NULL);
		}
	}
}

struct stripe *session_find_stripe(const struct session *session, uint32_t id)
{
	struct stripe *stripe = session->by_id[id % SESSION_STRIPES_MAX];
	if (stripe && stripe->id == id)
		return stripe;
	stripe = session->stripes;
	while (stripe && stripe->id != id)
		stripe = stripe->next;
	return stripe;
}

/* OPEN, and what must follow it on the same stripe, starts again on another. */
static void reopen_elsewhere(struct flow *flow, uint32_t stripe_id)
{
	bool travels = false;
	for (unsigned i = 0; i < FLOW_OPENS_MAX; i++) {
		if (flow->open_stripes[i] == stripe_id)
			flow->open_stripes[i] = 0;
		travels = travels || flow->open_stripes[i];
	}
	if (flow->state == FLOW_OPENING && !travels)
		session_add_control(flow, FLOW_CONTROL_OPEN);
}

/* The last ACK says all that those before it did. */
static void answer_elsewhere(struct flow *flow, uint32_t stripe_id)
{
	if (flow->state == FLOW_RESETTING)
		session_add_control(flow, FLOW_CONTROL_RESET);
	if (flow->state != FLOW_OPEN)
		return;
	if (flow->result_stripe == stripe_id)
		session_add_control(flow, FLOW_CONTROL_RESULT);
	if (flow->ack_stripe == stripe_id)
		session_add_control(flow, FLOW_CONTROL_ACK);
}

void session_send_elsewhere(const struct stripe *stripe, bool lives)
{
	struct session *session = stripe->session;
	for (uint32_t i = 0; i < session->hash_size; i++) {
		for (struct flow *flow = session->hash[i]; flow; flow = flow->hash_next) {
			reopen_elsewhere(flow, stripe->id);
			if (egress_stripe_lost(&flow->egress, stripe->id, lives ? stripe->info.arrived_bytes : 0))
				flow_update_turn(flow);
			answer_elsewhere(flow, stripe->id);
		}
	}
}

void session_stripe_lost(struct stripe *stripe, uint64_t now_us)
{
	struct session *session = stripe->session;
	session->now_us = now_us;
	stripe->user = NULL;
	if (stripe->state == STRIPE_DEAD)
		return;
	session_set_stripe_state(stripe, STRIPE_DEAD);
	session->dead_stripes = true;
	stripe_output_clear(stripe);
	session_send_elsewhere(stripe, false);
}

static void free_dead_stripes(struct session *session)
{
	struct stripe **link = &session->stripes;
	while (*link) {
		struct stripe *stripe = *link;
		if (stripe->state == STRIPE_DEAD) {
			*link = stripe->next;
			free_stripe(stripe);
		} else {
			link = &stripe->next;
		}
	}
	session->dead_stripes = false;
}

const struct stripe *session_first_stripe(const struct session *session)
{
	return session->stripes;
}

/* --- The round ----------------------------------------------------------------------------------------------------*/

static void free_ended_flows(struct session *session)
{
	struct flow **link = &session->ended;
	while (*link) {
		struct flow *flow = *link;
		if (flow->events) {
			link = &flow->turn_next;
			continue;
		}
		*link = flow->turn_next;
		struct flow **bucket = bucket_of(session, flow->id);
		while (*bucket != flow)
			bucket = &(*bucket)->hash_next;
		*bucket = flow->hash_next;
		free_flow(flow);
	}
}

static void make_callbacks(struct flow *flow, uint8_t events)
{
	struct session *session = flow->session;
	const struct session_ops *ops = session->ops;
	/* Any callback may end the flow's ownership (user NULL): the others are then void. */
	if (events & FLOW_EVENT_OPEN && flow->state == FLOW_CONNECTING)
		ops->flow_open(session->user, flow);
	if (events & FLOW_EVENT_RESULT && flow->user) {
		ops->flow_result(session->user, flow, flow->open_status);
		if (flow->open_status != OPEN_CONNECTED)
			flow->user = NULL;
	}
	if (events & FLOW_EVENT_ENDED) {
		if (flow->user)
			ops->flow_ended(session->user, flow, flow->reason);
		flow->user = NULL;
		return;
	}
	if (!flow->user)
		return;
	if (events & FLOW_EVENT_READABLE && flow->state == FLOW_OPEN && !flow->readable_told &&
	    (ingress_readable(&flow->ingress) || flow_at_end(flow))) {
		flow->readable_told = true;
		ops->flow_readable(session->user, flow);
	}
	if (events & FLOW_EVENT_WRITABLE && flow->app_waits && flow->user) {
		flow->app_waits = false;
		ops->flow_writable(session->user, flow);
	}
}

static void dispatch(struct session *session)
{
	while (session->event_first) {
		struct flow *flow = session->event_first;
		uint8_t events = flow->events;
		session->event_first = flow->event_next;
		if (!session->event_first)
			session->event_last = NULL;
		flow->events = 0;
		make_callbacks(flow, events);
	}
}

/* Flows that found no memory for the application's bytes try again when some has come back; with the heap
 * exhausted nothing tells when, so the tick asks as well (session_time.c). */
static void wake_starved(struct session *session)
{
	size_t taken = session->egress_pool.used + session->flow_count;
	bool less = taken < session->starved_at;
	session->starved_at = taken;
	struct flow_list *starved = &session->linked[LINK_STARVED];
	for (uint32_t left = less ? starved->count : 0; left; left--) {
		struct flow *flow = starved->first;
		session_unlink(flow, LINK_STARVED);
		flow_offer_room(flow); /* back to the end, if there is still none */
	}
}

void session_run(struct session *session, uint64_t now_us)
{
	session->now_us = now_us;
	time_run(session);
	wake_starved(session);
	dispatch(session);
	window_acks_due(session);
	output_run(session);
	free_ended_flows(session);
	if (session->dead_stripes)
		free_dead_stripes(session);
}

static bool any_stripe_works(const struct session *session)
{
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP && !stripe->error)
			return true;
	return false;
}

bool session_can_open(const struct session *session)
{
	return session_can_open_after(session, 0);
}

bool session_can_open_after(const struct session *session, uint32_t waiting)
{
	return session->config.role == SESSION_CLIENT && any_stripe_works(session) && !session->goaway_heard &&
	       !session->goaway_sent && time_far_end_answers(session) &&
	       (uint64_t)session->flow_count + waiting < session->config.limits.flows &&
	       window_admits(session, waiting + 1);
}

bool session_has_room_after(const struct session *session, uint32_t waiting)
{
	return window_fits(session, waiting + 1);
}

void session_goaway(struct session *session, uint64_t now_us)
{
	session->now_us = now_us;
	if (!session->goaway_sent)
		session->goaway_due = true;
	session->goaway_sent = true;
}
