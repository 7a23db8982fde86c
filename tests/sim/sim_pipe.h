/* sim_pipe: one direction of a simulated TCP connection, as its two ends would see it.
 *
 * Bytes go in as to a socket's send buffer, in order, and come out in order. Segments of a path's pipes share its rate
 * and its drop-tail queue (struct sim_link), are lost there by chance or when the queue is full, and arrive after its
 * delay; acknowledgements come back after the same delay and take no room. A lost segment is missed when one that was
 * sent after it is acknowledged (SACK, RACK: RFC 8985, without its reordering window), or by the connection's timeout
 * (srtt + 4 · rttvar, at least 200 ms, doubled each time up to two seconds; 2 · srtt at the tail, as its probe does),
 * and is sent again, through the same queue. So what is behind it waits for a round trip more, and for much longer if
 * the repair is lost at the end.
 *
 * How much is under way: Reno's window with CUBIC's decrease (SIM_RENO), or what the measured rate and RTT ask for
 * (SIM_BBR: BBR version 1's start-up, drain, gain cycle and PROBE_RTT; no long-term policer model).
 *
 *     acked ≤ delivered ≤ sent ≤ written       (counts of bytes since the start)
 *
 * Time is the caller's, in µs; chance comes from the caller's seed.
 */
#ifndef TESTS_SIM_PIPE_H
#define TESTS_SIM_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../common/core/stripe.h"

enum sim_congestion { SIM_RENO, SIM_BBR };

/* One direction of a path. */
struct sim_link {
	uint64_t rate_Bps;
	uint32_t delay_us;
	uint32_t queue_bytes;
	uint32_t loss_ppm; /* of segments */
	enum sim_congestion congestion;
	uint64_t free_us; /* when what is queued will have left */
};

struct sim_segment {
	uint64_t end;
	uint64_t sent_us;    /* last */
	uint64_t arrival_us; /* UINT64_MAX: lost */
	uint64_t known_us;   /* when its acknowledgement comes, or, of a lost one, its timeout */
	/* As the last sending found the pipe: for measuring the rate (tcp_rate.c of Linux). */
	uint64_t rate_bytes, rate_us, rate_sent_us;
	uint32_t len;
	bool sacked, repaired;
};

enum { SIM_SEGMENTS = 1024, SIM_ROUNDS = 10 };

struct sim_pipe {
	struct sim_link *link;
	uint64_t *seed;
	uint8_t *ring;
	uint32_t ring_bytes; /* a power of two */
	uint32_t mss;
	uint64_t written, sent, delivered, acked;
	/* Number i is segments[i % SIM_SEGMENTS]. Those below `arrived` have been delivered. The lost ones are in
	 * `repairs` until they are acknowledged; of the others, those from `fresh` on are not acknowledged. */
	struct sim_segment segments[SIM_SEGMENTS];
	uint64_t first, arrived, fresh, end;
	uint64_t repairs[SIM_SEGMENTS];
	uint32_t repair_count;
	uint64_t in_flight;
	uint32_t in_flight_segments;
	uint64_t cwnd, ssthresh, pacing_Bps, next_send_us, last_sent_us;
	uint64_t recovery_end; /* in recovery until this offset is acked */
	uint32_t srtt_us, rttvar_us, rtt_min_us;
	unsigned backoff;
	uint64_t rate_Bps, sacked_bytes, sacked_us, sacked_sent_us;
	bool rate_limited; /* by the application, when rate_Bps was measured */
	uint64_t segments_sent, segments_lost, segments_sacked;
	/* SIM_BBR */
	uint64_t round_Bps[SIM_ROUNDS], round_end_bytes, full_Bps;
	unsigned round, full_rounds, phase;
	uint64_t phase_us;
	/* The RTT that it takes for the empty path's, when that was measured; since when it is in PROBE_RTT, when that
	 * may end, and whether the first acknowledgement after a rest is awaited. */
	uint32_t floor_us;
	uint64_t floor_at_us, probe_us, probe_end_us;
	bool idle_restart;
	unsigned probes;                      /* how often it was in PROBE_RTT */
	uint64_t cwnd_before, conserve_bytes; /* in the first round of a recovery only what leaves is replaced */
	bool frozen;                          /* nothing arrives or leaves any more */
};

/* `ring_bytes`: of the send buffer, a power of two. False: no memory. */
bool sim_pipe_init(struct sim_pipe *pipe, struct sim_link *link, uint64_t *seed, uint32_t ring_bytes, uint32_t mss);
void sim_pipe_fini(struct sim_pipe *pipe);

/* What the send buffer takes of `len` bytes. */
size_t sim_pipe_write(struct sim_pipe *pipe, const uint8_t *bytes, size_t len);
/* Unsent bytes above which the socket is not writable, as stripe_io has it. */
uint32_t sim_pipe_lowat(const struct sim_pipe *pipe);
/* Room below that mark, 0 when there is none. */
uint32_t sim_pipe_room(const struct sim_pipe *pipe);
void sim_pipe_info(const struct sim_pipe *pipe, struct stripe_info *info);

/* When something next happens by itself; UINT64_MAX: never. */
uint64_t sim_pipe_next_us(const struct sim_pipe *pipe);
/* Lets happen what is due, deliveries aside. True: acknowledgements came, the sender may have room. */
bool sim_pipe_run(struct sim_pipe *pipe, uint64_t now_us);
/* Bytes that have arrived by `now_us`, as far as they lie together; take them with sim_pipe_taken. */
size_t sim_pipe_arrived(const struct sim_pipe *pipe, uint64_t now_us, const uint8_t **bytes);
void sim_pipe_taken(struct sim_pipe *pipe, size_t len);

#endif
