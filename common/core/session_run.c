/* The stripes of one run of the output, as they are while frames are put in, and the choice among them. */
#include "session_run.h"

#include <string.h>

enum {
	ROOM_MIN = 2048,     /* less room than this is none: tiny frames cost more than they bring */
	LOSS_UNKNOWN = 1000, /* fewer segments than this tell nothing */
	LOSS_GUESS = 10000,  /* ppm; until then */
	STUCK_RTTS = 4,      /* without an acknowledgement: repairs take less */
	LOSS_WORTH = 1000,   /* ppm; copies are worth it from here on */
	LANE_KEPT = 2        /* stripes of a wide express lane that are never lent */
};

/* The chance that the next frame, or a segment before it that is under way, is lost. */
static uint32_t repair_ppm(const struct run *run, const struct stripe *stripe)
{
	uint32_t mss_bytes = stripe->info.mss_bytes ? stripe->info.mss_bytes : RUN_FRAME_MIN;
	uint64_t ahead_bytes = stripe->info.under_way_bytes + stripe_backlog_bytes(stripe);
	uint64_t ppm = (1 + (ahead_bytes + mss_bytes - 1) / mss_bytes) * run->loss_ppm;
	return ppm < 1000000 ? (uint32_t)ppm : 1000000;
}

bool run_works(const struct run *run, int index)
{
	const struct stripe *stripe = run->stripes[index];
	return stripe->state == STRIPE_UP && !stripe->error && !run->avoided[stripe->path];
}

/* What the kernel says, but no more than it sends within some half of a round trip: after a rest the rate that it paces
 * at, which its room follows, is often far above what its window lets out. */
static uint32_t room_of(const struct stripe *stripe)
{
	uint64_t room_bytes = stripe->room_bytes, backlog_bytes = stripe_backlog_bytes(stripe);
	uint64_t soon_bytes = stripe_soon_bytes(&stripe->info);
	if (backlog_bytes + room_bytes > soon_bytes)
		room_bytes = soon_bytes > backlog_bytes ? soon_bytes - backlog_bytes : 0;
	return room_bytes >= ROOM_MIN && stripe_output_fits(stripe, 8) ? (uint32_t)room_bytes : 0;
}

/* Of the express lane, and kept for it. Where no limit holds bulk back the others do not fill the path: their windows
 * are what it waits for, and most of a wide lane is lent to it. */
static bool is_reserved(const struct run *run, const struct stripe *stripe)
{
	const struct path *path = &run->session->paths[stripe->path];
	bool lent = stripe->wide && stripe->index >= LANE_KEPT && !queue_fills(path, run->session->now_us);
	return stripe->express && !lent;
}

void run_look_at(struct run *run, size_t i)
{
	const struct stripe *stripe = run->stripes[i];
	run->choices[i] = (struct sched_choice){
	        .usable = run_works(run, (int)i) && !stripe->rest_us && !run->taken[i],
	        .express = is_reserved(run, stripe),
	        .spare = stripe->index < run->bulk_from[stripe->path],
	        .wide = stripe->wide,
	        .backup = stripe->backup,
	        .in_recovery = stripe->info.in_recovery,
	        .held_up = delivery_full(stripe) || delivery_stuck(stripe),
	        .srtt_us = stripe->info.srtt_us,
	        .path_us = run->session->paths[stripe->path].present_us,
	        .rate_Bps = stripe_rate_Bps(&stripe->info),
	        .backlog_bytes = stripe_backlog_bytes(stripe),
	        .repair_ppm = repair_ppm(run, stripe),
	        .room_bytes = room_of(stripe),
	};
}

/* The last ones of each path carry bulk, since its first are the express lane. */
static void set_spare(struct run *run)
{
	const struct session *session = run->session;
	uint64_t usable[SESSION_PATHS_MAX] = {0};
	for (size_t i = 0; i < run->count; i++)
		if (run->choices[i].usable)
			usable[run->stripes[i]->path] |= 1ull << run->stripes[i]->index;
	for (unsigned path = 0; path < SESSION_PATHS_MAX; path++) {
		unsigned left = queue_stripes(&session->paths[path], session->now_us), from = FRAME_STRIPES_MAX;
		if (left == FRAME_STRIPES_MAX)
			continue;
		while (left && from)
			left -= usable[path] >> --from & 1;
		run->bulk_from[path] = from;
	}
	for (size_t i = 0; i < run->count; i++)
		run->choices[i].spare = run->stripes[i]->index < run->bulk_from[run->stripes[i]->path];
}

void run_start(struct run *run, struct session *session)
{
	/* The arrays are large and stay as they are: only what `count` covers is read. */
	run->session = session;
	run->count = 0;
	run->ack_index = -1;
	run->loss_ppm =
	        session->loss_sent < LOSS_UNKNOWN ? LOSS_GUESS : session->loss_lost * 1000000 / session->loss_sent;
	memset(run->load_bytes, 0, sizeof run->load_bytes);
	memset(run->bulk_from, 0, sizeof run->bulk_from);
	paths_avoided(session, run->avoided);
	delivery_look(session);
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		if (!stripe_is_up(stripe))
			continue;
		if (time_to_measure(stripe))
			session->ops->stripe_measure(session->user, stripe);
		if (stripe->state == STRIPE_DEAD)
			continue;
		/* What is stuck where the path is not does not fill it, and may be there for long. */
		uint64_t stuck_us = STUCK_RTTS * (uint64_t)stripe->info.srtt_us + TICK_US;
		if (stripe->state == STRIPE_UP &&
		    session->paths[stripe->path].progress_us < stripe->progress_us + stuck_us)
			run->load_bytes[stripe->path] += stripe->info.under_way_bytes + stripe_backlog_bytes(stripe);
		run->taken[run->count] = false;
		run->stripes[run->count] = stripe;
		run_look_at(run, run->count++);
	}
	set_spare(run);
}

bool run_loses(const struct run *run)
{
	return run->loss_ppm >= LOSS_WORTH;
}

void run_take(struct run *run, int index, bool taken)
{
	if (index < 0)
		return;
	run->taken[index] = taken;
	run_look_at(run, (size_t)index);
}

int run_index_of(const struct run *run, uint32_t stripe_id)
{
	for (size_t i = 0; stripe_id && i < run->count; i++)
		if (run->stripes[i]->id == stripe_id)
			return (int)i;
	return -1;
}

/* --- The choice of a stripe ---------------------------------------------------------------------------------------*/

/* Before OPEN_RESULT, DATA must follow an OPEN on its stripe, though that has begun to rest. */
static int pick_pinned(const struct run *run, const struct flow *flow, int not_index)
{
	for (unsigned i = 0; i < FLOW_OPENS_MAX; i++) {
		int index = run_index_of(run, flow->open_stripes[i]);
		if (index >= 0 && index != not_index && !run->taken[index] && run_works(run, index) &&
		    run->choices[index].room_bytes)
			return index;
	}
	return -1;
}

/* A flow's own beginning as a small flow keeps no stripe from its bulk. */
static bool lane_reserved(const struct session *session, const struct flow *flow)
{
	uint64_t until_us = flow->id == session->lane_flow ? session->lane_others_until_us : session->lane_until_us;
	return session->now_us < until_us;
}

void run_use_lane(struct session *session, const struct flow *flow)
{
	if (flow->id != session->lane_flow) {
		session->lane_others_until_us = session->lane_until_us;
		session->lane_flow = flow->id;
	}
	session->lane_until_us = session->now_us + LANE_US;
}

static void see_queues(struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		unsigned path = run->stripes[i]->path;
		run->choices[i].queue_full = queue_is_full(run->session, path, run->load_bytes[path]);
	}
}

/* Counted from what each path's stripes have at least: they are compared within their path. */
static void see_blocks(struct run *run, const struct flow *flow)
{
	uint32_t least[SESSION_PATHS_MAX];
	memset(least, 0xff, sizeof least);
	for (size_t i = 0; i < run->count; i++) {
		uint32_t *of_path = &least[run->stripes[i]->path], frames = block_frames(flow, run->stripes[i]);
		run->choices[i].block_frames = frames;
		if (run->choices[i].usable && frames < *of_path)
			*of_path = frames;
	}
	for (size_t i = 0; i < run->count; i++)
		if (run->choices[i].usable)
			run->choices[i].block_frames -= least[run->stripes[i]->path];
}

static void note_held_back(struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		if (run->choices[i].usable && run->choices[i].queue_full && run->choices[i].room_bytes) {
			run->session->paths[run->stripes[i]->path].queue.held_back = true;
			run->session->held_back_us = run->session->now_us;
		}
}

int run_pick(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int not_index)
{
	struct session *session = run->session;
	if (flow && flow->state == FLOW_OPENING)
		return pick_pinned(run, flow, not_index);
	bool reserved = flow ? lane_reserved(session, flow) : session->now_us < session->lane_until_us;
	bool limited = class < SCHED_SMALL;
	if (class == SCHED_YOUNG)
		see_blocks(run, flow);
	if (limited)
		see_queues(run);
	int index = sched_pick(run->choices, run->count, class, len, reserved, not_index);
	if (limited && index < 0)
		note_held_back(run);
	return index;
}
