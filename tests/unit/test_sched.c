/* The choice of a stripe: tables of situations, and what must hold for every choice. */
#include <string.h>

#include "../../common/core/sched.h"
#include "../../common/core/stripe.h"
#include "unit.h"
#include "unit_random.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { MEBI = 1048576 };

/* A stripe, as far as it differs from a plain one: 1 MiB/s, 50 ms, nothing waiting, room for more. */
struct likeness {
	unsigned flags; /* 0: there is no such stripe */
	unsigned srtt_ms;
	unsigned rate_mebi;
	unsigned backlog_kibi;
	unsigned repair_percent;
};

enum {
	PLAIN = 1,
	DEAD = 2,
	FULL = 4,
	UNKNOWN = 8,
	LANE = 16,
	BACKUP = 32,
	REPAIRS = 64,
	QUEUE = 128,
	WIDE = 256,
	SPARE = 1024,
	FILLED = 768
};

static const struct situation {
	const char *name;
	enum sched_class class;
	bool lane_reserved;
	int not_index;
	uint32_t len;
	int want;
	struct likeness choices[4];
} situations[] = {
        {"bulk waits for the others, not on a spare one",
         SCHED_BULK,
         false,
         -1,
         1400,
         -1,
         {{.flags = SPARE}, {.flags = FULL}}},
        {"nor does a young flow", SCHED_YOUNG, false, -1, 1400, -1, {{.flags = SPARE}, {.flags = FULL}}},
        {"a small one takes it", SCHED_SMALL, false, -1, 1400, 0, {{.flags = SPARE}, {.flags = FULL}}},
        {"where the others are gone, it is used", SCHED_BULK, false, -1, 1400, 0, {{.flags = SPARE}, {.flags = DEAD}}},
        {"none is usable", SCHED_BULK, false, -1, 1400, -1, {{.flags = 0}}},
        {"the only one has no room", SCHED_BULK, false, -1, 1400, -1, {{.flags = FULL}}},
        {"the first of equals", SCHED_BULK, false, -1, 1400, 0, {{.flags = PLAIN}, {.flags = PLAIN}}},
        {"the faster one", SCHED_BULK, false, -1, 60000, 1, {{.flags = PLAIN}, {.flags = PLAIN, .rate_mebi = 3}}},
        {"the nearer one", SCHED_BULK, false, -1, 1400, 1, {{.flags = PLAIN}, {.flags = PLAIN, .srtt_ms = 20}}},
        {"the one with less waiting",
         SCHED_BULK,
         false,
         -1,
         1400,
         1,
         {{.flags = PLAIN, .backlog_kibi = 100}, {.flags = PLAIN}}},
        {"far but idle before near but full",
         SCHED_BULK,
         false,
         -1,
         1400,
         1,
         {{.flags = PLAIN, .srtt_ms = 10, .backlog_kibi = 10240}, {.flags = PLAIN, .srtt_ms = 200}}},
        {"not one that repairs a loss",
         SCHED_BULK,
         false,
         -1,
         1400,
         1,
         {{.flags = REPAIRS}, {.flags = PLAIN, .srtt_ms = 90}}},
        {"one that repairs a loss, when it is still sooner",
         SCHED_BULK,
         false,
         -1,
         1400,
         0,
         {{.flags = REPAIRS, .srtt_ms = 10}, {.flags = PLAIN, .srtt_ms = 90}}},
        {"a measured one before an unknown one",
         SCHED_BULK,
         false,
         -1,
         1400,
         1,
         {{.flags = UNKNOWN}, {.flags = PLAIN}}},
        {"an unknown one alone", SCHED_EXPRESS, true, -1, 1400, 0, {{.flags = UNKNOWN}}},
        {"bulk keeps off the reserved lane",
         SCHED_BULK,
         true,
         -1,
         1400,
         1,
         {{.flags = LANE}, {.flags = PLAIN, .srtt_ms = 300}}},
        {"bulk waits rather than spill over", SCHED_BULK, true, -1, 1400, -1, {{.flags = LANE}, {.flags = FULL}}},
        {"bulk uses a lane that is not reserved",
         SCHED_BULK,
         false,
         -1,
         1400,
         0,
         {{.flags = LANE}, {.flags = PLAIN, .srtt_ms = 300}}},
        {"bulk uses the reserved lane when nothing else lives",
         SCHED_BULK,
         true,
         -1,
         1400,
         0,
         {{.flags = LANE}, {.flags = DEAD}}},
        {"bulk waits when its path has enough under way",
         SCHED_BULK,
         true,
         -1,
         1400,
         -1,
         {{.flags = QUEUE}, {.flags = LANE}}},
        {"another path may have less under way",
         SCHED_BULK,
         true,
         -1,
         1400,
         1,
         {{.flags = QUEUE}, {.flags = PLAIN, .srtt_ms = 90}}},
        {"whether small flows are about or not",
         SCHED_BULK,
         false,
         -1,
         1400,
         1,
         {{.flags = QUEUE}, {.flags = PLAIN, .srtt_ms = 90}}},
        {"a queue does not stop small flows", SCHED_SMALL, true, -1, 1400, 0, {{.flags = QUEUE}, {.flags = LANE}}},
        {"a small frame goes where least is under way",
         SCHED_EXPRESS,
         true,
         -1,
         100,
         1,
         {{.flags = PLAIN, .repair_percent = 20}, {.flags = LANE, .repair_percent = 6}}},
        {"be it not the lane",
         SCHED_EXPRESS,
         true,
         -1,
         100,
         0,
         {{.flags = PLAIN, .repair_percent = 6}, {.flags = LANE, .repair_percent = 20}}},
        {"a repair costs a round trip",
         SCHED_EXPRESS,
         true,
         -1,
         100,
         0,
         {{.flags = PLAIN, .repair_percent = 60}, {.flags = LANE, .backlog_kibi = 40}}},
        {"bulk does not mind repairs",
         SCHED_BULK,
         false,
         -1,
         1400,
         0,
         {{.flags = PLAIN, .repair_percent = 60}, {.flags = PLAIN, .backlog_kibi = 4}}},
        {"a small flow with more to say keeps off the lane",
         SCHED_SMALL,
         true,
         -1,
         1400,
         1,
         {{.flags = LANE}, {.flags = PLAIN, .repair_percent = 60}}},
        {"but not where there is lane enough",
         SCHED_SMALL,
         true,
         -1,
         1400,
         0,
         {{.flags = LANE | WIDE}, {.flags = WIDE, .repair_percent = 60}}},
        {"bulk keeps off the lane there, too",
         SCHED_BULK,
         true,
         -1,
         1400,
         -1,
         {{.flags = LANE | WIDE}, {.flags = FULL | WIDE}}},
        {"a young flow goes where a loss is repaired before it",
         SCHED_YOUNG,
         false,
         -1,
         1400,
         0,
         {{.flags = REPAIRS}, {.flags = PLAIN, .srtt_ms = 90}}},
        {"and waits rather than spill over", SCHED_SMALL, true, -1, 1400, -1, {{.flags = LANE}, {.flags = FULL}}},
        {"a small flow goes elsewhere when the lane is full",
         SCHED_EXPRESS,
         true,
         -1,
         100,
         0,
         {{.flags = PLAIN}, {.flags = FULL | LANE}}},
        {"a copy goes to another one",
         SCHED_EXPRESS,
         true,
         1,
         100,
         2,
         {{.flags = LANE, .srtt_ms = 90}, {.flags = LANE}, {.flags = LANE}}},
        {"no other for a copy", SCHED_EXPRESS, true, 0, 100, -1, {{.flags = PLAIN}}},
        {"a backup path only when no other lives",
         SCHED_BULK,
         false,
         -1,
         1400,
         0,
         {{.flags = PLAIN, .srtt_ms = 300}, {.flags = BACKUP}}},
        {"a backup path when no other lives", SCHED_BULK, false, -1, 1400, 1, {{.flags = DEAD}, {.flags = BACKUP}}},
        {"bulk waits rather than use the backup path",
         SCHED_BULK,
         false,
         -1,
         1400,
         -1,
         {{.flags = FULL}, {.flags = BACKUP}}},
        {"a small flow waits rather than use the backup path",
         SCHED_EXPRESS,
         false,
         -1,
         100,
         -1,
         {{.flags = FULL}, {.flags = BACKUP}}},
        {"a small flow waits for a full lane rather than use the backup path",
         SCHED_EXPRESS,
         true,
         -1,
         100,
         -1,
         {{.flags = FULL | LANE}, {.flags = BACKUP}}},
};

static struct sched_choice like(const struct likeness *l)
{
	bool known = !(l->flags & UNKNOWN);

	return (struct sched_choice){.usable = l->flags && !(l->flags & DEAD),
	                             .express = l->flags & LANE,
	                             .spare = l->flags & SPARE,
	                             .wide = l->flags & WIDE,
	                             .backup = l->flags & BACKUP,
	                             .in_recovery = l->flags & REPAIRS,
	                             .queue_full = l->flags & QUEUE,
	                             .repair_ppm = 10000 * l->repair_percent,
	                             .srtt_us = known ? 1000 * (l->srtt_ms ? l->srtt_ms : 50) : 0,
	                             .rate_Bps = known ? MEBI * (uint64_t)(l->rate_mebi ? l->rate_mebi : 1) : 0,
	                             .backlog_bytes = 1024 * (uint64_t)l->backlog_kibi,
	                             .room_bytes = l->flags & FULL ? 0 : 65536};
}

static void check_situations(void)
{
	for (size_t i = 0; i < COUNT(situations); i++) {
		const struct situation *s = &situations[i];
		struct sched_choice choices[COUNT(s->choices)];

		for (size_t k = 0; k < COUNT(choices); k++)
			choices[k] = like(&s->choices[k]);
		UNIT_CASE("%s", s->name)
			UNIT_EQ(sched_pick(choices, COUNT(choices), s->class, s->len, s->lane_reserved, s->not_index),
			        s->want);
	}
}

static void check_spread(void)
{
	struct sched_choice choices[] = {like(&(struct likeness){.flags = PLAIN}),
	                                 like(&(struct likeness){.flags = PLAIN})};

	UNIT_CASE("a young flow's frame keeps off the stripe that was given more of its block, no other class's does") {
		choices[0].block_frames = SCHED_SPREAD_FREE + 1;
		choices[1].block_frames = SCHED_SPREAD_FREE;
		choices[1].backlog_bytes = MEBI * (uint64_t)(SCHED_SPREAD_US - 1000) / 1000000;
		UNIT_EQ(sched_pick(choices, 2, SCHED_YOUNG, 1400, false, -1), 1);
		UNIT_EQ(sched_pick(choices, 2, SCHED_SMALL, 1400, false, -1), 0);
		UNIT_EQ(sched_pick(choices, 2, SCHED_BULK, 1400, false, -1), 0);
		choices[1].backlog_bytes = MEBI * (uint64_t)(SCHED_SPREAD_US + 1000) / 1000000;
		UNIT_EQ(sched_pick(choices, 2, SCHED_YOUNG, 1400, false, -1), 0);
	}
}

static void check_delivery(void)
{
	struct sched_choice choice = like(&(struct likeness){.flags = PLAIN});

	UNIT_CASE("expected delivery: what waits at the rate, half a round trip; bulk counts one more for a loss") {
		UNIT_EQ(sched_delivery_us(&choice, 0), 25000);
		UNIT_EQ(sched_delivery_us(&choice, MEBI), 1025000);
		choice.backlog_bytes = MEBI;
		UNIT_EQ(sched_delivery_us(&choice, MEBI), 2025000);
		choice.in_recovery = true;
		UNIT_EQ(sched_delivery_us(&choice, MEBI), 2025000);
		UNIT_EQ(sched_cost_us(&choice, SCHED_YOUNG, MEBI), 2025000);
		choice.repair_ppm = 500000;
		choice.block_frames = SCHED_SPREAD_FREE + 3;
		UNIT_EQ(sched_cost_us(&choice, SCHED_YOUNG, MEBI), 2050000 + 3 * SCHED_SPREAD_US);
		UNIT_EQ(sched_cost_us(&choice, SCHED_SMALL, MEBI), 1050000);
		UNIT_EQ(sched_cost_us(&choice, SCHED_BULK, MEBI), 2075000);
		UNIT_EQ(sched_due_us(&choice, MEBI), 2075000);
		choice = (struct sched_choice){.rate_Bps = 1, .backlog_bytes = UINT32_MAX};
		UNIT_TRUE(sched_delivery_us(&choice, UINT32_MAX) > 1000000ull * UINT32_MAX);
	}
}

static struct sched_choice random_choice(uint64_t *seed)
{
	bool wide = unit_chance(seed, 1, 2);

	return (struct sched_choice){.wide = wide,
	                             .usable = unit_chance(seed, 3, 4),
	                             .express = unit_chance(seed, 1, 3),
	                             .spare = unit_chance(seed, 1, 3),
	                             .backup = unit_chance(seed, 1, 4),
	                             .in_recovery = unit_chance(seed, 1, 4),
	                             .queue_full = unit_chance(seed, 1, 4),
	                             .block_frames = (uint32_t)unit_below(seed, 10),
	                             .repair_ppm = (uint32_t)unit_below(seed, 1000001),
	                             .srtt_us = (uint32_t)unit_below(seed, 300000),
	                             .path_us = unit_below(seed, 3) * 15000,
	                             .rate_Bps = unit_below(seed, 10 * MEBI),
	                             .backlog_bytes = unit_below(seed, MEBI),
	                             .room_bytes = (uint32_t)unit_below(seed, 3) * 1000};
}

static bool has_room(const struct sched_choice *choice, enum sched_class class)
{
	return choice->room_bytes && !(choice->queue_full && class < SCHED_SMALL);
}

static bool keeps_off(const struct sched_choice *choice, enum sched_class class, bool reserved)
{
	if (choice->spare && class < SCHED_SMALL)
		return true;
	if (!choice->express || class == SCHED_EXPRESS)
		return false;
	if (class >= SCHED_YOUNG)
		return reserved && !choice->wide;
	return reserved;
}

/* Whether a frame would rather wait for the best path. */
static bool waits(const struct sched_choice *c, size_t count, size_t index, enum sched_class class, int not_index)
{
	uint64_t least_us = UINT64_MAX;

	for (size_t i = 0; i < count; i++)
		if ((int)i != not_index && c[i].usable && c[i].backup == c[index].backup && c[i].path_us < least_us)
			least_us = c[i].path_us;
	uint64_t later_us = c[index].path_us - least_us;
	bool small_copy = not_index >= 0 && class >= SCHED_SMALL;
	return class != SCHED_BULK && later_us >= 10000 && (!small_copy || later_us > least_us);
}

static void check_random(void)
{
	UNIT_CASE("whatever the stripes are like, the choice is one that may be made") {
		uint64_t seed = 1;
		unsigned picked = 0;

		for (int round = 0; round < 100000; round++) {
			struct sched_choice c[8];
			size_t count = unit_below(&seed, 9);
			static const enum sched_class classes[] = {SCHED_BULK, SCHED_YOUNG, SCHED_SMALL, SCHED_EXPRESS};
			enum sched_class class = classes[unit_below(&seed, 4)];
			bool reserved = unit_chance(&seed, 1, 2);
			int not_index = (int)unit_below(&seed, count + 1) - 1;
			bool plain_lives = false, plain_lane_lives = false, any_room = false;

			for (size_t i = 0; i < count; i++) {
				c[i] = random_choice(&seed);
				if (!c[i].usable || (int)i == not_index)
					continue;
				plain_lives = plain_lives || !c[i].backup;
				plain_lane_lives =
				        plain_lane_lives || (!c[i].backup && !keeps_off(&c[i], class, reserved));
			}
			for (size_t i = 0; i < count; i++)
				any_room = any_room ||
				           (c[i].usable && (int)i != not_index && has_room(&c[i], class) &&
				            !(c[i].backup && plain_lives) && !keeps_off(&c[i], class, reserved) &&
				            !waits(c, count, i, class, not_index));
			int got = sched_pick(c, count, class, 1400, reserved, not_index);
			if (got < 0) {
				if (!UNIT_TRUE(!any_room))
					break;
				continue;
			}
			picked++;
			bool good = UNIT_TRUE((size_t)got < count) &&
			            UNIT_TRUE(c[got].usable && has_room(&c[got], class) && got != not_index) &&
			            UNIT_TRUE(!(c[got].backup && plain_lives));
			if (keeps_off(&c[got], class, reserved) && !c[got].backup)
				good = good && UNIT_TRUE(!plain_lane_lives);
			good = good && UNIT_TRUE(!waits(c, count, (size_t)got, class, not_index));
			for (size_t i = 0; good && i < count; i++) /* none of the same kind is sooner */
				if ((int)i != not_index && c[i].usable && has_room(&c[i], class) &&
				    !waits(c, count, i, class, not_index) &&
				    keeps_off(&c[i], class, reserved) == keeps_off(&c[got], class, reserved) &&
				    c[i].backup == c[got].backup)
					good = UNIT_TRUE(sched_cost_us(&c[got], class, 1400) <=
					                 sched_cost_us(&c[i], class, 1400));
			if (!good) {
				UNIT_FAIL("round %d", round);
				break;
			}
		}
		UNIT_TRUE(picked > 10000);
	}
}

static void check_soon(void)
{
	struct stripe_info info = {.srtt_us = 50000, .mss_bytes = 1448, .cwnd_bytes = 20000};

	UNIT_CASE("what a stripe sends soon: the rest of its window, half of it, some segments; of a short round trip, "
	          "a wakeup") {
		UNIT_EQ(stripe_soon_bytes(&info), 20000 + 10000 + 8192);
		info.under_way_bytes = 15000;
		UNIT_EQ(stripe_soon_bytes(&info), 5000 + 10000 + 8192);
		info.under_way_bytes = 25000;
		UNIT_EQ(stripe_soon_bytes(&info), 0 + 10000 + 8192);
		info.srtt_us = 1000;
		UNIT_EQ(stripe_soon_bytes(&info), 0 + 200000 + 8192);
		info.srtt_us = 0;
		UNIT_EQ(stripe_soon_bytes(&info), UINT64_MAX);
	}
	UNIT_CASE("a stripe without much to say does what its window would, but no more than it is paced at") {
		info = (struct stripe_info){
		        .srtt_us = 50000, .cwnd_bytes = 50000, .rate_Bps = 1000, .app_limited = true};
		UNIT_EQ(stripe_rate_Bps(&info), 1000000);
		info.pacing_Bps = 300000;
		UNIT_EQ(stripe_rate_Bps(&info), 300000);
		info.rate_Bps = 400000;
		UNIT_EQ(stripe_rate_Bps(&info), 400000);
		info.app_limited = false;
		info.rate_Bps = 1000;
		UNIT_EQ(stripe_rate_Bps(&info), 1000);
	}
}

static void check_later(void)
{
	const struct sched_choice c[] = {
	        {.usable = true, .path_us = 15000, .rate_Bps = MEBI},
	        {.usable = true, .path_us = 400000, .rate_Bps = MEBI, .room_bytes = 20000},
	        {.usable = false, .path_us = 1000, .rate_Bps = MEBI, .room_bytes = 20000},
	        {.usable = true, .path_us = 300000, .rate_Bps = MEBI, .backup = true, .room_bytes = 20000},
	        {.usable = true, .path_us = 15000, .rate_Bps = MEBI, .express = true, .room_bytes = 20000},
	};
	struct sched_choice other[2] = {c[0], c[1]};

	UNIT_CASE("a slow path is later than the best one that lives, whether that has room or not") {
		UNIT_EQ(sched_later_us(c, COUNT(c), 1, 1400), 385000);
		UNIT_EQ(sched_later_us(c + 1, COUNT(c) - 2, 0, 1400), 0);
	}
	UNIT_CASE("the best path is not late, nor is a backup later than what it stands in for") {
		UNIT_EQ(sched_later_us(c, COUNT(c), 0, 1400), 0);
		UNIT_EQ(sched_later_us(c, COUNT(c), 3, 1400), 0);
		UNIT_EQ(sched_later_us(c, COUNT(c), 4, 1400), 0);
	}
	UNIT_CASE("what a stripe of the slow path has before it counts as well") {
		other[1].backlog_bytes = MEBI;
		UNIT_EQ(sched_later_us(other, 2, 1, 0), 1000000 + 50000 - 15000);
		other[1].path_us = 20000;
		UNIT_EQ(sched_later_us(other, 2, 1, 0), 0);
	}
	UNIT_CASE("a small frame waits for the best path, and what goes again; bulk does not") {
		UNIT_EQ(sched_pick(c, 2, SCHED_EXPRESS, 100, false, -1), -1);
		UNIT_EQ(sched_pick(c, 2, SCHED_AGAIN, 100, false, -1), -1);
		UNIT_EQ(sched_pick(c, 2, SCHED_BULK, 100, false, -1), 1);
	}
	UNIT_CASE("and does not wait when there is none, or the copy is on it") {
		UNIT_EQ(sched_pick(c + 1, 1, SCHED_EXPRESS, 100, false, -1), 0);
		UNIT_EQ(sched_pick(c, 2, SCHED_EXPRESS, 100, false, 0), 1);
	}
	UNIT_CASE("nothing is put behind what is late on a slow path; on the best there is no better place") {
		other[1] = c[1];
		other[1].held_up = true;
		UNIT_EQ(sched_pick(other, 2, SCHED_BULK, 100, false, -1), -1);
		UNIT_EQ(sched_pick(other + 1, 1, SCHED_BULK, 100, false, -1), 0);
	}
}

int main(void)
{
	check_situations();
	check_later();
	check_spread();
	check_delivery();
	check_soon();
	check_random();
	return unit_exit();
}
