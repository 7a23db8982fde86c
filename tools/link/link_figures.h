/* link_figures: what one direction of an emulated link is told to do, and how that is written.
 *
 * The same words serve the command line and the control socket: `rate=100M delay=25ms ab loss=1% burst=4`. A word of
 * `ab`, `ba` or `both` tells which direction the words after it mean; it starts at both.
 */
#ifndef LINK_FIGURES_H
#define LINK_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum link_side { LINK_A_TO_B, LINK_B_TO_A, LINK_SIDES };

#define LINK_RATE_MAX_BPS 100000000000ULL
#define LINK_DELAY_MAX_NS 10000000000ULL
#define LINK_QUEUE_MAX_BYTES 1000000000ULL
#define LINK_BURST_MAX_FRAMES 100000.0

struct link_figures {
	uint64_t rate_bps;    /* of Ethernet frames without FCS; 0: no limit */
	uint64_t delay_ns;    /* one way, from the end of serialisation to delivery */
	uint64_t queue_bytes; /* accepted and not yet serialised; 0: no limit but memory */
	double loss;          /* long-run share of frames lost, 0 to 1 */
	double burst_frames;  /* mean stay in the bad state, in frames; 0: losses are independent, else at least 1 */
	double loss_bad;      /* share lost while in the bad state, above 0, at most 1; only with burst_frames */
	bool blackhole;       /* everything is dropped, what is under way too */
};

/* An ideal wire: no limit, no delay, no loss. */
void link_figures_init(struct link_figures *figures);

/* Applies `count` words to both[LINK_SIDES]. All or nothing: on an error `both` is as before. `*seed` is set and
 * `*has_seed` becomes true if there was a `seed=` word; otherwise both are left alone.
 * Returns 0, or -EINVAL with a sentence in `why`. */
int link_figures_parse(struct link_figures *both, char *const *words, size_t count, uint64_t *seed, bool *has_seed,
                       char *why, size_t why_size);

/* One whole number with an optional suffix k, M, G (1000s) or Ki, Mi, Gi (1024s), then an optional `unit`.
 * Returns 0, or -EINVAL if it is anything else or above `max`. */
int link_number_parse(const char *text, const char *unit, uint64_t max, uint64_t *value);

#endif
