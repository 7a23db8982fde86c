#include "sim_pipe.h"

#include <stdlib.h>
#include <string.h>

#include "../unit/unit_random.h"

enum {
	RTO_MIN_US = 200000,
	RTO_MAX_US = 2000000, /* sock_prepare_stripe */
	TAIL_MIN_US = 10000,
	BACKOFF_MAX = 6,
	INITIAL_SEGMENTS = 10,
	WINDOW_MIN_SEGMENTS = 4,
	FLOOR_US = 10000000, /* bbr_min_rtt_win_sec */
	PROBE_US = 200000,   /* bbr_probe_rtt_mode_ms */
	MILLION = 1000000
};

/* Phases of SIM_BBR: start-up, drain, and from PROBE on the eight steps of the gain cycle. Gains in per mille. */
enum { STARTUP, DRAIN, PROBE, PROBE_STEPS = 8 };
static const unsigned pacing_gain[] = {2885, 347, 1250, 750, 1000, 1000, 1000, 1000, 1000, 1000};
enum { STARTUP_WINDOW_GAIN = 2885, WINDOW_GAIN = 2000, FULL_ROUNDS = 3 };

bool sim_pipe_init(struct sim_pipe *pipe, struct sim_link *link, uint64_t *seed, uint32_t ring_bytes, uint32_t mss)
{
	*pipe = (struct sim_pipe){.link = link,
	                          .seed = seed,
	                          .ring_bytes = ring_bytes,
	                          .mss = mss,
	                          .cwnd = INITIAL_SEGMENTS * (uint64_t)mss,
	                          .ssthresh = UINT64_MAX};
	/* The handshake has measured it. */
	pipe->srtt_us = pipe->rtt_min_us = 2 * link->delay_us;
	pipe->rttvar_us = link->delay_us;
	if (link->congestion == SIM_BBR && link->delay_us)
		pipe->pacing_Bps = pipe->cwnd * MILLION / pipe->srtt_us * pacing_gain[STARTUP] / 1000;
	pipe->ring = malloc(ring_bytes);
	return pipe->ring;
}

void sim_pipe_fini(struct sim_pipe *pipe)
{
	free(pipe->ring);
	pipe->ring = NULL;
}

/* --- The sender's socket ------------------------------------------------------------------------------------------*/

size_t sim_pipe_write(struct sim_pipe *pipe, const uint8_t *bytes, size_t len)
{
	size_t space = pipe->ring_bytes - (size_t)(pipe->written - pipe->acked);
	size_t done = 0;

	if (len > space)
		len = space;
	while (done < len) {
		size_t at = pipe->written & (pipe->ring_bytes - 1);
		size_t piece = pipe->ring_bytes - at < len - done ? pipe->ring_bytes - at : len - done;
		memcpy(pipe->ring + at, bytes + done, piece);
		pipe->written += piece;
		done += piece;
	}
	return len;
}

/* What Linux calls the pacing rate, whether it paces or not. */
static uint64_t paced_Bps(const struct sim_pipe *pipe)
{
	uint64_t rtt_us = pipe->srtt_us ? pipe->srtt_us : 1;

	if (pipe->pacing_Bps)
		return pipe->pacing_Bps;
	return pipe->cwnd * MILLION / rtt_us * (pipe->cwnd < pipe->ssthresh / 2 ? 20 : 12) / 10;
}

uint32_t sim_pipe_lowat(const struct sim_pipe *pipe)
{
	uint32_t bytes = stripe_lowat_bytes(paced_Bps(pipe));

	return bytes < 2 * pipe->mss ? 2 * pipe->mss : bytes;
}

uint32_t sim_pipe_room(const struct sim_pipe *pipe)
{
	uint64_t unsent = pipe->written - pipe->sent, lowat = sim_pipe_lowat(pipe);
	uint64_t space = pipe->ring_bytes - (pipe->written - pipe->acked);
	uint64_t room = unsent < lowat ? lowat - unsent : 0;

	return (uint32_t)(room < space ? room : space);
}

void sim_pipe_info(const struct sim_pipe *pipe, struct stripe_info *info)
{
	*info = (struct stripe_info){.srtt_us = pipe->srtt_us,
	                             .rttvar_us = pipe->rttvar_us,
	                             .cwnd_bytes = (uint32_t)(pipe->cwnd < UINT32_MAX ? pipe->cwnd : UINT32_MAX),
	                             .mss_bytes = pipe->mss,
	                             .in_flight_bytes = (uint32_t)(pipe->sent - pipe->acked),
	                             .under_way_bytes = pipe->in_flight_segments * pipe->mss,
	                             .notsent_bytes = (uint32_t)(pipe->written - pipe->sent),
	                             .rate_Bps = pipe->rate_Bps,
	                             .delivered = pipe->segments_sacked,
	                             .arrived_bytes = pipe->acked,
	                             .rtt_min_us = pipe->rtt_min_us,
	                             .sent_segments = pipe->segments_sent,
	                             .lost_segments = pipe->segments_lost,
	                             .in_recovery = pipe->recovery_end > pipe->acked,
	                             .pacing_Bps = pipe->pacing_Bps,
	                             .floor_rtt_us = pipe->floor_us,
	                             .probes_rtt = pipe->probe_us > 0,
	                             .app_limited = pipe->rate_limited};
}

/* --- Segments -----------------------------------------------------------------------------------------------------*/

static struct sim_segment *segment_at(struct sim_pipe *pipe, uint64_t number)
{
	return &pipe->segments[number % SIM_SEGMENTS];
}

static uint64_t rto_us(const struct sim_pipe *pipe)
{
	uint64_t us = pipe->srtt_us + 4 * (uint64_t)pipe->rttvar_us;

	us = (us < RTO_MIN_US ? RTO_MIN_US : us) << pipe->backoff;
	return us < RTO_MAX_US ? us : RTO_MAX_US;
}

/* One segment, for the first time or again, through the link. */
static void pass_link(struct sim_pipe *pipe, struct sim_segment *segment, uint64_t now_us)
{
	struct sim_link *link = pipe->link;
	uint64_t start_us = link->free_us > now_us ? link->free_us : now_us;
	bool lost = (start_us - now_us) * link->rate_Bps / MILLION > link->queue_bytes;

	if (!lost) {
		link->free_us = start_us + segment->len * (uint64_t)MILLION / link->rate_Bps + 1;
		lost = unit_chance(pipe->seed, link->loss_ppm, MILLION);
	}
	if (!pipe->in_flight)
		pipe->sacked_us = pipe->sacked_sent_us = now_us;
	segment->sent_us = pipe->last_sent_us = now_us;
	segment->rate_bytes = pipe->sacked_bytes;
	segment->rate_us = pipe->sacked_us;
	segment->rate_sent_us = pipe->sacked_sent_us;
	segment->arrival_us = lost ? UINT64_MAX : link->free_us + link->delay_us;
	segment->known_us = link->free_us + 2 * (uint64_t)link->delay_us;
	if (lost) {
		uint64_t tail_us =
		        2 * (uint64_t)pipe->srtt_us < TAIL_MIN_US ? TAIL_MIN_US : 2 * (uint64_t)pipe->srtt_us;
		segment->known_us = now_us + (segment->repaired ? rto_us(pipe) : tail_us);
	}
	pipe->in_flight += segment->len;
	pipe->in_flight_segments++;
	pipe->segments_sent++;
	if (pipe->link->congestion == SIM_BBR && pipe->pacing_Bps) {
		uint64_t from_us = pipe->next_send_us > now_us ? pipe->next_send_us : now_us;
		pipe->next_send_us = from_us + segment->len * (uint64_t)MILLION / pipe->pacing_Bps;
	}
}

static bool has_new(const struct sim_pipe *pipe)
{
	return pipe->sent < pipe->written && pipe->end - pipe->first < SIM_SEGMENTS;
}

/* Others are in `repairs`. */
static bool sent_once(const struct sim_segment *segment)
{
	return !segment->repaired && segment->arrival_us != UINT64_MAX;
}

/* Lost, known to be, and not sent again yet. */
static bool waits(const struct sim_segment *segment)
{
	return segment->known_us == UINT64_MAX;
}

static bool any_waits(const struct sim_pipe *pipe)
{
	for (uint32_t i = 0; i < pipe->repair_count; i++)
		if (waits(&pipe->segments[pipe->repairs[i] % SIM_SEGMENTS]))
			return true;
	return false;
}

static bool may_send(const struct sim_pipe *pipe, uint64_t now_us)
{
	return pipe->in_flight < pipe->cwnd && pipe->next_send_us <= now_us;
}

/* After a rest Reno begins anew: its window halves with each timeout that passed (RFC 2861; Linux by default). */
static void wake_up(struct sim_pipe *pipe, uint64_t now_us)
{
	uint64_t initial = INITIAL_SEGMENTS * (uint64_t)pipe->mss, least = pipe->cwnd < initial ? pipe->cwnd : initial;

	if (pipe->link->congestion != SIM_RENO || pipe->first != pipe->end ||
	    now_us - pipe->last_sent_us <= rto_us(pipe))
		return;
	if (pipe->ssthresh < pipe->cwnd * 3 / 4)
		pipe->ssthresh = pipe->cwnd * 3 / 4;
	for (uint64_t rest_us = now_us - pipe->last_sent_us; rest_us > rto_us(pipe) && pipe->cwnd > least;
	     rest_us -= rto_us(pipe))
		pipe->cwnd /= 2;
	if (pipe->cwnd < least)
		pipe->cwnd = least;
}

static void transmit(struct sim_pipe *pipe, uint64_t now_us)
{
	pipe->idle_restart |= !pipe->in_flight && pipe->rate_limited;
	if (has_new(pipe))
		wake_up(pipe, now_us);
	for (uint32_t i = 0; i < pipe->repair_count && may_send(pipe, now_us); i++) {
		struct sim_segment *segment = segment_at(pipe, pipe->repairs[i]);
		if (!waits(segment))
			continue;
		segment->repaired = true;
		pipe->segments_lost++;
		pass_link(pipe, segment, now_us);
	}
	while (has_new(pipe) && may_send(pipe, now_us)) {
		uint64_t left = pipe->written - pipe->sent;
		struct sim_segment *segment = segment_at(pipe, pipe->end);

		*segment = (struct sim_segment){.len = left < pipe->mss ? (uint32_t)left : pipe->mss};
		pipe->sent += segment->len;
		segment->end = pipe->sent;
		pass_link(pipe, segment, now_us);
		if (segment->arrival_us == UINT64_MAX)
			pipe->repairs[pipe->repair_count++] = pipe->end;
		pipe->end++;
	}
	while (pipe->fresh < pipe->end && !sent_once(segment_at(pipe, pipe->fresh)))
		pipe->fresh++;
}

uint64_t sim_pipe_next_us(const struct sim_pipe *pipe)
{
	uint64_t next_us = UINT64_MAX;

	if (pipe->frozen)
		return UINT64_MAX;
	if (pipe->in_flight < pipe->cwnd && (has_new(pipe) || any_waits(pipe)))
		next_us = pipe->next_send_us;
	if (pipe->fresh < pipe->end) {
		const struct sim_segment *segment = &pipe->segments[pipe->fresh % SIM_SEGMENTS];
		next_us = segment->known_us < next_us ? segment->known_us : next_us;
	}
	for (uint32_t i = 0; i < pipe->repair_count; i++) {
		const struct sim_segment *segment = &pipe->segments[pipe->repairs[i] % SIM_SEGMENTS];
		next_us = segment->known_us < next_us ? segment->known_us : next_us;
	}
	if (pipe->arrived < pipe->end) {
		uint64_t us = pipe->segments[pipe->arrived % SIM_SEGMENTS].arrival_us;
		next_us = us < next_us ? us : next_us;
	}
	return next_us;
}

/* --- Congestion control -------------------------------------------------------------------------------------------*/

static uint64_t best_Bps(const struct sim_pipe *pipe)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < SIM_ROUNDS; i++)
		best = pipe->round_Bps[i] > best ? pipe->round_Bps[i] : best;
	return best;
}

static void bbr_phase(struct sim_pipe *pipe, bool new_round, uint64_t now_us)
{
	uint64_t best = best_Bps(pipe);
	unsigned old = pipe->phase;

	if (pipe->phase == STARTUP && new_round) {
		pipe->full_rounds = best >= pipe->full_Bps * 5 / 4 ? 0 : pipe->full_rounds + 1;
		if (!pipe->full_rounds)
			pipe->full_Bps = best;
		if (pipe->full_rounds >= FULL_ROUNDS)
			pipe->phase = DRAIN;
	} else if (pipe->phase == DRAIN && pipe->in_flight <= best * pipe->rtt_min_us / MILLION) {
		pipe->phase = PROBE + 2 + (unsigned)unit_below(pipe->seed, PROBE_STEPS - 2);
	} else if (pipe->phase >= PROBE && now_us - pipe->phase_us > pipe->rtt_min_us) {
		pipe->phase = PROBE + (pipe->phase - PROBE + 1) % PROBE_STEPS;
	}
	if (pipe->phase != old)
		pipe->phase_us = now_us;
}

/* bbr_update_min_rtt. A lone segment that is not full says nothing of the floor. */
static void bbr_floor(struct sim_pipe *pipe, const struct sim_segment *segment, uint64_t now_us)
{
	uint32_t rtt_us = (uint32_t)(now_us - segment->sent_us);
	bool old = now_us - pipe->floor_at_us > FLOOR_US, lone = segment->len < pipe->mss && !pipe->in_flight;
	uint64_t least = WINDOW_MIN_SEGMENTS * (uint64_t)pipe->mss;

	if (!segment->repaired && (!pipe->floor_us || rtt_us < pipe->floor_us || (old && !lone))) {
		pipe->floor_us = rtt_us;
		pipe->floor_at_us = now_us;
	}
	if (old && !pipe->idle_restart && !pipe->probe_us) {
		pipe->probe_us = now_us;
		pipe->probe_end_us = 0;
		pipe->probes++;
	}
	if (pipe->probe_us && !pipe->probe_end_us && pipe->in_flight <= least)
		pipe->probe_end_us = now_us + (pipe->floor_us > PROBE_US ? pipe->floor_us : PROBE_US);
	if (pipe->probe_us && pipe->probe_end_us && now_us >= pipe->probe_end_us) {
		pipe->probe_us = 0;
		pipe->floor_at_us = now_us;
	}
	pipe->idle_restart = false;
}

static void bbr_on_sack(struct sim_pipe *pipe, const struct sim_segment *segment, uint64_t sample_Bps, uint64_t now_us)
{
	bbr_floor(pipe, segment, now_us);
	bool new_round = segment->rate_bytes >= pipe->round_end_bytes;

	if (new_round) {
		pipe->round_end_bytes = pipe->sacked_bytes;
		pipe->round = (pipe->round + 1) % SIM_ROUNDS;
		/* A pause measures nothing, and makes nothing old. */
		pipe->round_Bps[pipe->round] = has_new(pipe) ? 0 : best_Bps(pipe);
	}
	if (sample_Bps > pipe->round_Bps[pipe->round])
		pipe->round_Bps[pipe->round] = sample_Bps;
	bbr_phase(pipe, new_round && has_new(pipe), now_us);
	uint64_t best = best_Bps(pipe);
	uint64_t gain = pipe->phase < PROBE ? STARTUP_WINDOW_GAIN : WINDOW_GAIN;
	uint64_t target = best * pipe->rtt_min_us / MILLION * gain / 1000 + 3ull * pipe->mss;
	uint64_t least = WINDOW_MIN_SEGMENTS * (uint64_t)pipe->mss;
	if (pipe->sacked_bytes < pipe->conserve_bytes) {
		pipe->cwnd = pipe->in_flight + segment->len;
	} else {
		pipe->cwnd += segment->len;
		if (pipe->cwnd_before && pipe->recovery_end <= pipe->acked) {
			pipe->cwnd = pipe->cwnd_before > pipe->cwnd ? pipe->cwnd_before : pipe->cwnd;
			pipe->cwnd_before = 0;
		}
	}
	if (pipe->phase != STARTUP && pipe->cwnd > target)
		pipe->cwnd = target;
	pipe->cwnd = pipe->cwnd < least || pipe->probe_us ? least : pipe->cwnd;
	/* Before the rate is known it only rises. */
	uint64_t pacing_Bps = best * pacing_gain[pipe->phase] / 1000 + 1;
	if (pipe->phase != STARTUP || pacing_Bps > pipe->pacing_Bps)
		pipe->pacing_Bps = pacing_Bps;
}

static void reno_on_sack(struct sim_pipe *pipe, const struct sim_segment *segment)
{
	/* A window that is not used does not grow. */
	if (pipe->recovery_end > pipe->acked || (pipe->in_flight + segment->len) * 2 < pipe->cwnd)
		return;
	if (pipe->cwnd < pipe->ssthresh)
		pipe->cwnd += segment->len;
	else if (pipe->in_flight + segment->len + pipe->mss >= pipe->cwnd)
		pipe->cwnd += (uint64_t)segment->len * pipe->mss / pipe->cwnd + 1;
}

static void on_loss(struct sim_pipe *pipe, bool timeout)
{
	uint64_t least = WINDOW_MIN_SEGMENTS * (uint64_t)pipe->mss;

	if (pipe->link->congestion == SIM_RENO && (pipe->recovery_end <= pipe->acked || timeout)) {
		pipe->ssthresh = pipe->cwnd * 7 / 10 < least ? least : pipe->cwnd * 7 / 10;
		pipe->cwnd = timeout ? pipe->mss : pipe->ssthresh;
	}
	if (pipe->link->congestion == SIM_BBR && pipe->recovery_end <= pipe->acked) {
		pipe->cwnd_before = pipe->cwnd;
		pipe->conserve_bytes = pipe->sacked_bytes + pipe->in_flight;
	}
	if (pipe->recovery_end <= pipe->acked)
		pipe->recovery_end = pipe->sent;
	if (timeout && pipe->backoff < BACKOFF_MAX)
		pipe->backoff++;
}

/* --- What the sender learns ---------------------------------------------------------------------------------------*/

static void measure_rtt(struct sim_pipe *pipe, uint32_t rtt_us)
{
	uint32_t error_us = rtt_us > pipe->srtt_us ? rtt_us - pipe->srtt_us : pipe->srtt_us - rtt_us;

	pipe->rttvar_us = (3 * pipe->rttvar_us + error_us) / 4;
	pipe->srtt_us = pipe->srtt_us ? (7 * pipe->srtt_us + rtt_us) / 8 : rtt_us;
	if (!pipe->rtt_min_us || rtt_us < pipe->rtt_min_us)
		pipe->rtt_min_us = rtt_us;
}

static void learn_lost(struct sim_pipe *pipe, struct sim_segment *segment, bool timeout)
{
	pipe->in_flight -= segment->len;
	pipe->in_flight_segments--;
	segment->known_us = UINT64_MAX;
	on_loss(pipe, timeout);
}

static void on_sack(struct sim_pipe *pipe, struct sim_segment *segment, uint64_t now_us)
{
	segment->sacked = true;
	pipe->in_flight -= segment->len;
	pipe->in_flight_segments--;
	pipe->segments_sacked++;
	pipe->sacked_bytes += segment->len;
	pipe->sacked_us = now_us;
	pipe->sacked_sent_us = segment->sent_us;
	pipe->backoff = 0;
	if (!segment->repaired)
		measure_rtt(pipe, (uint32_t)(now_us - segment->sent_us));
	/* Of the time in which it was acknowledged and that in which it was sent, the longer one. */
	uint64_t interval_us = now_us - segment->rate_us;
	if (segment->sent_us - segment->rate_sent_us > interval_us)
		interval_us = segment->sent_us - segment->rate_sent_us;
	if (interval_us < pipe->rtt_min_us)
		interval_us = pipe->rtt_min_us;
	uint64_t sample_Bps = (pipe->sacked_bytes - segment->rate_bytes) * MILLION / (interval_us ? interval_us : 1);
	/* As tcp_rate_gen: what an idle application left of the rate says nothing, unless it is more. */
	if (has_new(pipe) || sample_Bps > pipe->rate_Bps)
		pipe->rate_Bps = sample_Bps;
	pipe->rate_limited = !has_new(pipe);
	if (pipe->link->congestion == SIM_BBR)
		bbr_on_sack(pipe, segment, sample_Bps, now_us);
	else
		reno_on_sack(pipe, segment);
	for (uint32_t i = 0; i < pipe->repair_count; i++) {
		struct sim_segment *other = segment_at(pipe, pipe->repairs[i]);
		if (other->arrival_us == UINT64_MAX && !waits(other) && other->sent_us < segment->sent_us)
			learn_lost(pipe, other, false);
	}
}

static bool learn(struct sim_pipe *pipe, uint64_t now_us)
{
	bool any = false;

	for (; pipe->fresh < pipe->end; pipe->fresh++) {
		struct sim_segment *segment = segment_at(pipe, pipe->fresh);
		if (!sent_once(segment))
			continue;
		if (segment->known_us > now_us)
			break;
		on_sack(pipe, segment, now_us);
		any = true;
	}
	uint32_t kept = 0;
	bool timeout = false;
	for (uint32_t i = 0; i < pipe->repair_count; i++) {
		struct sim_segment *segment = segment_at(pipe, pipe->repairs[i]);
		bool due = !waits(segment) && segment->known_us <= now_us;
		if (due && segment->arrival_us == UINT64_MAX) {
			bool probe = !segment->repaired; /* the tail's */
			learn_lost(pipe, segment, !probe && !timeout);
			timeout = timeout || !probe;
		} else if (due)
			on_sack(pipe, segment, now_us);
		any = any || due;
		if (!segment->sacked)
			pipe->repairs[kept++] = pipe->repairs[i];
	}
	pipe->repair_count = kept;
	/* A connection has one timer, which takes all that was lost for lost. */
	for (uint32_t i = 0; timeout && i < kept; i++) {
		struct sim_segment *segment = segment_at(pipe, pipe->repairs[i]);
		if (!waits(segment) && segment->arrival_us == UINT64_MAX)
			learn_lost(pipe, segment, false);
	}
	return any;
}

bool sim_pipe_run(struct sim_pipe *pipe, uint64_t now_us)
{
	if (pipe->frozen)
		return false;
	bool any = learn(pipe, now_us);
	while (pipe->first < pipe->arrived && segment_at(pipe, pipe->first)->sacked) {
		pipe->acked = segment_at(pipe, pipe->first)->end;
		pipe->first++;
	}
	if (pipe->cwnd > pipe->ring_bytes)
		pipe->cwnd = pipe->ring_bytes;
	transmit(pipe, now_us);
	return any;
}

/* --- The receiver's end -------------------------------------------------------------------------------------------*/

size_t sim_pipe_arrived(const struct sim_pipe *pipe, uint64_t now_us, const uint8_t **bytes)
{
	uint64_t end = pipe->delivered;
	size_t at = pipe->delivered & (pipe->ring_bytes - 1);

	for (uint64_t i = pipe->arrived; !pipe->frozen && i < pipe->end; i++) {
		const struct sim_segment *segment = &pipe->segments[i % SIM_SEGMENTS];
		if (segment->arrival_us > now_us || segment->arrival_us == UINT64_MAX)
			break;
		end = segment->end;
	}
	*bytes = pipe->ring + at;
	return end - pipe->delivered < pipe->ring_bytes - at ? (size_t)(end - pipe->delivered) : pipe->ring_bytes - at;
}

void sim_pipe_taken(struct sim_pipe *pipe, size_t len)
{
	pipe->delivered += len;
	while (pipe->arrived < pipe->end && segment_at(pipe, pipe->arrived)->end <= pipe->delivered)
		pipe->arrived++;
}
