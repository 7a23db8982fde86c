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
	SAMPLES_FEW = 64    /* so many do not tell yet what losses cost */
};

void delivery_time(struct stripe *stripe)
{
	/* How long a stripe was stale tells of a fault, and nothing of how long frames take before and after it. */
	if (stripe->timed_us || stripe->state == STRIPE_STALE)
		return;
	stripe->timed_position = stripe_position(stripe);
	stripe->timed_us = stripe->session->now_us;
}

static void add_sample(struct path *path, uint64_t sample_us)
{
	path->samples++;
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

void delivery_learn(struct stripe *stripe)
{
	const struct session *session = stripe->session;
	if (!stripe->timed_us || stripe->info.arrived_bytes < stripe->timed_position)
		return;
	uint64_t took_us = session->now_us - stripe->timed_us, back_us = stripe->info.rtt_min_us / 2;
	add_sample(&stripe->session->paths[stripe->path], took_us > back_us ? took_us - back_us : 0);
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

void delivery_look(struct session *session)
{
	uint64_t least_us[SESSION_PATHS_MAX], rtt_us[SESSION_PATHS_MAX];
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++)
		least_us[i] = rtt_us[i] = UINT64_MAX;
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		unsigned i = stripe->path;
		if (stripe->state != STRIPE_UP)
			continue;
		uint64_t us = at_least_us(stripe);
		least_us[i] = us < least_us[i] ? us : least_us[i];
		rtt_us[i] = stripe->info.rtt_min_us < rtt_us[i] ? stripe->info.rtt_min_us : rtt_us[i];
	}
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		struct path *path = &session->paths[i];
		if (least_us[i] == UINT64_MAX)
			continue;
		/* A repair takes a round trip. */
		uint64_t risk_us = 2 * path->deviation_us;
		if (path->samples < SAMPLES_FEW && risk_us < rtt_us[i])
			risk_us = rtt_us[i];
		path->expected_us = path->delivery_us + risk_us;
		path->now_us = least_us[i] > path->expected_us ? least_us[i] : path->expected_us;
	}
}

uint64_t delivery_least_us(const struct session *session)
{
	uint64_t least_us = UINT64_MAX;
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++)
		if (session->paths[i].stripes_up && session->paths[i].now_us < least_us)
			least_us = session->paths[i].now_us;
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

bool delivery_late(const struct session *session, const struct egress_record *record, uint64_t least_us)
{
	const struct stripe *stripe = session_find_stripe(session, record->stripe);
	if (!stripe || stripe->info.srtt_us < 4 * least_us)
		return false;
	return session->now_us > record->due_us + stripe->info.rtt_min_us / 2;
}

bool delivery_stuck(const struct stripe *stripe)
{
	const struct path *path = &stripe->session->paths[stripe->path];
	uint64_t most_us = path->expected_us + stripe->info.rtt_min_us / 2;
	return stripe->timed_us && stripe->session->now_us - stripe->timed_us > most_us;
}
