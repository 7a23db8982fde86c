/* sim_pipe: one direction of a simulated TCP connection, as its two ends would see it.
 *
 * Bytes go in as to a socket's send buffer, in order, and come out in order. A segment that is lost is repaired: it and
 * all behind it arrive at least a round trip later, after a timeout when the repair is lost too. The window opens and
 * halves as Reno's does. Pipes of one direction of a path share its rate and its drop-tail queue (struct sim_link).
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

/* One direction of a path. */
struct sim_link {
	uint64_t rate_Bps;
	uint32_t delay_us;
	uint32_t queue_bytes;
	uint32_t loss_ppm; /* of segments */
	uint64_t free_us;  /* when what is queued will have left */
};

struct sim_segment {
	uint64_t end;
	uint64_t sent_us, arrival_us, ack_us;
};

enum { SIM_SEGMENTS = 1024 };

struct sim_pipe {
	struct sim_link *link;
	uint64_t *seed;
	uint8_t *ring;
	uint32_t ring_bytes;  /* a power of two */
	uint32_t lowat_bytes; /* unsent bytes above which the socket is not writable */
	uint32_t mss;
	uint64_t written, sent, delivered, acked;
	struct sim_segment segments[SIM_SEGMENTS]; /* sent, not acked */
	uint32_t first, arrived, count;            /* `arrived` of them have been delivered */
	uint64_t cwnd, ssthresh;
	uint64_t recovery_end;      /* in recovery until this offset is acked */
	uint64_t recovery_known_us; /* and since when the sender knows */
	uint32_t srtt_us;
	uint64_t rate_Bps, rate_from_us, rate_from_bytes;
	uint64_t segments_sent, segments_lost;
	bool frozen; /* nothing arrives or leaves any more */
};

/* `ring_bytes`: of the send buffer, a power of two. False: no memory. */
bool sim_pipe_init(struct sim_pipe *pipe, struct sim_link *link, uint64_t *seed, uint32_t ring_bytes, uint32_t mss);
void sim_pipe_fini(struct sim_pipe *pipe);

/* What the send buffer takes of `len` bytes. */
size_t sim_pipe_write(struct sim_pipe *pipe, const uint8_t *bytes, size_t len);
/* Room below the mark of unsent bytes, 0 when there is none. */
uint32_t sim_pipe_room(const struct sim_pipe *pipe);
void sim_pipe_info(const struct sim_pipe *pipe, struct stripe_info *info, uint64_t now_us);

/* When something next happens by itself; UINT64_MAX: never. */
uint64_t sim_pipe_next_us(const struct sim_pipe *pipe);
/* Lets happen what is due, deliveries aside. True: acknowledgements came, the sender may have room. */
bool sim_pipe_run(struct sim_pipe *pipe, uint64_t now_us);
/* Bytes that have arrived by `now_us`, as far as they lie together; take them with sim_pipe_taken. */
size_t sim_pipe_arrived(const struct sim_pipe *pipe, uint64_t now_us, const uint8_t **bytes);
void sim_pipe_taken(struct sim_pipe *pipe, size_t len);

#endif
