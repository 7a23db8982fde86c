/* Flows → frames to stripes: what is sent next, and on which stripe. Late binding: frames are made only for stripes
 * that say they have room.
 *
 * Order: control frames (they are few, small and let go what waits), then small flows, then bulk, each by deficit round
 * robin (Shreedhar and Varghese, SIGCOMM 1995); new flows first is what fq_codel does (RFC 8290, 4.1). What bulk flows
 * lack, because it was lost or left for a better path, goes before new bytes of any of them. What is late is repeated
 * at the end, in the room that nothing new wants, and where the path's budget allows it (budget.h).
 */
#include "session_run.h"

#include <assert.h>

enum {
	FRAME_UNKNOWN = 8192, /* payload while the stripe's rate is not known */
	FRAME_TIME_US = 5000, /* a frame holds about so much time of its stripe, */
	ROUND_US = 10000,     /* and one of each flow, of all stripes */
	LOSS_WINDOW = 20000,  /* segments over which loss is remembered */
	BULK_STRIPES = 8,     /* fill a path that drops what it has no room for: x(N)/C of Altman et al. is 0.96 */
	LEFT_BYTES = 8192,    /* a frame of what was left for later */
	STUCK_MAX = 64        /* flows in a row that no stripe suits: the others will have their turn */
};

bool output_is_express(unsigned index, unsigned stripes)
{
	/* With few stripes a lane would cost too much of the path. */
	unsigned lane = stripes < 4 ? 0 : 2;
	if (output_is_wide(stripes))
		lane = stripes < 2 * BULK_STRIPES ? stripes - BULK_STRIPES : stripes / 2;
	return index < lane;
}

bool output_is_wide(unsigned stripes)
{
	return stripes >= BULK_STRIPES + 2;
}

uint32_t output_frame(struct stripe *stripe, const struct frame *f)
{
	uint8_t head[FRAME_HEAD_MAX];
	assert(!f->payload_len);
	uint32_t len = frame_encode_head(head, f);
	stripe_output_head(stripe, head, len);
	stripe->room_bytes -= stripe->room_bytes < len ? stripe->room_bytes : len;
	delivery_time(stripe);
	return len;
}

void session_stripe_info(struct stripe *stripe, const struct stripe_info *info, uint32_t room_bytes, uint64_t now_us)
{
	struct session *session = stripe->session;
	const struct stripe_info *old = &stripe->info;
	bool acked = info->delivered != old->delivered;
	bool progress = acked || (!info->in_flight_bytes && !info->notsent_bytes);

	session->now_us = now_us;
	uint64_t arrived_bytes =
	        info->arrived_bytes > old->arrived_bytes ? info->arrived_bytes - old->arrived_bytes : 0;
	if (info->sent_segments >= old->sent_segments && info->lost_segments >= old->lost_segments) {
		session->loss_sent += info->sent_segments - old->sent_segments;
		session->loss_lost += info->lost_segments - old->lost_segments;
		if (session->loss_sent > LOSS_WINDOW) {
			session->loss_sent /= 2;
			session->loss_lost /= 2;
		}
	}
	if (info->delivered > old->delivered)
		session->paths[stripe->path].delivered_bytes += (info->delivered - old->delivered) * info->mss_bytes;
	uint64_t looked_us = stripe->info_us;
	rest_learn(stripe, info);
	stripe->info = *info;
	stripe->info_us = now_us;
	stripe->room_bytes = room_bytes;
	if (acked)
		path_progress(stripe, looked_us);
	delivery_learn(stripe, arrived_bytes);
	if (progress)
		stripe->progress_us = now_us;
	if (progress && stripe->state == STRIPE_STALE)
		session_set_stripe_state(stripe, STRIPE_UP);
}

/* A frame is in: what that changes. */
static void note_put(struct run *run, int index, enum sending sending, uint32_t len)
{
	struct stripe *stripe = run->stripes[index];
	run->session->moving = true;
	run->load_bytes[stripe->path] += len;
	stripe->room_bytes -= stripe->room_bytes < len ? stripe->room_bytes : len;
	run_account(run, (size_t)index, sending, len);
	run->session->paths[stripe->path].under_way_bytes += len;
	run_look_at(run, (size_t)index);
	delivery_time(stripe);
}

void run_put_page(struct run *run, int index, const struct frame *f, struct page *page, const uint8_t *bytes)
{
	uint8_t head[FRAME_HEAD_MAX];
	uint32_t head_len = frame_encode_head(head, f);
	stripe_output_head(run->stripes[index], head, head_len);
	stripe_output_slice(run->stripes[index], page, bytes, f->payload_len);
	note_put(run, index, SENDING_COPY, head_len + f->payload_len);
}

void run_put_frame(struct run *run, int index, const struct flow *flow, const struct frame *f, enum sending sending,
                   struct egress_record *record)
{
	struct stripe *stripe = run->stripes[index];
	uint64_t offset = f->type == FRAME_OPEN ? 0 : f->offset;
	uint8_t head[FRAME_HEAD_MAX];
	uint32_t head_len = frame_encode_head(head, f);
	if (record && sending != SENDING_COPY)
		record->due_us = run->session->now_us + sched_due_us(&run->choices[index], f->payload_len);
	stripe_output_head(stripe, head, head_len);
	for (uint32_t done = 0; done < f->payload_len;) {
		size_t len = f->payload_len - done;
		struct page *page;
		const uint8_t *start = page_store_at(&flow->egress.store, offset + done, &len, &page);
		stripe_output_slice(stripe, page, start, (uint32_t)len);
		done += (uint32_t)len;
	}
	note_put(run, index, sending, head_len + f->payload_len);
	if (record && sending == SENDING_COPY)
		record->copy_position = stripe_position(stripe);
	else if (record)
		record->position = stripe_position(stripe);
}

/* --- Data ---------------------------------------------------------------------------------------------------------*/

/* With many flows frames are short, since each waits for one of every other: all of them together take a few
 * milliseconds of what the stripes carry. */
static void limit_frames(struct run *run)
{
	uint64_t rate_Bps = 0;
	uint32_t flows = run->session->turns[TURN_BULK].count;
	for (size_t i = 0; i < run->count; i++)
		if (run->choices[i].usable)
			rate_Bps += run->choices[i].rate_Bps;
	uint64_t max = flows && rate_Bps ? rate_Bps * ROUND_US / 1000000 / flows : FRAME_PAYLOAD_MAX;
	run->frame_max = max < FRAME_PAYLOAD_MAX ? (uint32_t)max : FRAME_PAYLOAD_MAX;
}

/* Payload for a new frame on the stripe: a few milliseconds of its rate, ending with a page where that is possible
 * (fewer slices), and no more than its room. */
static uint32_t frame_size(const struct run *run, int index, uint64_t offset)
{
	const struct sched_choice *choice = &run->choices[index];
	uint64_t size = choice->rate_Bps ? choice->rate_Bps * FRAME_TIME_US / 1000000 : FRAME_UNKNOWN;
	if (size > run->frame_max)
		size = run->frame_max;
	if (size > choice->room_bytes)
		size = choice->room_bytes;
	if (size < RUN_FRAME_MIN)
		size = RUN_FRAME_MIN;
	if (size > FRAME_PAYLOAD_MAX)
		size = FRAME_PAYLOAD_MAX;
	uint64_t over = (offset + size) % PAGE_BYTES;
	if (over < size / 2)
		size -= over;
	return (uint32_t)size;
}

void run_put_data(struct run *run, int index, const struct flow *flow, const struct egress_piece *piece,
                  enum sending sending)
{
	uint8_t flags = sending == SENDING_COPY ? FRAME_FLAG_COPY : 0;
	struct frame f = {.type = FRAME_DATA,
	                  .flags = (uint8_t)(flags | (piece->fin ? FRAME_FLAG_FIN : 0)),
	                  .flow = flow->id,
	                  .offset = piece->offset,
	                  .payload_len = piece->len};
	if (piece->len && block_covers(flow, piece->offset)) {
		f.type = FRAME_BLOCK;
		f.block = block_of(flow);
		block_count(flow, run->stripes[index]);
	}
	run_put_frame(run, index, flow, &f, sending, piece->record);
}

/* For a piece that is sent again: not where it was before. When it may have arrived there all the same, paths with a
 * budget first. */
static int pick_again(struct run *run, const struct flow *flow, enum sched_class class,
                      const struct egress_piece *piece)
{
	int before = run_index_of(run, piece->avoid_stripe);
	struct path *refused;
	int index = before >= 0 && run_works(run, before)
	                    ? run_pick_second(run, flow, class, piece->len + FRAME_HEAD_MAX, before, &refused)
	                    : -1;
	if (index < 0)
		index = run_pick(run, flow, class, piece->len, before);
	return index < 0 ? run_pick(run, flow, class, piece->len, -1) : index;
}

/* A stripe that was taken for stale, or its path for silent, works again before this went elsewhere. */
static bool comes_after_all(const struct run *run, uint32_t stripe_id)
{
	int index = run_index_of(run, stripe_id);
	return index >= 0 && run_works(run, index);
}

/* What comes of a flow's turn. */
enum outcome {
	OUTCOME_SENT,
	OUTCOME_STUCK, /* no stripe suits this flow; one may suit another */
	OUTCOME_FULL   /* no stripe has room */
};

/* Instead of `*piece`, which is the next, the piece that will be the next when a stripe whose path is later by
 * `later_us` has delivered it: what lies between is left for the others, which bring it meanwhile. False: the flow has
 * no such bytes, or is too young to tell. */
static bool take_ahead(struct flow *flow, uint64_t later_us, uint32_t max_len, struct egress_piece *piece)
{
	struct egress *e = &flow->egress;
	uint64_t now_us = flow->session->now_us;
	if (now_us - flow->busy_us < later_us)
		return false;
	uint64_t at = piece->offset + flow->rate_Bps * later_us / 1000000;
	uint64_t left_bytes = at > e->sent ? at - e->sent : 0;
	/* Some of the window is for the time that it takes longer. */
	if (e->sent + left_bytes - e->acked > flow->session->config.limits.flow_window_bytes * 3 / 4)
		return false;
	if (egress_sendable(e) < left_bytes + max_len) {
		e->ahead_bytes = left_bytes + max_len;
		flow->ahead_us = now_us;
		flow_offer_room(flow);
		return false;
	}
	/* A block is what was sent without a gap, and what is left, if only a part, goes later. */
	if (left_bytes && !flow->block.over)
		block_drop(flow);
	return !egress_leave(e, left_bytes, LEFT_BYTES) && egress_next_new(e, max_len, piece);
}

/* The stripe for a piece of bulk, on the best path. -1: that has no room. */
static int pick_best(struct run *run, const struct flow *flow, const struct egress_piece *piece)
{
	bool again = piece->record && piece->record->sent_us;
	enum sched_class class = flow->young_bytes > 0 ? SCHED_YOUNG : SCHED_AGAIN;
	return again ? pick_again(run, flow, class, piece) : run_pick(run, flow, class, piece->len, -1);
}

/* The stripe for a piece of bulk, or for another piece that it becomes. -1: none has room, or *stuck: the one that has
 * does not suit the flow. */
static int pick_bulk(struct run *run, struct flow *flow, struct egress_piece *piece, bool *stuck)
{
	int index = pick_best(run, flow, piece);
	if (index >= 0 || flow->state == FLOW_OPENING)
		return index;
	index = run_pick(run, flow, SCHED_BULK, piece->len, -1);
	if (index < 0)
		return -1;
	uint32_t len = frame_size(run, index, 0);
	uint64_t later_us = sched_later_us(run->choices, run->count, (size_t)index, len);
	*stuck = later_us && !take_ahead(flow, later_us, len, piece);
	return *stuck ? -1 : index;
}

static int pick_small(struct run *run, const struct flow *flow, enum sched_class class,
                      const struct egress_piece *piece)
{
	return piece->record ? pick_again(run, flow, class, piece) : run_pick(run, flow, class, piece->len, -1);
}

/* The piece is all that the flow has had to say since its last pause. */
static bool says_all(const struct flow *flow, const struct egress_piece *piece)
{
	return flow->express_bytes == EXPRESS_BYTES && !piece->record && piece->offset + piece->len == flow->egress.end;
}

static void put_copies(struct run *run, const struct flow *flow, enum sched_class class, int first,
                       struct egress_piece *piece)
{
	int copies[COPIES_MAX];
	unsigned count;
	uint32_t len = FRAME_BLOCK_HEAD_BYTES + piece->len;
	if (class == SCHED_EXPRESS) {
		count = run_pick_copies(run, flow, class, len, first, copies);
	} else if (block_covers(flow, piece->offset) && !path_is_unproven(run->session, run->stripes[first]->path)) {
		return; /* parity stands for what is lost, but not for a path that is silent */
	} else {
		copies[0] = run_pick_idle_copy(run, flow, len, first);
		count = copies[0] >= 0;
	}
	while (count--) {
		run_put_data(run, copies[count], flow, piece, SENDING_COPY);
		piece->record->copy_stripe = run->stripes[copies[count]]->id;
	}
}

/* The flow's next piece. False: it has none, or what was to be sent again has come after all. */
static bool next_piece(const struct run *run, struct flow *flow, struct egress_piece *piece, enum outcome *outcome)
{
	*outcome = OUTCOME_STUCK;
	if (!egress_next(&flow->egress, RUN_FRAME_MIN, piece))
		return false;
	if (!piece->record || !piece->record->sent_us || piece->record->asks ||
	    !comes_after_all(run, piece->avoid_stripe))
		return true;
	egress_unmark_lost(&flow->egress, piece->record);
	*outcome = OUTCOME_SENT;
	return false;
}

static enum outcome put_piece(struct run *run, struct flow *flow, enum sched_class class, int index,
                              struct egress_piece *piece)
{
	struct session *session = run->session;
	uint32_t max_len = frame_size(run, index, piece->offset);
	if (class != SCHED_BULK)
		max_len = flow->express_bytes < RUN_FRAME_MIN ? (uint32_t)flow->express_bytes : RUN_FRAME_MIN;
	bool first = !piece->record, again = piece->record && piece->record->sent_us;
	if (first)
		egress_next_new(&flow->egress, block_limit(run, flow, max_len), piece);
	if (egress_sent(&flow->egress, piece, run->stripes[index]->id, session->now_us))
		return OUTCOME_STUCK;
	run_put_data(run, index, flow, piece, again ? SENDING_AGAIN : SENDING_NEW);
	flow_offer_room(flow);
	if (!again) {
		if (class == SCHED_BULK && flow->young_bytes <= 0)
			session->bulk_us = session->now_us;
		flow->rate_bytes += piece->len;
		flow->young_bytes -= flow->young_bytes > (int32_t)piece->len ? (int32_t)piece->len : flow->young_bytes;
	}
	if (class == SCHED_EXPRESS)
		run_use_lane(session, flow);
	if (class != SCHED_BULK) {
		flow->express_bytes -= (int32_t)piece->len;
		put_copies(run, flow, class, index, piece);
	}
	if (first)
		block_sent(flow, piece);
	flow->turn_bytes -= (int32_t)piece->len;
	return OUTCOME_SENT;
}

/* One frame of the flow. */
static enum outcome send_piece(struct run *run, struct flow *flow, enum sched_class class)
{
	struct egress_piece piece;
	enum outcome outcome;
	bool stuck = flow->state == FLOW_OPENING;
	if (flow->held_up && run_repeat(run, flow))
		return OUTCOME_SENT;
	if (!next_piece(run, flow, &piece, &outcome))
		return outcome;
	if (class == SCHED_EXPRESS && !says_all(flow, &piece))
		class = SCHED_SMALL;
	int index = class == SCHED_BULK ? pick_bulk(run, flow, &piece, &stuck) : pick_small(run, flow, class, &piece);
	if (index < 0)
		return stuck ? OUTCOME_STUCK : OUTCOME_FULL;
	return put_piece(run, flow, class, index, &piece);
}

/* What bulk flows wait for that only the best path may carry, a frame of each in turn: whoever's turn it is when there
 * is room, others have waited longer, and what they have received since waits as well. */
static void send_owed(struct run *run)
{
	struct flow_list *list = &run->session->linked[LINK_OWED];
	while (list->first) {
		struct flow *flow = list->first;
		struct egress_piece piece;
		enum outcome outcome = OUTCOME_SENT;
		bool repeated = flow->held_up && run_repeat(run, flow);
		if (!repeated && next_piece(run, flow, &piece, &outcome)) {
			int index = pick_best(run, flow, &piece);
			if (index < 0)
				return;
			outcome = put_piece(run, flow, SCHED_BULK, index, &piece);
		}
		session_unlink(flow, LINK_OWED);
		flow_update_turn(flow); /* to the end of the list, if there is more */
		if (outcome == OUTCOME_STUCK && flow->links[LINK_OWED].in)
			return;
	}
}

/* Turns of one list until no stripe takes more, or every flow that is left in it is stuck. */
static void send_turns(struct run *run, uint8_t which, enum sched_class class)
{
	struct flow_list *list = &run->session->turns[which];
	uint32_t stuck = 0;
	while (list->first && stuck < list->count && stuck < STUCK_MAX) {
		struct flow *flow = list->first;
		enum outcome outcome = send_piece(run, flow, class);
		if (outcome == OUTCOME_FULL)
			return;
		bool sent = outcome == OUTCOME_SENT;
		if (sent)
			stuck = 0;
		else if (egress_has_next(&flow->egress))
			stuck++;
		if (outcome == OUTCOME_STUCK && class == SCHED_BULK)
			session_link(flow, LINK_OWED);
		flow_update_turn(flow);
		if (list->first == flow && (!sent || flow->turn_bytes <= 0))
			flow_end_turn(flow);
	}
}

/* --- The run ------------------------------------------------------------------------------------------------------*/

bool output_waits(const struct session *session)
{
	return session->control_first || session->reply_count || session->turns[TURN_EXPRESS].first ||
	       session->turns[TURN_BULK].first || session->turns[TURN_REPEAT].first ||
	       session->linked[LINK_PARITY].first;
}

static bool stripe_waits(const struct session *session)
{
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->ping_due || stripe->pong_due)
			return true;
	return session->goaway_due;
}

void output_run(struct session *session)
{
	struct run run;
	session->held_back_us = 0;
	if (session->stripes_up && (output_waits(session) || stripe_waits(session))) {
		run_start(&run, session);
		limit_frames(&run);
		run_send_control(&run);
		send_turns(&run, TURN_EXPRESS, SCHED_EXPRESS);
		blocks_send(&run);
		send_owed(&run);
		send_turns(&run, TURN_BULK, SCHED_BULK);
		blocks_send(&run); /* those that have just ended */
		run_repeats(&run);
	}
	struct stripe *next;
	for (struct stripe *stripe = session->stripes; stripe; stripe = next) {
		next = stripe->next;
		if (stripe->state != STRIPE_DEAD && (stripe->output_bytes || stripe->error))
			session->ops->stripe_output(session->user, stripe);
	}
}
