/* link_loss: which frames are lost. Pure: one draw sequence from one seed, no clock, no I/O.
 *
 * Independent losses are Bernoulli trials. Bursts follow the two-state model of Gilbert and Elliott (E. N. Gilbert,
 * "Capacity of a burst-noise channel", BSTJ 1960): before each frame the state changes with probability p_enter or
 * p_leave; in the bad state a frame is lost with probability loss_bad, in the good state never. So the mean stay in
 * the bad state is 1/p_leave frames, and the share lost is loss_bad * p_enter / (p_enter + p_leave).
 *
 * The frames lost are a function of the seed, of the figures and of the frame's number since the seed, and of nothing
 * else: the same traffic under the same seed loses the same frames.
 */
#ifndef LINK_LOSS_H
#define LINK_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link_figures.h"

#define LINK_LOSS_RECORDED 1024

enum link_loss_state { LINK_LOSS_GOOD, LINK_LOSS_BAD };

struct link_loss {
	uint64_t random_state;
	enum link_loss_state state;
	uint64_t frames;                       /* drawn for since the seed: the next frame's number */
	uint64_t lost;                         /* of these */
	uint64_t recorded[LINK_LOSS_RECORDED]; /* numbers of the first frames lost since the seed: min(lost, size) of
	                                          them */
};

/* Restarts the sequence: frame number 0 is next, in the good state. The two directions of a link get different
 * sequences from one seed, by `side`. */
void link_loss_seed(struct link_loss *loss, uint64_t seed, enum link_side side);

/* Draws for the next frame. True: it is lost. `figures` are valid ones (see link_figures_parse). */
bool link_loss_draw(struct link_loss *loss, const struct link_figures *figures);

/* Transition probabilities that give the figures' loss and burst length. */
void link_loss_transitions(const struct link_figures *figures, double *p_enter, double *p_leave);

#endif
