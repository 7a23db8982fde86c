/* sched: which stripe carries the next frame. A pure choice over snapshots: no state, no clock.
 *
 * The stripe that delivers earliest is chosen: T = backlog / rate + srtt / 2. (Lowest expected delivery time in the
 * sense of ECF, Lim et al., CoNEXT 2017, with the backlog known exactly instead of estimated.)
 *
 * TCP delivers in order, but a loss that is known holds up nothing that is written now: its repair goes before that.
 * Only bulk keeps off a stripe that repairs a loss, as if that took an srtt, because its window is held down meanwhile
 * (RFC 6937): what is piled up there is missing elsewhere.
 *
 * A small frame, or one of a young flow, goes where it is least likely to wait for a repair: what is under way before
 * it on a stripe, and lost, holds it up for an RTT, and nobody knows of it yet. So for these that chance, times the
 * RTT, is added.
 *
 * A young flow's frames spread over all stripes, so that none of them holds up more than parity can stand for: one
 * that was given SCHED_SPREAD_FREE more of them than another of its path costs SCHED_SPREAD_US for each further one.
 * That is more than what stripes differ by in rate and in what is under way, which gave one in eight twice its share.
 *
 * While small flows are about, bulk keeps off the express stripes; on a path that is not wide all keep off them but
 * frames that are all that there is to say just now (doc/architecture.md, "the express lane"). Bulk and young flows
 * take no room on a path that has enough under way (session_queue.c).
 */
#ifndef PAIR_CORE_SCHED_H
#define PAIR_CORE_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCHED_SPREAD_FREE = 2, SCHED_SPREAD_US = 10000 };

enum sched_class {
	SCHED_BULK,
	SCHED_AGAIN,  /* of bulk, what only the best path may carry: it was sent before, or comes next */
	SCHED_YOUNG,  /* likewise of a flow that will soon be done */
	SCHED_SMALL,  /* small flows with more than a frame to say; data acks */
	SCHED_EXPRESS /* keystrokes, small questions and answers, control frames */
};

struct sched_choice {
	bool usable;  /* up, neither stale nor resting */
	bool express; /* of the express lane, and not lent to bulk */
	bool spare;   /* its path is filled without it: bulk and young flows keep off it */
	bool wide;    /* its path has stripes enough for both */
	bool backup;
	bool in_recovery;
	bool held_up;    /* what it was given before is late: more would wait behind that */
	bool queue_full; /* its path has enough under way: takes neither bulk nor young flows */
	uint32_t srtt_us;
	uint64_t path_us;       /* within what time its path, as measured over all its stripes, delivers */
	uint64_t rate_Bps;      /* 0: not known */
	uint64_t backlog_bytes; /* what waits before the next frame */
	uint32_t room_bytes;    /* 0: takes nothing now */
	uint32_t block_frames;  /* of the block that a young flow's frame is of, so many more than other stripes of its
	                           path */
	uint32_t repair_ppm;    /* the chance that the next frame waits for a repair, its own included */
};

/* The index of the choice for a frame of `len_bytes`, or -1: none takes it now. `lane_reserved`: small flows are about.
 * `not_index` (or -1) is left out: for a second copy. */
int sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
               bool lane_reserved, int not_index);

/* Within what time `len_bytes` more should have been delivered, µs, repairs included. */
uint64_t sched_due_us(const struct sched_choice *choice, uint32_t len_bytes);

/* How much later a bulk frame on `index` would arrive than what follows it on the best path, µs: bytes that are needed
 * sooner than that belong elsewhere. Paths are compared, not stripes: which of a path's stripes repairs a loss just now
 * changes all the time. Only paths of the same kind (backup or not) count. */
uint64_t sched_later_us(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes);

/* Expected time until `len_bytes` more would be delivered, µs. */
uint64_t sched_delivery_us(const struct sched_choice *choice, uint32_t len_bytes);

/* What sched_pick finds the least of: that time; for bulk with the srtt of a repair; for small frames, which take none
 * themselves, and young flows with what a repair would add times its chance; for the latter with what it was given of
 * the block. */
uint64_t sched_cost_us(const struct sched_choice *choice, enum sched_class class, uint32_t len_bytes);

#endif
