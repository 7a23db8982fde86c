#include "sched.h"

/* Assumed where nothing has been measured yet: a rate low enough that a measured stripe is preferred. */
enum { UNKNOWN_RATE_BPS = 125000, UNKNOWN_SRTT_US = 100000 };

uint64_t sched_delivery_us(const struct sched_choice *choice, uint32_t len_bytes)
{
	uint64_t rate_Bps = choice->rate_Bps ? choice->rate_Bps : UNKNOWN_RATE_BPS;
	uint64_t srtt_us = choice->srtt_us ? choice->srtt_us : UNKNOWN_SRTT_US;
	uint64_t wait_us = (choice->backlog_bytes + len_bytes) * 1000000 / rate_Bps;
	return wait_us + srtt_us / 2 + (choice->in_recovery ? srtt_us : 0);
}

/* Stripes that the class may use, best kind first; a worse kind is used only where no stripe of the better one is
 * usable at all (bulk: else a full lane would spill over), or, for small flows, where none has room. */
static int kind_of(const struct sched_choice *choice, enum sched_class class, bool lane_reserved)
{
	int kind = 0;
	if (class == SCHED_BULK)
		kind = choice->express && lane_reserved;
	else
		kind = !choice->express;
	return kind + (choice->backup ? 2 : 0);
}

int sched_pick(const struct sched_choice *choices, size_t count, enum sched_class class, uint32_t len_bytes,
               bool lane_reserved, int not_index)
{
	bool usable = false;
	for (int kind = 0; kind < 4; kind++) {
		int best = -1;
		uint64_t best_us = UINT64_MAX;
		for (size_t i = 0; i < count; i++) {
			const struct sched_choice *choice = &choices[i];
			if (!choice->usable || (int)i == not_index || kind_of(choice, class, lane_reserved) != kind)
				continue;
			usable = true;
			if (!choice->room_bytes)
				continue;
			uint64_t us = sched_delivery_us(choice, len_bytes);
			if (us < best_us) {
				best_us = us;
				best = (int)i;
			}
		}
		if (best >= 0)
			return best;
		bool next_is_backup = kind == 1;
		if (usable && (class == SCHED_BULK || next_is_backup))
			return -1;
	}
	return -1;
}

bool sched_blocks(const struct sched_choice *choices, size_t count, size_t index, uint32_t len_bytes,
                  uint64_t window_bytes)
{
	uint64_t own_us = sched_delivery_us(&choices[index], len_bytes);
	uint64_t best_us = own_us, others_Bps = 0;
	for (size_t i = 0; i < count; i++) {
		const struct sched_choice *choice = &choices[i];
		if (i == index || !choice->usable || choice->room_bytes || choice->backup != choices[index].backup ||
		    choice->express != choices[index].express)
			continue;
		uint64_t us = sched_delivery_us(choice, len_bytes);
		if (us < best_us)
			best_us = us;
		others_Bps += choice->rate_Bps;
	}
	/* A loss on the way costs about one RTT more, which cannot be foreseen: twice the difference is taken. */
	uint64_t ahead_bytes = others_Bps * ((own_us - best_us) / 1000) / 1000 * 2;
	return own_us > best_us && ahead_bytes + len_bytes > window_bytes;
}
