/* How much of bulk, and of young flows, a path may have under way.
 *
 * Stripes share their path's bottleneck with small flows, and with each other. However they are controlled, together
 * they fill its queue, and overrun it: BBR's windows hold twice what the path needs, and never less than four segments
 * each, CUBIC's grow until the queue drops. What waits there is an RTT of delay for every small frame, and for every
 * repair; what is dropped there travels twice.
 *
 * So what a path has under way is limited to what it delivers within its shortest RTT and a little more, once a queue
 * was seen to stay on it: while the RTT is longer than that, the bottleneck is busy, and what arrives is what it can
 * do. While it holds bulk back the limit follows the RTT, so that this stays as short as it should. Before a queue was
 * seen each flow may fill the windows that a few connections begin with, and the stripes may then have twice as much
 * under way each round trip until all of theirs would be full, and from there a third more than the most that arrived
 * in one: all of them doubling theirs on would overrun the queue before it is seen.
 *
 * What fills the path is then given to no more of its stripes than have a few segments each: where a stripe has one
 * under way, its loss is told by a timer only, and BBR lets each have four, whatever the path holds. Where no limit
 * holds bulk back, more stripes are more windows, and it has them all.
 *
 * A queue that others fill is not made shorter by a limit: one that stays all the same ends it for a while, and for
 * longer each time.
 */
#include "session_internal.h"

enum {
	SLACK_DIVISOR = 8, /* of the shortest RTT, so much may be queue, */
	QUEUE_DIVISOR = 4, /* and so much is seen as one */
	SLACK_US = 1000,
	BUSY_LOOKS = 3, /* RTTs in a row with a queue: it is none of a burst, and the bottleneck is busy */
	LIMIT_MIN_BYTES = 16384,
	INITIAL_SEGMENTS = 10, /* of each stripe (RFC 6928), */
	INITIAL_STRIPES = 40,  /* but of no more than these, */
	FLOW_STRIPES = 8,      /* and for each flow of no more than these */
	EACH_SEGMENTS = 4,     /* of what is enough: three tell of the fourth's loss (RFC 5681), and it is the window
	                          that a loss of 9 % leaves (1.22 / sqrt(p), Mathis et al., CCR 1997) */
	STRIPES_MIN = 2,       /* though the path holds less */
	START_PERCENT = 133,   /* of what is enough for what was delivered, while no queue is seen; twice what is enough
	                          up to what the windows held at first */
	FADING_DIVISOR = 4,    /* of what the bottleneck did too little, for each RTT with one */
	FOREIGN_LOOKS = 24, /* so many more RTTs with a queue than without, though bulk was held back: it is not ours */
	REMEMBERED_US = 10000000,   /* how long a queue that was seen, or was not ours, tells anything; the latter twice
	                               as long each time in a row, */
	FOREIGN_MAX_US = 300000000, /* up to this: so long the kernel keeps a least RTT (tcp_min_rtt_wlen) */
	LATELY_US = 1000000,        /* so long bulk is taken to fill the path after its limit held it back */
	PAUSE_RTTS = 4              /* a measurement over a longer time has a pause in it */
};

/* What the stripes of a path say, taken together. */
struct look {
	unsigned stripes; /* that are taken together */
	uint32_t mss_bytes;
	uint64_t under_way_bytes;
	uint64_t rtt_us; /* mean over what is under way */
	uint32_t least_rtt_us;
	uint64_t initial_bytes, windows_Bps; /* what the windows held at first, and what they let through now */
};

static void look_at(const struct session *session, unsigned index, struct look *look)
{
	uint64_t weighted = 0;
	*look = (struct look){.least_rtt_us = UINT32_MAX};
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		const struct stripe_info *info = &stripe->info;
		if (stripe->path != index || stripe->state != STRIPE_UP || !info->srtt_us || !info->rtt_min_us)
			continue;
		if (look->stripes++ < INITIAL_STRIPES)
			look->initial_bytes += (uint64_t)INITIAL_SEGMENTS * info->mss_bytes;
		look->mss_bytes = info->mss_bytes;
		look->under_way_bytes += info->under_way_bytes;
		look->windows_Bps += (uint64_t)info->cwnd_bytes * 1000000 / info->srtt_us;
		weighted += (uint64_t)info->under_way_bytes * info->srtt_us;
		if (info->rtt_min_us < look->least_rtt_us)
			look->least_rtt_us = info->rtt_min_us;
	}
	look->rtt_us = look->under_way_bytes ? weighted / look->under_way_bytes : 0;
}

/* Enough is under way for a queue: half of what the path is known to hold. */
static bool is_busy(const struct path_queue *queue, const struct look *look)
{
	return 2 * look->under_way_bytes >= queue->most_Bps * look->least_rtt_us / 1000000;
}

/* What the path delivers within its shortest RTT, and a little more. */
static uint64_t enough_bytes(const struct path_queue *queue, uint64_t least_us)
{
	return queue->most_Bps * (least_us + least_us / SLACK_DIVISOR + SLACK_US) / 1000000;
}

/* The limit holds bulk back, and no queue is seen: half of what the RTT says is missing to that little more is added,
 * or taken away. */
static void tune(struct path_queue *queue, const struct look *look)
{
	int64_t least_us = look->least_rtt_us, rtt_us = (int64_t)look->rtt_us;
	if (!least_us || !rtt_us)
		return;
	int64_t left_us = least_us + least_us / SLACK_DIVISOR + SLACK_US - rtt_us;
	int64_t limit_bytes = (int64_t)queue->limit_bytes + (int64_t)queue->limit_bytes * left_us / (2 * least_us);
	int64_t enough = (int64_t)enough_bytes(queue, look->least_rtt_us);
	queue->limit_bytes = (uint64_t)(limit_bytes > enough ? limit_bytes : enough);
}

/* The queue is not ours. */
static void give_way(struct path_queue *queue, uint64_t now_us)
{
	bool again = queue->foreign_for_us && now_us - queue->foreign_us < 2 * queue->foreign_for_us;
	queue->foreign_us = now_us;
	queue->foreign_for_us = again ? 2 * queue->foreign_for_us : REMEMBERED_US;
	if (queue->foreign_for_us > FOREIGN_MAX_US)
		queue->foreign_for_us = FOREIGN_MAX_US;
}

/* No queue was seen of late. Not all that the windows have grown to is let through, since small flows make windows grow
 * that together are more than the path holds. */
static void limit_start(struct path_queue *queue, const struct look *look)
{
	uint64_t enough = enough_bytes(queue, look->least_rtt_us);
	queue->first_bytes = queue->queue_us ? 0 : look->initial_bytes;
	queue->first_flow_bytes = FLOW_STRIPES * INITIAL_SEGMENTS * look->mss_bytes;
	uint64_t twice = 2 * enough < queue->first_bytes ? 2 * enough : queue->first_bytes;
	uint64_t start_bytes = enough * START_PERCENT / 100;
	if (start_bytes < twice)
		start_bytes = twice;
	queue->start_bytes = start_bytes > LIMIT_MIN_BYTES ? start_bytes : LIMIT_MIN_BYTES;
}

/* How many stripes have EACH_SEGMENTS of what is enough, once that is known. */
static void count_stripes(struct path_queue *queue, const struct look *look)
{
	if (!queue->queue_us || !look->mss_bytes)
		return;
	uint64_t stripes = enough_bytes(queue, look->least_rtt_us) / (EACH_SEGMENTS * look->mss_bytes);
	if (stripes < STRIPES_MIN)
		stripes = STRIPES_MIN;
	queue->enough_stripes = stripes < FRAME_STRIPES_MAX ? (unsigned)stripes : FRAME_STRIPES_MAX;
}

/* A limit ends, and what has none begins as if it had never been. */
static void bound(struct path_queue *queue, uint64_t now_us, const struct look *look)
{
	bool foreign = queue->foreign_us && now_us - queue->foreign_us < queue->foreign_for_us;
	if (foreign || now_us - queue->queue_us > REMEMBERED_US)
		queue->limit_bytes = queue->held_looks = 0;
	if (foreign || queue->limit_bytes)
		queue->start_bytes = 0;
	else
		limit_start(queue, look);
	count_stripes(queue, look);
}

static void adapt(struct path_queue *queue, uint64_t now_us, const struct look *look, uint64_t rate_Bps)
{
	uint64_t least_us = look->least_rtt_us;
	bool queued = look->rtt_us > least_us + least_us / QUEUE_DIVISOR + SLACK_US;
	if (queue->limit_bytes && queue->held_back)
		queue->held_us = now_us;
	/* Of three looks in a row that see a queue, the bottleneck was busy between the last two, and what comes back
	 * tells; not in a lull, in which the stripes' smoothed RTTs still tell of a queue that was. */
	if (rate_Bps > queue->most_Bps)
		queue->most_Bps = rate_Bps;
	else if (queued && queue->queue_looks >= BUSY_LOOKS - 1 && is_busy(queue, look))
		queue->most_Bps -= (queue->most_Bps - rate_Bps) / FADING_DIVISOR;
	queue->queue_looks = queued ? queue->queue_looks + 1 : 0;
	if (queued && (queue->limit_bytes || queue->queue_looks >= BUSY_LOOKS)) {
		queue->limit_bytes = enough_bytes(queue, least_us);
		queue->queue_us = now_us;
	} else if (queue->limit_bytes && queue->held_back) {
		tune(queue, look);
		queue->queue_us = now_us; /* there would be one */
		if (!queue->held_looks)
			queue->foreign_for_us = 0;
	}
	if (queue->limit_bytes && queue->limit_bytes < LIMIT_MIN_BYTES)
		queue->limit_bytes = LIMIT_MIN_BYTES;
	if (!queued)
		queue->held_looks -= queue->held_looks > 0;
	else if (queue->held_back && ++queue->held_looks > FOREIGN_LOOKS)
		give_way(queue, now_us);
}

static void look_again(struct session *session, unsigned index)
{
	struct path *path = &session->paths[index];
	struct look look;
	look_at(session, index, &look);
	uint64_t took_us = session->now_us - path->queue.looked_us;
	if (look.least_rtt_us == UINT32_MAX || took_us < look.least_rtt_us)
		return;
	/* Stripes that came, went or were held up tell nothing of the bottleneck: what one has delivered that was stale
	 * till now may be acknowledged all at once. */
	if (took_us < PAUSE_RTTS * (uint64_t)look.least_rtt_us + TICK_US && look.stripes == path->queue.looked_stripes)
		adapt(&path->queue, session->now_us, &look,
		      (path->delivered_bytes - path->queue.looked_bytes) * 1000000 / took_us);
	else
		path->queue.queue_looks = 0;
	bound(&path->queue, session->now_us, &look);
	path->queue.windows_Bps = path->queue.start_bytes ? look.windows_Bps : 0;
	path->queue.looked_us = session->now_us;
	path->queue.looked_stripes = look.stripes;
	path->queue.looked_bytes = path->delivered_bytes;
	path->queue.held_back = false;
}

void queues_look(struct session *session)
{
	session->most_Bps = 0;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		if (!session->paths[i].stripes_up)
			continue;
		look_again(session, i);
		const struct path *path = &session->paths[i];
		if (path->state == PATH_WELL)
			session->most_Bps += path->queue.most_Bps > path->queue.windows_Bps ? path->queue.most_Bps
			                                                                    : path->queue.windows_Bps;
	}
}

/* 0: there is none. */
static uint64_t limit_of(const struct session *session, unsigned index)
{
	const struct path_queue *queue = &session->paths[index].queue;
	if (queue->limit_bytes || !queue->start_bytes)
		return queue->limit_bytes;
	uint64_t first_bytes = session->linked[LINK_BUSY].count * queue->first_flow_bytes;
	if (first_bytes > queue->first_bytes)
		first_bytes = queue->first_bytes;
	return queue->start_bytes > first_bytes ? queue->start_bytes : first_bytes;
}

bool queue_is_full(const struct session *session, unsigned index, uint64_t under_way_bytes)
{
	uint64_t limit_bytes = limit_of(session, index);
	return limit_bytes && under_way_bytes >= limit_bytes;
}

bool queue_has_idle(const struct session *session, unsigned index, uint64_t under_way_bytes)
{
	uint64_t limit_bytes = limit_of(session, index);
	return !limit_bytes || under_way_bytes < limit_bytes / 2;
}

bool queue_fills(const struct path *path, uint64_t now_us)
{
	return path->queue.held_us && now_us - path->queue.held_us < LATELY_US;
}

unsigned queue_stripes(const struct path *path, uint64_t now_us)
{
	/* Without any limit the queue is not ours alone, and full. */
	bool full = queue_fills(path, now_us) || !(path->queue.limit_bytes || path->queue.start_bytes);
	return full && path->queue.enough_stripes ? path->queue.enough_stripes : FRAME_STRIPES_MAX;
}

void queue_forget(struct path *path)
{
	path->queue = (struct path_queue){0};
}
