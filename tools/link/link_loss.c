#include "link_loss.h"

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter through a mixer. Any seed is as good as any other. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* True with probability p. 53 bits are what a double holds exactly, so p = 0 is never and p = 1 is always. */
static bool random_chance(uint64_t *state, double p)
{
	return (double)(random_next(state) >> 11) * 0x1p-53 < p;
}

void link_loss_seed(struct link_loss *loss, uint64_t seed, enum link_side side)
{
	uint64_t mixer = seed;

	loss->random_state = random_next(&mixer) ^ (side == LINK_B_TO_A ? 0x5851f42d4c957f2dULL : 0);
	loss->state = LINK_LOSS_GOOD;
	loss->frames = 0;
	loss->lost = 0;
}

void link_loss_transitions(const struct link_figures *figures, double *p_enter, double *p_leave)
{
	double bad_share = figures->loss / figures->loss_bad;

	*p_leave = 1 / figures->burst_frames;
	*p_enter = *p_leave * bad_share / (1 - bad_share);
}

static bool frame_is_lost(struct link_loss *loss, const struct link_figures *figures)
{
	double p_enter, p_leave;
	bool moves;

	if (figures->loss == 0)
		return false;
	if (figures->burst_frames == 0)
		return random_chance(&loss->random_state, figures->loss);
	link_loss_transitions(figures, &p_enter, &p_leave);
	moves = random_chance(&loss->random_state, loss->state == LINK_LOSS_GOOD ? p_enter : p_leave);
	if (moves)
		loss->state = loss->state == LINK_LOSS_GOOD ? LINK_LOSS_BAD : LINK_LOSS_GOOD;
	return loss->state == LINK_LOSS_BAD && random_chance(&loss->random_state, figures->loss_bad);
}

bool link_loss_draw(struct link_loss *loss, const struct link_figures *figures)
{
	uint64_t number = loss->frames++;

	if (!frame_is_lost(loss, figures))
		return false;
	if (loss->lost < LINK_LOSS_RECORDED)
		loss->recorded[loss->lost] = number;
	loss->lost++;
	return true;
}
