/* failures: which failures of a path's attempts are worth a line: each kind once, then once a minute for as long as it
 * goes on, with how many there were. Pure: no clock, no log.
 */
#ifndef TX_PROXY_FAILURES_H
#define TX_PROXY_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

enum { FAILURES_KINDS = 4, FAILURES_AGAIN_US = 60000000, FAILURES_REASON_MAX = 96 };

struct failures_kind {
	const char *step;                 /* static text; NULL: free */
	char reason[FAILURES_REASON_MAX]; /* cut */
	uint64_t told_us;
	unsigned count; /* since it was told */
};

/* All zero: nothing has failed. With more kinds than have place, the one that was told longest ago is forgotten. */
struct failures {
	struct failures_kind kinds[FAILURES_KINDS];
};

/* One more. True: to be told now, with *count, how many there were since the last line of this kind, this one among
 * them. `step` must stay; `reason` is copied. */
bool failures_note(struct failures *failures, const char *step, const char *reason, uint64_t now_us, unsigned *count);

#endif
