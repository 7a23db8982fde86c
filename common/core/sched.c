#include "sched.h"

/* Assumed where nothing has been measured yet: a rate low enough that a measured stripe is preferred. */
enum { UNKNOWN_RATE_BPS = 125000, UNKNOWN_SRTT_US = 100000 };

/* A path that is later than the best by less than this is as good: a wakeup, within which stripes that work have room
 * again (stripe_lowat_bytes). */
enum { LATER_MIN_US = 10000 };

/* Of the best path, by whether it is a backup. */
struct least {
	uint64_t us[2];
};

static struct least least_us(const struct sched_choice *choices, size_t count, int not_index)
{
	struct least least = {{UINT64_MAX, UINT64_MAX}};
	for (size_t i = 0; i < count; i++)
		if ((int)i != not_index && choices[i].usable && choices[i].path_us < least.us[choices[i].backup])
			least.us[choices[i].backup] = choices[i].path_us;
	return least;
}

static uint64_t later_us(const struct sched_choice *choice, struct least least)
{
	uint64_t us = least.us[choice->backup];
	return choice->path_us >= us + LATER_MIN_US ? choice->path_us - us : 0;
}

uint64_t sched_delivery_us(const struct sched_choice *choice, uint32_t len_bytes)
{
	uint64_t rate_Bps = choice->rate_Bps ? choice->rate_Bps : UNKNOWN_RATE_BPS;
	uint64_t srtt_us = choice->srtt_us ? choice->srtt_us : UNKNOWN_SRTT_US;
	uint64_t wait_us = (choice->backlog_bytes + len_bytes) * 1000000 / rate_Bps;
	return wait_us + srtt_us / 2;
}

static uint64_t repaired_us(const struct sched_choice *choice, uint32_t len_bytes)
{
	uint64_t srtt_us = choice->srtt_us ? choice->srtt_us : UNKNOWN_SRTT_US;
	return sched_delivery_us(choice, len_bytes) + (choice->in_recovery ? srtt_us : 0);
}

/* Whether the frame rather waits for another stripe. A copy that comes within twice the time is worth having, since a
 * repair would take as long. */
static bool waits(const struct sched_choice *choice, enum sched_class class, struct least least, bool copy)
{
	uint64_t us = later_us(choice, least);
	if (class >= SCHED_SMALL && copy)
		return us > least.us[choice->backup];
	return us && (class != SCHED_BULK || choice->held_up);
}

/* Stripes that the class may use, best kind first; a worse kind is used only where no stripe of the better one is
 * usable at all: else a full lane would spill over. */
static int kind_of(const struct sched_choice *choice, enum sched_class class, bool lane_reserved)
{
	bool may = choice->wide ? class >= SCHED_YOUNG : class == SCHED_EXPRESS;
	bool spare = choice->spare && class < SCHED_SMALL;
	bool worse = spare || (choice->express && lane_reserved && !may);
	return worse + (choice->backup ? 2 : 0);
}

static bool has_room(const struct sched_choice *choice, enum sched_class class)
{
	return choice->room_bytes && !(choice->queue_full && class < SCHED_SMALL);
}

uint64_t sched_cost_us(const struct sched_choice *choice, enum sched_class class, uint32_t len_bytes)
{
	if (class < SCHED_YOUNG)
		return repaired_us(choice, len_bytes);
	uint64_t srtt_us = choice->srtt_us ? choice->srtt_us : UNKNOWN_SRTT_US;
	uint64_t repair_us = srtt_us * choice->repair_ppm / 1000000;
	if (class != SCHED_YOUNG)
		return sched_delivery_us(choice, 0) + repair_us;
	uint64_t more = choice->block_frames > SCHED_SPREAD_FREE ? choice->block_frames - SCHED_SPREAD_FREE : 0;
	return sched_delivery_us(choice, len_bytes) + repair_us + more * SCHED_SPREAD_US;
}

int sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
               bool lane_reserved, int not_index)
{
	struct least least = least_us(choices, count, not_index);
	bool usable = false;
	for (int kind = 0; kind < 4; kind++) {
		int best = -1;
		uint64_t best_us = UINT64_MAX;
		for (size_t i = 0; i < count; i++) {
			const struct sched_choice *choice = &choices[i];
			if (!choice->usable || (int)i == not_index || kind_of(choice, class, lane_reserved) != kind)
				continue;
			usable = true;
			if (!has_room(choice, class) || waits(choice, class, least, not_index >= 0))
				continue;
			uint64_t us = sched_cost_us(choice, class, len_bytes);
			if (us < best_us) {
				best_us = us;
				best = (int)i;
			}
		}
		if (best >= 0)
			return best;
		if (usable)
			return -1;
	}
	return -1;
}

uint64_t sched_due_us(const struct sched_choice *choice, uint32_t len_bytes)
{
	uint64_t own_us = repaired_us(choice, len_bytes);
	return own_us > choice->path_us ? own_us : choice->path_us;
}

uint64_t sched_later_us(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes)
{
	const struct sched_choice *choice = &choices[index];
	struct least least = least_us(choices, count, -1);
	/* What the stripe itself has before it counts only where the path is another: stripes of one path do not wait
	 * for one another. */
	return later_us(choice, least) ? sched_due_us(choice, len_bytes) - least.us[choice->backup] : 0;
}
