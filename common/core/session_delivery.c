/* What is known of paths as a whole: how long a frame takes that is put on one now, until the other kernel has it.
 *
 * It is measured, not worked out: on each stripe one frame at a time is timed, from the moment it was put in until the
 * other kernel's acknowledgement has passed it, less half of the path's shortest round trip. So backlog, queue, repairs
 * of losses and timeouts are all in it, as far as they happen. All stripes of a path feed one estimate (mean and
 * deviation, as in RFC 6298), since they share its bottleneck.
 */
#include "session_internal.h"

enum {
	UNKNOWN_US = 50000, /* nothing was measured: as long as a round trip of twice that */
	FORGET_US = 100000, /* without a measurement for so much longer than one takes, the last ones fade */
	SAMPLES_FEW = 64,   /* so many do not tell yet what losses cost */
	QUOTA_MIN_BYTES = 16384
};

void delivery_time(struct stripe *stripe)
{
	stripe->put_us = stripe->session->now_us;
	/* How long a stripe was stale tells of a fault, and nothing of how long frames take before and after it. */
	if (stripe->timed_us || stripe->state == STRIPE_STALE)
		return;
	stripe->timed_position = stripe_position(stripe);
	stripe->timed_us = stripe->session->now_us;
}

static void add_sample(struct path *path, uint64_t sample_us, uint64_t now_us)
{
	path->samples++;
	path->sample_us = now_us;
	if (!path->delivery_us) {
		path->delivery_us = sample_us + 1;
		path->deviation_us = sample_us / 2;
		return;
	}
	uint64_t error_us =
	        sample_us > path->delivery_us ? sample_us - path->delivery_us : path->delivery_us - sample_us;
	path->deviation_us = (3 * path->deviation_us + error_us) / 4;
	path->delivery_us = (7 * path->delivery_us + sample_us) / 8 + 1;
}

/* A path that is not the best gets no more than it can carry without a queue of its own making, since whatever is in
 * that queue was put there too soon: the quota grows by what arrives while the round trip is short, and falls by a
 * quarter once a round trip while it is long. */
static void adapt_quota(struct path *path, const struct stripe *stripe, uint64_t arrived_bytes)
{
	const struct stripe_info *info = &stripe->info;
	uint64_t now_us = stripe->session->now_us;
	if (!info->rtt_min_us)
		return;
	if (info->srtt_us < info->rtt_min_us * 2 && path->under_way_bytes > path->quota_bytes / 2)
		path->quota_bytes += arrived_bytes;
	if (info->srtt_us < info->rtt_min_us * 3 || now_us - path->cut_us < info->srtt_us)
		return;
	path->cut_us = now_us;
	path->quota_bytes = path->quota_bytes * 3 / 4;
	if (path->quota_bytes < QUOTA_MIN_BYTES)
		path->quota_bytes = QUOTA_MIN_BYTES;
}

void delivery_learn(struct stripe *stripe, uint64_t arrived_bytes)
{
	const struct session *session = stripe->session;
	if (arrived_bytes)
		adapt_quota(&stripe->session->paths[stripe->path], stripe, arrived_bytes);
	if (!stripe->timed_us || stripe->info.arrived_bytes < stripe->timed_position)
		return;
	uint64_t took_us = session->now_us - stripe->timed_us, back_us = stripe->info.rtt_min_us / 2;
	add_sample(&stripe->session->paths[stripe->path], took_us > back_us ? took_us - back_us : 0, session->now_us);
	stripe->timed_us = 0;
}

/* What the stripe says of its path where nothing was timed yet, and how long it has been waiting for what is. */
static uint64_t at_least_us(const struct stripe *stripe)
{
	uint64_t srtt_us = stripe->info.srtt_us;
	if (!stripe->session->paths[stripe->path].delivery_us)
		return srtt_us ? srtt_us / 2 : UNKNOWN_US;
	return stripe->timed_us ? stripe->session->now_us - stripe->timed_us : 0;
}

/* A path that is thought too slow is not used, and so would never show that it has become better: what is known of it
 * fades, until it is tried again. A stripe with nothing under way could be tried, whatever is stuck on the others, and
 * no measurement is on its way there, so two round trips are long enough to wait; the quota bounds what a trial costs.
 */
static void forget(struct path *path, uint64_t rtt_us, bool idle, uint64_t now_us)
{
	uint64_t takes_us = idle ? 2 * rtt_us : path->expected_us;
	if (!path->delivery_us || now_us - path->sample_us < takes_us + FORGET_US)
		return;
	path->sample_us = now_us;
	path->deviation_us = path->deviation_us * 3 / 4;
	if (path->delivery_us > rtt_us)
		path->delivery_us = path->delivery_us * 7 / 8;
}

/* What is known of a path's stripes, taken together. */
struct together {
	uint64_t least_us; /* of at_least_us */
	uint64_t rtt_us;   /* shortest round trip; UINT64_MAX: no stripe is up */
	uint64_t rate_Bps;
	bool idle; /* one of them has nothing under way */
};

static void add_stripe(struct together *sum, struct path *path, const struct stripe *stripe)
{
	uint64_t us = at_least_us(stripe);
	sum->least_us = us < sum->least_us ? us : sum->least_us;
	uint64_t rtt_us = stripe->info.rtt_min_us ? stripe->info.rtt_min_us : 2 * UNKNOWN_US;
	sum->rtt_us = rtt_us < sum->rtt_us ? rtt_us : sum->rtt_us;
	sum->rate_Bps += stripe_rate_Bps(&stripe->info);
	path->under_way_bytes += stripe->info.under_way_bytes + stripe_backlog_bytes(stripe);
	sum->idle |= stripe_position(stripe) == stripe->info.arrived_bytes;
}

static void look(struct path *path, const struct together *sum, uint64_t now_us)
{
	forget(path, sum->rtt_us, sum->idle, now_us);
	uint64_t risk_us = 2 * path->deviation_us;
	/* A repair takes a round trip. */
	if (path->samples < SAMPLES_FEW && risk_us < sum->rtt_us)
		risk_us = sum->rtt_us;
	path->expected_us = path->delivery_us + risk_us;
	/* Little's law: what is under way is a round trip's worth, queues included, and half of the shortest is the
	 * way back. */
	uint64_t queue_us = sum->rate_Bps ? path->under_way_bytes * 1000000 / sum->rate_Bps : 0;
	uint64_t now_least_us = queue_us > sum->least_us + sum->rtt_us / 2 ? queue_us - sum->rtt_us / 2 : sum->least_us;
	path->present_us = now_least_us > path->expected_us ? now_least_us : path->expected_us;
}

void delivery_look(struct session *session)
{
	struct together sums[SESSION_PATHS_MAX];
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		sums[i] = (struct together){.least_us = UINT64_MAX, .rtt_us = UINT64_MAX};
		session->paths[i].under_way_bytes = 0;
	}
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP)
			add_stripe(&sums[stripe->path], &session->paths[stripe->path], stripe);
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++)
		if (sums[i].rtt_us != UINT64_MAX)
			look(&session->paths[i], &sums[i], session->now_us);
}

uint64_t delivery_least_us(const struct session *session)
{
	uint64_t least_us = UINT64_MAX;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++)
		if (session->paths[i].stripes_up && session->paths[i].present_us < least_us)
			least_us = session->paths[i].present_us;
	return least_us;
}

bool delivery_known(const struct session *session, const struct egress_record *record)
{
	const struct stripe *stripe = session_find_stripe(session, record->stripe);
	if (stripe && stripe->info.arrived_bytes >= record->position)
		return true;
	stripe = record->copy_stripe ? session_find_stripe(session, record->copy_stripe) : NULL;
	return stripe && stripe->info.arrived_bytes >= record->copy_position;
}

bool delivery_stuck(const struct stripe *stripe)
{
	const struct path *path = &stripe->session->paths[stripe->path];
	uint64_t most_us = path->expected_us + stripe->info.rtt_min_us / 2;
	return stripe->timed_us && stripe->session->now_us - stripe->timed_us > most_us;
}

bool delivery_full(const struct stripe *stripe)
{
	const struct path *path = &stripe->session->paths[stripe->path];
	return path->under_way_bytes >= path->quota_bytes;
}
