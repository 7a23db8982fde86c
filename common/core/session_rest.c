/* Stripes on BBR rest for a moment every ten seconds, one after another, so that they need not all probe at once.
 *
 * BBR (version 1) takes the least RTT of the last ten seconds for that of the empty path, its floor. When none as low
 * was seen for so long it is in PROBE_RTT: four segments a round trip, for 200 ms, to measure anew. Stripes that began
 * together do that together, and their path all but stands still. But a connection that has nothing under way when its
 * ten seconds are over, and then begins to send, takes what its first acknowledgement says for the new floor and goes
 * on at its rate ("idle restart"; bbr_update_min_rtt, bbr_cwnd_event in tcp_bbr.c of Linux).
 *
 * So a stripe gets nothing new from shortly before its time is over until everything is acknowledged and the time is
 * over. The others carry what it would have carried; of a wide express lane, and of the others, at least half do. Those
 * that found no place rest the next time, since their times are apart then.
 */
#include "session_internal.h"

#include <string.h>

enum {
	FLOOR_US = 10000000, /* bbr_min_rtt_win_sec */
	JIFFIES_US = 20000,  /* two of the slowest kernel's: it counts in these */
	PROBE_SEGMENTS = 4,  /* bbr_cwnd_min_target: with so few under way PROBE_RTT takes nothing */
	WAKE_BYTES_MAX = 4096
};

void rest_learn(struct stripe *stripe, const struct stripe_info *info)
{
	if (info->probes_rtt || info->floor_rtt_us != stripe->info.floor_rtt_us)
		stripe->floor_us = stripe->session->now_us;
}

/* How long it takes until everything is acknowledged: a round trip, and the repairs' where there are losses; what was
 * learnt of the floor may be a tick old, and the next look is a tick away. */
static uint64_t lead_us(const struct stripe *stripe)
{
	const struct session *session = stripe->session;
	uint64_t srtt_us = stripe->info.srtt_us;
	bool loses = session->loss_lost * 1000 > session->loss_sent;
	return srtt_us * (loses ? 7 : 3) / 2 + 2 * TICK_US;
}

static bool is_drained(const struct stripe *stripe)
{
	return !stripe->info.in_flight_bytes && !stripe_backlog_bytes(stripe);
}

static bool should_rest(const struct stripe *stripe)
{
	const struct stripe_info *info = &stripe->info;
	uint64_t over_us = stripe->floor_us + FLOOR_US, now_us = stripe->session->now_us;
	return stripe->state == STRIPE_UP && info->floor_rtt_us && !info->probes_rtt &&
	       info->mss_bytes <= WAKE_BYTES_MAX && info->under_way_bytes > PROBE_SEGMENTS * info->mss_bytes &&
	       now_us + lead_us(stripe) >= over_us && now_us + info->srtt_us < over_us;
}

/* The kernel does not believe the RTT of a lone segment that is not full, since its acknowledgement may have been
 * delayed (FLAG_ACK_MAYBE_DELAYED). PONGs say nothing and may come unasked; several lie in each item, so that one call
 * writes all of them. */
static void wake(struct stripe *stripe)
{
	struct frame pong = {.type = FRAME_PONG};
	uint8_t heads[STRIPE_OUTPUT_INLINE], head[FRAME_HEAD_MAX];
	uint32_t len = frame_encode_head(head, &pong), filled = 0;
	for (; filled + len <= sizeof heads; filled += len)
		memcpy(heads + filled, head, len);
	for (uint32_t put = 0; put <= stripe->info.mss_bytes && stripe_output_fits(stripe, 0); put += filled)
		stripe_output_head(stripe, heads, filled);
	delivery_time(stripe);
}

/* What a path has of one kind of stripes: those of a wide express lane, or the others. */
struct kind {
	unsigned up, resting;
};

static bool is_lane(const struct stripe *stripe)
{
	return stripe->wide && stripe->express;
}

/* `others`: so many of its kind carry what it would have carried. */
static void look_at(struct stripe *stripe, unsigned others)
{
	struct session *session = stripe->session;
	uint64_t over_us = stripe->floor_us + FLOOR_US + JIFFIES_US;
	bool learnt = stripe->floor_us > stripe->rest_us || stripe->info.probes_rtt;
	bool late = session->now_us > over_us + lead_us(stripe);
	if (others && !learnt && !late && (!is_drained(stripe) || session->now_us < over_us)) {
		uint64_t next_us = session->now_us < over_us ? over_us : session->now_us + TICK_MIN_US;
		session->tick_us = session->tick_us < next_us ? session->tick_us : next_us;
		return;
	}
	stripe->rest_us = 0;
	if (is_drained(stripe) && !learnt)
		wake(stripe);
}

void rests_look(struct session *session)
{
	struct kind kinds[SESSION_PATHS_MAX][2] = {0};
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		kinds[stripe->path][is_lane(stripe)].up += stripe->state == STRIPE_UP;
		kinds[stripe->path][is_lane(stripe)].resting += stripe->rest_us > 0;
	}
	for (struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		struct kind *kind = &kinds[stripe->path][is_lane(stripe)];
		if (stripe->rest_us) {
			look_at(stripe, kind->up - kind->resting);
			kind->resting -= !stripe->rest_us;
		} else if (should_rest(stripe) && 2 * (kind->resting + 1) <= kind->up) {
			stripe->rest_us = session->now_us;
			kind->resting++;
		}
	}
}
