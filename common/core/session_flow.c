/* The flow_… functions of flow.h, and how a flow begins and ends. */
#include "memory.h"
#include "session_internal.h"

#include <assert.h>

struct flow *session_open(struct session *session, const struct syn *syn, void *user, uint64_t now_us)
{
	assert(user);
	session->now_us = now_us;
	if (!session_can_open(session) || session->last_flow_id == UINT32_MAX)
		return NULL;
	struct flow *flow = session_add_flow(session, session->last_flow_id + 1, syn, FLOW_OPENING);
	if (!flow)
		return NULL;
	session->last_flow_id++;
	flow->user = user;
	session_add_control(flow, FLOW_CONTROL_OPEN);
	session_link(flow, LINK_BUSY);
	return flow;
}

/* --- Lists --------------------------------------------------------------------------------------------------------*/

void session_link(struct flow *flow, unsigned which)
{
	struct flow_list *list = &flow->session->linked[which];
	struct flow_link *link = &flow->links[which];
	if (link->in)
		return;
	*link = (struct flow_link){.prev = list->last, .in = true};
	if (list->last)
		list->last->links[which].next = flow;
	else
		list->first = flow;
	list->last = flow;
	list->count++;
}

void session_unlink(struct flow *flow, unsigned which)
{
	struct flow_list *list = &flow->session->linked[which];
	struct flow_link *link = &flow->links[which];
	if (!link->in)
		return;
	if (link->prev)
		link->prev->links[which].next = link->next;
	else
		list->first = link->next;
	if (link->next)
		link->next->links[which].prev = link->prev;
	else
		list->last = link->prev;
	list->count--;
	link->in = false;
}

/* --- Turns --------------------------------------------------------------------------------------------------------*/

static bool may_send_data(const struct flow *flow)
{
	/* DATA may not come before OPEN: until its result is here, an OPEN must have gone out (session_run.c pins the
	 * stripe). */
	if (flow->state != FLOW_OPENING)
		return flow->state == FLOW_OPEN;
	for (unsigned i = 0; i < FLOW_OPENS_MAX; i++)
		if (flow->open_stripes[i])
			return true;
	return false;
}

void flow_leave_turn(struct flow *flow)
{
	struct flow_list *list = &flow->session->turns[flow->turn_list];
	if (flow->turn_list == TURN_NONE)
		return;
	if (flow->turn_prev)
		flow->turn_prev->turn_next = flow->turn_next;
	else
		list->first = flow->turn_next;
	if (flow->turn_next)
		flow->turn_next->turn_prev = flow->turn_prev;
	else
		list->last = flow->turn_prev;
	list->count--;
	flow->turn_list = TURN_NONE;
}

/* What the flow, one of the busy ones, may send in its turn so that it is done: 0 if it is no longer young, or if the
 * others would wait too long for that. */
static int32_t young_turn(const struct flow *flow)
{
	uint32_t flows = flow->session->linked[LINK_BUSY].count;
	uint64_t share_bytes = flow->session->most_Bps * YOUNG_ROUND_US / 1000000 / flows;
	if (flows > YOUNG_FLOWS_MAX || share_bytes < YOUNG_TURN_MIN)
		return 0;
	return share_bytes < (uint64_t)flow->young_bytes ? (int32_t)share_bytes : flow->young_bytes;
}

static void take_turn(struct flow *flow, bool at_end)
{
	uint8_t want = TURN_NONE;
	if (may_send_data(flow) && egress_has_next(&flow->egress))
		want = flow->express_bytes > 0 ? TURN_EXPRESS : TURN_BULK;
	else if (may_send_data(flow) && flow->egress.repeats)
		want = TURN_REPEAT;
	if (want != TURN_NONE)
		session_link(flow, LINK_BUSY);
	if (want != TURN_BULK || flow->state != FLOW_OPEN)
		session_unlink(flow, LINK_OWED);
	else if (flow->egress.lost || (flow->held_up && flow->egress.repeats))
		session_link(flow, LINK_OWED);
	if (want == flow->turn_list)
		return;
	flow_leave_turn(flow);
	if (want == TURN_NONE)
		return;
	struct flow_list *list = &flow->session->turns[want];
	/* One whose application was not quick enough goes on with its turn. */
	int32_t young_bytes = want == TURN_BULK ? young_turn(flow) : 0;
	bool first = young_bytes && !at_end && flow->in_young_turn && flow->turn_bytes > 0;
	flow->turn_prev = first ? NULL : list->last;
	flow->turn_next = first ? list->first : NULL;
	*(flow->turn_prev ? &flow->turn_prev->turn_next : &list->first) = flow;
	*(flow->turn_next ? &flow->turn_next->turn_prev : &list->last) = flow;
	list->count++;
	flow->turn_list = want;
	if (first)
		return;
	uint32_t turn_bytes = ROUND_BYTES / list->count;
	flow->turn_bytes = turn_bytes < TURN_BYTES ? (int32_t)turn_bytes : TURN_BYTES;
	flow->in_young_turn = young_bytes > flow->turn_bytes;
	if (flow->in_young_turn)
		flow->turn_bytes = young_bytes;
}

void flow_update_turn(struct flow *flow)
{
	take_turn(flow, false);
}

void flow_end_turn(struct flow *flow)
{
	flow_leave_turn(flow);
	take_turn(flow, true);
}

/* --- Ends ---------------------------------------------------------------------------------------------------------*/

void flow_finish(struct flow *flow, enum reset_reason reason)
{
	struct session *session = flow->session;
	if (flow->state == FLOW_ENDED)
		return;
	flow_leave_turn(flow);
	session_unlink(flow, LINK_BUSY);
	session_unlink(flow, LINK_STARVED);
	session_unlink(flow, LINK_OWED);
	block_drop(flow);
	session_unlink(flow, LINK_BLOCK);
	session_drop_control(flow, 0xff);
	window_release(flow);
	egress_fini(&flow->egress);
	ingress_fini(&flow->ingress);
	flow->state = FLOW_ENDED;
	flow->reason = reason;
	flow->turn_next = session->ended;
	session->ended = flow;
	session->stats.flows_ended++;
	session->stats.flows_reset += reason != RESET_NONE;
	session_add_event(flow, FLOW_EVENT_ENDED);
}

void flow_check_done(struct flow *flow)
{
	/* The last data ack must be out as well, or the other side never ends. */
	if (flow->state == FLOW_OPEN && egress_done(&flow->egress) && flow->ingress.end_taken && !flow->control)
		flow_finish(flow, RESET_NONE);
}

/* Frees what the flow holds and leaves only what it takes to get its last frame across. */
static void carry_nothing(struct flow *flow, enum flow_state state)
{
	flow_leave_turn(flow);
	session_unlink(flow, LINK_OWED);
	block_drop(flow);
	session_unlink(flow, LINK_BLOCK);
	session_drop_control(flow, 0xff);
	window_release(flow);
	egress_fini(&flow->egress);
	ingress_fini(&flow->ingress);
	flow->state = state;
}

static void start_resetting(struct flow *flow, enum reset_reason reason)
{
	carry_nothing(flow, FLOW_RESETTING);
	flow->asked_us = 0;
	flow->reason = reason;
	session_link(flow, LINK_BUSY);
	session_add_control(flow, FLOW_CONTROL_RESET);
}

void flow_reset(struct flow *flow, enum reset_reason reason)
{
	assert(reason != RESET_NONE && reason != RESET_SESSION);
	flow->user = NULL;
	if (flow->state == FLOW_RESETTING || flow->state == FLOW_ENDED)
		return;
	/* The other side has never heard of it: nothing to take back. */
	bool unheard = flow->state == FLOW_OPENING && !flow->asked_us;
	if (unheard)
		flow_finish(flow, reason);
	else
		start_resetting(flow, reason);
}

void flow_break(struct flow *flow, enum reset_reason reason, const char *why)
{
	if (flow->state == FLOW_RESETTING || flow->state == FLOW_ENDED)
		return;
	session_tell(flow->session, SESSION_FLOW_BROKEN, NULL, flow->id, why);
	start_resetting(flow, reason);
	session_add_event(flow, FLOW_EVENT_ENDED);
}

void flow_connected(struct flow *flow, enum open_status status)
{
	if (status != OPEN_CONNECTED)
		flow->user = NULL; /* also of a flow that has just ended, whose owner was not told yet */
	if (flow->state != FLOW_CONNECTING)
		return;
	flow->open_status = status;
	if (status == OPEN_CONNECTED) {
		flow->state = FLOW_OPEN;
		session_add_control(flow, FLOW_CONTROL_RESULT);
		session_add_event(flow, FLOW_EVENT_READABLE); /* the first data came with OPEN */
		return;
	}
	carry_nothing(flow, FLOW_REFUSED);
	session_add_control(flow, FLOW_CONTROL_RESULT);
}

/* --- Application → egress -----------------------------------------------------------------------------------------*/

static bool live(const struct flow *flow)
{
	return flow->state == FLOW_OPEN || flow->state == FLOW_OPENING;
}

/* What the pool lets the flow take. A page is held back for every flow; beyond that a flow may hold no more than what
 * is still free, so that the pool is shared among whatever number of flows want it (dynamic thresholds, Choudhury and
 * Hahne, IEEE/ACM ToN 1998). Where the system has no more, it is that one page. */
static size_t pool_bytes(const struct flow *flow)
{
	const struct page_pool *pool = &flow->session->egress_pool;
	size_t taken = pool->used + flow->session->flow_count, held = flow->egress.store.page_count;
	size_t free_pages = taken < pool->limit ? pool->limit - taken : 0;
	size_t pages = held < free_pages && !memory_is_scarce() ? free_pages : 0;
	if (!held && !pages && pool->used < pool->limit)
		pages = 1;
	/* The page of its last byte is there already if it holds any. */
	size_t in_page = flow->egress.end % PAGE_BYTES;
	if (held && in_page)
		pages++;
	return pages ? pages * PAGE_BYTES - in_page : 0;
}

unsigned flow_reserve(struct flow *flow, size_t len, struct iovec *slices, unsigned max)
{
	int count = 0;
	if (!live(flow))
		return 0;
	if (egress_room(&flow->egress)) {
		size_t allowed = pool_bytes(flow);
		count = egress_reserve(&flow->egress, len < allowed ? len : allowed, slices, max);
		if (count <= 0)
			session_link(flow, LINK_STARVED);
	}
	if (count <= 0)
		flow->app_waits = true;
	return count > 0 ? (unsigned)count : 0;
}

/* Nothing waits, and little is under way: keystrokes come more often than their acknowledgements. */
static bool says_little(const struct flow *flow)
{
	const struct egress *e = &flow->egress;
	return e->sent >= e->end && e->end - e->acked <= LITTLE_BYTES;
}

/* New bytes after a pause, or of a flow that says little: it counts as small again. */
static void something_to_send(struct flow *flow, bool said_little)
{
	if (said_little) {
		flow->express_bytes = EXPRESS_BYTES;
		flow->young_bytes = YOUNG_BYTES;
		flow->busy_us = flow->rate_us = flow->session->now_us;
		flow->rate_Bps = flow->rate_bytes = 0;
	}
	flow_update_turn(flow);
}

void flow_offer_room(struct flow *flow)
{
	if (!flow->app_waits || egress_room(&flow->egress) < EGRESS_BACKLOG_BYTES / 4)
		return;
	if (pool_bytes(flow))
		session_add_event(flow, FLOW_EVENT_WRITABLE);
	else
		session_link(flow, LINK_STARVED);
}

void flow_commit(struct flow *flow, size_t len)
{
	if (!live(flow))
		return;
	bool said_little = says_little(flow);
	egress_commit(&flow->egress, len);
	flow->session->stats.bytes_out += len;
	if (len)
		something_to_send(flow, said_little);
}

void flow_end(struct flow *flow)
{
	if (!live(flow) || flow->egress.fin)
		return;
	bool said_little = says_little(flow);
	egress_end(&flow->egress);
	something_to_send(flow, said_little);
}

/* --- Ingress → application ----------------------------------------------------------------------------------------*/

unsigned flow_peek(const struct flow *flow, struct iovec *slices, unsigned max)
{
	return live(flow) ? ingress_peek(&flow->ingress, slices, max) : 0;
}

void flow_consume(struct flow *flow, size_t len)
{
	if (!live(flow))
		return;
	ingress_consume(&flow->ingress, len);
	flow->session->stats.bytes_in += len;
	if (!ingress_readable(&flow->ingress))
		flow->readable_told = false;
	window_update(flow);
}

bool flow_at_end(const struct flow *flow)
{
	return live(flow) && ingress_at_end(&flow->ingress) && !flow->ingress.end_taken;
}

void flow_end_taken(struct flow *flow)
{
	if (!live(flow))
		return;
	flow->ingress.end_taken = true;
	flow_check_done(flow);
}
