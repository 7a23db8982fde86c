/* link_direction: one direction of the link: queue, serialisation, loss and delay. Pure: frames and `now_ns` in,
 * frames out; no clock, no I/O.
 *
 * Time is virtual. A frame accepted at `now` ends its serialisation at max(now, end of the frame before) + len * 8 /
 * rate, and is due at that time + delay. So the lateness of whoever calls never adds up: a frame handed over late
 * does not make the next one later. Frames leave in the order they came, also when the delay is made shorter.
 *
 * Figures may change at any time, and hold for the frames accepted from then on; `blackhole` holds at once.
 * A lost frame is lost on the wire: it has taken its place in the queue and its time of serialisation.
 *
 * Memory: a pool of fixed slots, mapped once and touched only as far as it is needed. A frame that finds no free slot
 * is dropped and counted.
 */
#ifndef LINK_DIRECTION_H
#define LINK_DIRECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link_figures.h"
#include "link_loss.h"

#define LINK_NEVER_NS UINT64_MAX

enum link_fate {
	LINK_FATE_DELIVERED,
	LINK_FATE_LOST, /* by the loss model */
	LINK_FATE_QUEUE_FULL,
	LINK_FATE_BLACKHOLED,
	LINK_FATE_NO_MEMORY,
	LINK_FATE_OVERSIZE,     /* longer than a slot: the device's MTU was raised */
	LINK_FATE_WRITE_FAILED, /* the receiving device would not take it: it is down */
	LINK_FATES
};

struct link_counters {
	uint64_t frames_in, bytes_in;
	uint64_t frames[LINK_FATES], bytes[LINK_FATES]; /* frames_in = sum of these + frames under way */
	uint64_t queue_peak_bytes;
	uint64_t frame_max_bytes;
	uint64_t late_max_ns, late_sum_ns; /* delivered frames: hand-over minus due time */
};

struct link_frame {
	struct link_frame *next;
	uint64_t departure_ns; /* serialised */
	uint64_t due_ns;       /* to be handed over */
	uint32_t len_bytes;
	bool lost;
	uint8_t data[];
};

struct link_direction {
	struct link_figures figures;
	struct link_loss loss;
	struct link_counters counters;

	struct link_frame *head, *tail;     /* under way, by due_ns */
	struct link_frame *unsent;          /* first that may not be serialised yet; NULL: none */
	uint64_t queue_bytes, queue_frames; /* from `unsent` on */
	uint64_t under_way_frames;
	uint64_t departure_ns, due_ns; /* of the newest frame */

	uint8_t *pool; /* owned mapping of pool_slots * slot_bytes */
	size_t slot_bytes, pool_slots, touched_slots;
	struct link_frame *free_slots; /* last freed first: the pool grows no further than it must */
	struct link_frame *spare;      /* what link_direction_buffer lent */
	size_t frame_max_bytes;
};

/* Frames of up to frame_max_bytes; slots for memory_bytes of them at most. Returns 0 or -errno. */
int link_direction_init(struct link_direction *d, size_t frame_max_bytes, size_t memory_bytes);
void link_direction_free(struct link_direction *d);

/* Where to put the next frame, at least frame_max_bytes + 1 of space (a longer frame shows by filling that). NULL: no
 * memory is left; read the frame into space of your own, and call link_direction_accept all the same.
 * The pointer holds until link_direction_accept. */
uint8_t *link_direction_buffer(struct link_direction *d);

/* A frame of len_bytes came in at now_ns, into what link_direction_buffer gave. */
void link_direction_accept(struct link_direction *d, size_t len_bytes, uint64_t now_ns);

/* The oldest frame if it is due, else NULL. Lost ones are disposed of on the way. The caller hands it over, then calls
 * link_direction_done, before any other call. */
const struct link_frame *link_direction_due(struct link_direction *d, uint64_t now_ns);

/* The frame that link_direction_due gave was delivered at now_ns, or failed. */
void link_direction_done(struct link_direction *d, bool delivered, uint64_t now_ns);

/* When link_direction_due is next worth a call; LINK_NEVER_NS if nothing is under way. */
uint64_t link_direction_next_ns(const struct link_direction *d);

/* Brings queue_bytes and queue_frames up to now_ns, for whoever wants to read them. */
void link_direction_refresh(struct link_direction *d, uint64_t now_ns);

#endif
