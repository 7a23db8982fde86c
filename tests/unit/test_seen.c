/* Which flow ids were seen, against a model that remembers every one: an engine without a stripe, from within. */
#include "../../common/core/session_internal.h"
#include "unit.h"
#include "unit_random.h"

enum { IDS = 1 << 21, STEPS = 500, PROBES = 300 };

static bool model[IDS];

/* Whether the engine says of ids around the last one what the model says. */
static bool agrees(const struct session *session, uint32_t last, uint64_t *seed)
{
	for (unsigned i = 0; i < PROBES; i++) {
		uint32_t back = (uint32_t)unit_below(seed, i % 2 ? 2 * SEEN_IDS : 200);
		uint32_t id = back < last ? last - back : last + 1 + back;
		bool seen = id <= last && (last - id >= SEEN_IDS || model[id]);
		if (session_has_seen(session, id) == seen)
			continue;
		UNIT_FAIL("id %u, last %u: it is %s", id, last, seen ? "not seen" : "seen");
		return false;
	}
	return true;
}

int main(void)
{
	static const uint32_t jumps[] = {1, 2, 63, 64, 65, 1000, SEEN_IDS - 1, SEEN_IDS, SEEN_IDS + 1, 3 * SEEN_IDS};
	struct session_config config = {.role = SESSION_SERVER, .limits = {.flows = 1, .memory_bytes = 1 << 20}};
	uint64_t seed = 1;

	UNIT_CASE("ids in any steps: those marked are seen, and all that are too old; no others") {
		static const struct session_ops ops;
		struct session *session = session_new(&config, &ops, NULL, 1);
		uint32_t last = 0;
		for (unsigned step = 0; step < STEPS && last < IDS - 4 * SEEN_IDS; step++) {
			uint32_t id = last + 1 + (uint32_t)unit_below(&seed, 300);
			if (step % 8 == 0)
				id = last + jumps[unit_below(&seed, sizeof jumps / sizeof jumps[0])];
			if (step % 8 == 1 && last > 100)
				id = last - (uint32_t)unit_below(&seed, 100);
			session_mark_seen(session, id);
			model[id] = true;
			last = id > last ? id : last;
			if (!agrees(session, last, &seed))
				break;
		}
		UNIT_TRUE(last > 10 * SEEN_IDS);
		session_free(session);
	}
	return unit_exit();
}
