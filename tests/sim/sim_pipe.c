#include "sim_pipe.h"

#include <stdlib.h>
#include <string.h>

#include "../unit/unit_random.h"

enum { RTO_MIN_US = 200000, INITIAL_SEGMENTS = 10, MILLION = 1000000 };

bool sim_pipe_init(struct sim_pipe *pipe, struct sim_link *link, uint64_t *seed, uint32_t ring_bytes, uint32_t mss)
{
	*pipe = (struct sim_pipe){.link = link,
	                          .seed = seed,
	                          .ring_bytes = ring_bytes,
	                          .mss = mss,
	                          .cwnd = INITIAL_SEGMENTS * (uint64_t)mss,
	                          .ssthresh = UINT64_MAX};
	pipe->lowat_bytes = mss < 16384 ? 16384 : 2 * mss;
	pipe->ring = malloc(ring_bytes);
	return pipe->ring;
}

void sim_pipe_fini(struct sim_pipe *pipe)
{
	free(pipe->ring);
	pipe->ring = NULL;
}

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

uint32_t sim_pipe_room(const struct sim_pipe *pipe)
{
	uint64_t unsent = pipe->written - pipe->sent;
	uint64_t space = pipe->ring_bytes - (pipe->written - pipe->acked);
	uint64_t room = unsent < pipe->lowat_bytes ? pipe->lowat_bytes - unsent : 0;

	return (uint32_t)(room < space ? room : space);
}

static bool in_recovery(const struct sim_pipe *pipe, uint64_t now_us)
{
	return pipe->recovery_end > pipe->acked && now_us >= pipe->recovery_known_us;
}

void sim_pipe_info(const struct sim_pipe *pipe, struct stripe_info *info, uint64_t now_us)
{
	*info = (struct stripe_info){.srtt_us = pipe->srtt_us,
	                             .cwnd_bytes = (uint32_t)(pipe->cwnd < UINT32_MAX ? pipe->cwnd : UINT32_MAX),
	                             .in_flight_bytes = (uint32_t)(pipe->sent - pipe->acked),
	                             .notsent_bytes = (uint32_t)(pipe->written - pipe->sent),
	                             .rate_Bps = pipe->rate_Bps,
	                             .acked_bytes = pipe->acked,
	                             .sent_segments = pipe->segments_sent,
	                             .lost_segments = pipe->segments_lost,
	                             .in_recovery = in_recovery(pipe, now_us)};
}

static struct sim_segment *segment_at(struct sim_pipe *pipe, uint32_t i)
{
	return &pipe->segments[(pipe->first + i) % SIM_SEGMENTS];
}

static void halve(struct sim_pipe *pipe, uint64_t known_us)
{
	if (pipe->recovery_end > pipe->acked)
		return; /* once a window */
	pipe->recovery_end = pipe->sent;
	pipe->recovery_known_us = known_us;
	pipe->ssthresh = pipe->cwnd / 2 < 4ull * pipe->mss ? 4ull * pipe->mss : pipe->cwnd / 2;
	pipe->cwnd = pipe->ssthresh;
}

/* One segment through the link: sets when it arrives, repairs of a loss included. */
static void pass_link(struct sim_pipe *pipe, struct sim_segment *segment, uint32_t len, uint64_t now_us)
{
	struct sim_link *link = pipe->link;
	uint64_t start_us = link->free_us > now_us ? link->free_us : now_us;
	uint64_t round_trip_us = start_us - now_us + 2 * (uint64_t)link->delay_us;
	bool lost = (start_us - now_us) * link->rate_Bps / MILLION > link->queue_bytes;

	if (!lost)
		link->free_us = start_us + len * (uint64_t)MILLION / link->rate_Bps + 1;
	segment->arrival_us = link->free_us + link->delay_us;
	lost = lost || unit_chance(pipe->seed, link->loss_ppm, MILLION);
	pipe->segments_sent++;
	for (uint64_t wait_us = round_trip_us; lost; wait_us = wait_us < RTO_MIN_US ? RTO_MIN_US : 2 * wait_us) {
		pipe->segments_sent++;
		pipe->segments_lost++;
		segment->arrival_us += wait_us;
		halve(pipe, now_us + round_trip_us);
		lost = unit_chance(pipe->seed, link->loss_ppm, MILLION);
	}
}

static void transmit(struct sim_pipe *pipe, uint64_t now_us)
{
	while (pipe->sent < pipe->written && pipe->sent - pipe->acked < pipe->cwnd && pipe->count < SIM_SEGMENTS) {
		uint64_t left = pipe->written - pipe->sent;
		uint32_t len = left < pipe->mss ? (uint32_t)left : pipe->mss;
		struct sim_segment *segment = segment_at(pipe, pipe->count);
		uint64_t after_us = pipe->count ? segment_at(pipe, pipe->count - 1)->arrival_us : 0;

		pipe->sent += len;
		segment->end = pipe->sent;
		segment->sent_us = now_us;
		pass_link(pipe, segment, len, now_us);
		if (segment->arrival_us < after_us)
			segment->arrival_us = after_us;
		segment->ack_us = segment->arrival_us + pipe->link->delay_us;
		pipe->count++;
	}
}

uint64_t sim_pipe_next_us(const struct sim_pipe *pipe)
{
	uint64_t next_us = UINT64_MAX;

	if (pipe->frozen)
		return UINT64_MAX;
	if (pipe->sent < pipe->written && pipe->sent - pipe->acked < pipe->cwnd && pipe->count < SIM_SEGMENTS)
		return 0;
	if (pipe->count)
		next_us = pipe->segments[pipe->first].ack_us;
	if (pipe->arrived < pipe->count) {
		uint64_t us = pipe->segments[(pipe->first + pipe->arrived) % SIM_SEGMENTS].arrival_us;
		next_us = us < next_us ? us : next_us;
	}
	return next_us;
}

static void measure(struct sim_pipe *pipe, const struct sim_segment *segment, uint64_t now_us)
{
	uint32_t rtt_us = (uint32_t)(segment->ack_us - segment->sent_us);

	pipe->srtt_us = pipe->srtt_us ? (7 * pipe->srtt_us + rtt_us) / 8 : rtt_us;
	if (now_us - pipe->rate_from_us > pipe->srtt_us) {
		if (pipe->rate_from_us)
			pipe->rate_Bps =
			        (pipe->acked - pipe->rate_from_bytes) * MILLION / (now_us - pipe->rate_from_us);
		pipe->rate_from_us = now_us;
		pipe->rate_from_bytes = pipe->acked;
	}
}

bool sim_pipe_run(struct sim_pipe *pipe, uint64_t now_us)
{
	bool any = false;

	if (pipe->frozen)
		return false;
	while (pipe->arrived && pipe->segments[pipe->first].ack_us <= now_us) {
		const struct sim_segment *segment = &pipe->segments[pipe->first];
		uint64_t len = segment->end - pipe->acked;

		pipe->acked = segment->end;
		if (pipe->recovery_end <= pipe->acked)
			pipe->cwnd += pipe->cwnd < pipe->ssthresh ? len : len * pipe->mss / pipe->cwnd + 1;
		measure(pipe, segment, now_us);
		pipe->first = (pipe->first + 1) % SIM_SEGMENTS;
		pipe->arrived--;
		pipe->count--;
		any = true;
	}
	if (pipe->cwnd > pipe->ring_bytes)
		pipe->cwnd = pipe->ring_bytes;
	transmit(pipe, now_us);
	return any;
}

size_t sim_pipe_arrived(const struct sim_pipe *pipe, uint64_t now_us, const uint8_t **bytes)
{
	uint64_t end = pipe->delivered;
	size_t at = pipe->delivered & (pipe->ring_bytes - 1);

	for (uint32_t i = pipe->arrived; !pipe->frozen && i < pipe->count; i++) {
		const struct sim_segment *segment = &pipe->segments[(pipe->first + i) % SIM_SEGMENTS];
		if (segment->arrival_us > now_us)
			break;
		end = segment->end;
	}
	*bytes = pipe->ring + at;
	return end - pipe->delivered < pipe->ring_bytes - at ? (size_t)(end - pipe->delivered) : pipe->ring_bytes - at;
}

void sim_pipe_taken(struct sim_pipe *pipe, size_t len)
{
	pipe->delivered += len;
	while (pipe->arrived < pipe->count && segment_at(pipe, pipe->arrived)->end <= pipe->delivered)
		pipe->arrived++;
}
