/* sched: which stripe carries the next frame. A pure choice over snapshots: no state, no clock.
 *
 * The stripe that delivers earliest is chosen: T = backlog / rate + srtt / 2, and one srtt more while it repairs a
 * loss, since TCP delivers in order and what is written behind a hole waits for the hole. (Lowest expected delivery
 * time in the sense of ECF, Lim et al., CoNEXT 2017, with the backlog known exactly instead of estimated.)
 *
 * Two classes of traffic (doc/architecture.md, "the express lane"): bulk keeps off the express stripes while small
 * flows are about, and small flows prefer them.
 */
#ifndef PAIR_CORE_SCHED_H
#define PAIR_CORE_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sched_class {
	SCHED_BULK,
	SCHED_EXPRESS /* small flows, keystrokes, control frames */
};

struct sched_choice {
	bool usable;  /* up, not stale */
	bool express; /* of the express lane */
	bool backup;
	bool in_recovery;
	uint32_t srtt_us;
	uint64_t rate_Bps;      /* 0: not known */
	uint64_t backlog_bytes; /* what waits before the next frame */
	uint32_t room_bytes;    /* 0: takes nothing now */
};

/* The index of the choice for a frame of `len_bytes`, or -1: none takes it now. `lane_reserved`: bulk keeps off the
 * express stripes unless no other is usable. `not_index` (or -1) is left out: for a second copy. */
int sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
               bool lane_reserved, int not_index);

/* Whether a bulk frame on `index` would hold its flow up: until it is delivered the stripes that have no room just now
 * would bring more than the window has place for, so they would stand still, and waiting for one of them is better.
 * Only stripes of the same kind (express or not, backup or not) count: the flow may use them, and each will say when it
 * has room. `window_bytes`: what the flow may have under way. (BLEST, Ferlin et al., IFIP Networking 2016: there with
 * estimates of what a fast subflow sends meanwhile, here with measured rates.) */
bool sched_blocks(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes,
                  uint64_t window_bytes);

/* Expected time until `len_bytes` more would be delivered, µs. */
uint64_t sched_delivery_us(const struct sched_choice *choice, uint32_t len_bytes);

#endif
