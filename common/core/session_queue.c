/* How much of bulk a path may have under way while small flows are about.
 *
 * Stripes share their path's bottleneck with small flows, and with each other. However they are controlled, together
 * they fill its queue: BBR's windows hold twice what the path needs, CUBIC's grow until the queue drops. What waits
 * there is an RTT of delay for every small frame, and for every repair.
 *
 * So what a path has under way is limited to what it delivers within its shortest RTT and a little more, once a queue
 * was seen to stay on it: while the RTT is longer than that, the bottleneck is busy, and what arrives is what it can
 * do. While it holds bulk back the limit follows the RTT, so that this stays as short as it should. It is only needed,
 * and only heeded, while the express lane is reserved, and by young flows, whose repairs would wait in the queue, too
 * (session_run.c). A queue that others fill is not made shorter by it: one that stays all
 * the same ends the limit for a while.
 */
#include "session_internal.h"

enum {
	SLACK_DIVISOR = 8, /* of the shortest RTT, so much may be queue, */
	QUEUE_DIVISOR = 4, /* and so much is seen as one */
	SLACK_US = 1000,
	BUSY_LOOKS = 3, /* RTTs in a row with a queue: it is none of a burst, and the bottleneck is busy */
	LIMIT_MIN_BYTES = 65536,
	FADING_DIVISOR = 4,       /* of what the bottleneck did too little, for each RTT with one */
	FOREIGN_LOOKS = 24,       /* RTTs in a row with a queue although bulk was held back: it is not ours */
	REMEMBERED_US = 10000000, /* how long a queue that was seen, or was not ours, tells anything */
	PAUSE_RTTS = 4            /* a measurement over a longer time has a pause in it */
};

/* What the stripes of a path say, taken together. */
struct look {
	unsigned stripes; /* that are taken together */
	uint64_t under_way_bytes;
	uint64_t rtt_us; /* mean over what is under way */
	uint32_t least_rtt_us;
};

static void look_at(const struct session *session, unsigned index, struct look *look)
{
	uint64_t weighted = 0;
	*look = (struct look){.least_rtt_us = UINT32_MAX};
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		const struct stripe_info *info = &stripe->info;
		if (stripe->path != index || stripe->state != STRIPE_UP || !info->srtt_us || !info->rtt_min_us)
			continue;
		look->stripes++;
		look->under_way_bytes += info->under_way_bytes;
		weighted += (uint64_t)info->under_way_bytes * info->srtt_us;
		if (info->rtt_min_us < look->least_rtt_us)
			look->least_rtt_us = info->rtt_min_us;
	}
	look->rtt_us = look->under_way_bytes ? weighted / look->under_way_bytes : 0;
}

/* Enough is under way for a queue: half of what the path is known to hold. */
static bool is_busy(const struct path *path, const struct look *look)
{
	return 2 * look->under_way_bytes >= path->most_Bps * look->least_rtt_us / 1000000;
}

/* What the path delivers within its shortest RTT, and a little more. */
static uint64_t enough_bytes(const struct path *path, uint64_t least_us)
{
	return path->most_Bps * (least_us + least_us / SLACK_DIVISOR + SLACK_US) / 1000000;
}

/* The limit holds bulk back, and no queue is seen: half of what the RTT says is missing to that little more is added,
 * or taken away. */
static void tune(struct path *path, const struct look *look)
{
	int64_t least_us = look->least_rtt_us, rtt_us = (int64_t)look->rtt_us;
	if (!least_us || !rtt_us)
		return;
	int64_t left_us = least_us + least_us / SLACK_DIVISOR + SLACK_US - rtt_us;
	int64_t limit_bytes = (int64_t)path->limit_bytes + (int64_t)path->limit_bytes * left_us / (2 * least_us);
	int64_t enough = (int64_t)enough_bytes(path, look->least_rtt_us);
	path->limit_bytes = (uint64_t)(limit_bytes > enough ? limit_bytes : enough);
}

static void adapt(struct path *path, uint64_t now_us, const struct look *look, uint64_t rate_Bps)
{
	uint64_t least_us = look->least_rtt_us;
	bool queue = look->rtt_us > least_us + least_us / QUEUE_DIVISOR + SLACK_US;
	/* Of three looks in a row that see a queue, the bottleneck was busy between the last two, and what comes back
	 * tells; not in a lull, in which the stripes' smoothed RTTs still tell of a queue that was. */
	if (rate_Bps > path->most_Bps)
		path->most_Bps = rate_Bps;
	else if (queue && path->queue_looks >= BUSY_LOOKS - 1 && is_busy(path, look))
		path->most_Bps -= (path->most_Bps - rate_Bps) / FADING_DIVISOR;
	path->queue_looks = queue ? path->queue_looks + 1 : 0;
	if (queue && (path->limit_bytes || path->queue_looks >= BUSY_LOOKS)) {
		path->limit_bytes = enough_bytes(path, least_us);
		path->queue_us = now_us;
	} else if (path->limit_bytes && path->held_back) {
		tune(path, look);
	}
	if (path->limit_bytes && path->limit_bytes < LIMIT_MIN_BYTES)
		path->limit_bytes = LIMIT_MIN_BYTES;
	if (!queue)
		path->held_looks = 0;
	else if (path->held_back && ++path->held_looks > FOREIGN_LOOKS)
		path->foreign_us = now_us;
	bool foreign = path->foreign_us && now_us - path->foreign_us < REMEMBERED_US;
	if (foreign || now_us - path->queue_us > REMEMBERED_US)
		path->limit_bytes = path->held_looks = 0;
}

static void look_again(struct session *session, unsigned index)
{
	struct path *path = &session->paths[index];
	struct look look;
	look_at(session, index, &look);
	uint64_t took_us = session->now_us - path->looked_us;
	if (look.least_rtt_us == UINT32_MAX || took_us < look.least_rtt_us)
		return;
	/* Stripes that came, went or were held up tell nothing of the bottleneck: what one has delivered that was stale
	 * till now may be acknowledged all at once. */
	if (took_us < PAUSE_RTTS * (uint64_t)look.least_rtt_us + TICK_US && look.stripes == path->looked_stripes)
		adapt(path, session->now_us, &look, (path->delivered_bytes - path->looked_bytes) * 1000000 / took_us);
	else
		path->queue_looks = 0;
	path->looked_us = session->now_us;
	path->looked_stripes = look.stripes;
	path->looked_bytes = path->delivered_bytes;
	path->held_back = false;
}

void queues_look(struct session *session)
{
	session->most_Bps = 0;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		if (!session->paths[i].stripes_up)
			continue;
		look_again(session, i);
		if (session->paths[i].state == PATH_WELL)
			session->most_Bps += session->paths[i].most_Bps;
	}
}

bool queue_is_full(const struct path *path, uint64_t under_way_bytes)
{
	return path->limit_bytes && under_way_bytes >= path->limit_bytes;
}

bool queue_has_idle(const struct path *path, uint64_t under_way_bytes)
{
	return !path->limit_bytes || under_way_bytes < path->limit_bytes / 2;
}
