/* What a path is measured to deliver: one engine, with stripes whose figures are made by hand. It is looked at from
 * within, since what comes of it (what bulk may have under way, how long young flows' turns are) tells much later.
 */
#include "../../common/core/session_internal.h"
#include "../unit/unit.h"

enum { STRIPES = 2, SECOND = 1000000, STEP_US = 10000, RTT_US = 20000, MSS = 1000 };

/* Of each stripe, while it works: 1 MB/s. */
enum { STEP_SEGMENTS = 10, RATE_BPS = 1000000 };

struct rig {
	struct session *session;
	struct stripe *stripes[STRIPES];
	uint64_t now_us;
	uint64_t delivered[STRIPES]; /* segments */
	uint32_t mss, srtt_us;
	unsigned stale, back; /* events */
};

static void on_flow(void *user, struct flow *flow)
{
}

static void on_result(void *user, struct flow *flow, enum open_status status)
{
}

static void on_ended(void *user, struct flow *flow, enum reset_reason reason)
{
}

static void on_output(void *user, struct stripe *stripe)
{
	stripe_output_consume(stripe, stripe->output_bytes);
}

static void on_measure(void *user, struct stripe *stripe)
{
	const struct rig *rig = user;
	struct stripe_info info = {.srtt_us = rig->srtt_us,
	                           .rtt_min_us = RTT_US,
	                           .mss_bytes = rig->mss,
	                           .in_flight_bytes = 20 * MSS,
	                           .under_way_bytes = 20 * MSS,
	                           .rate_Bps = RATE_BPS,
	                           .delivered = rig->delivered[stripe->index],
	                           .sent_segments = 100000};

	session_stripe_info(stripe, &info, 100000, rig->now_us);
}

static void on_event(void *user, const struct session_event_info *info)
{
	struct rig *rig = user;

	rig->stale += info->event == SESSION_STRIPE_STALE;
	rig->back += info->event == SESSION_STRIPE_BACK;
}

static const struct session_ops ops = {on_result, on_flow, on_flow, on_flow, on_ended, on_output, on_measure, on_event};

static void dial(struct rig *rig)
{
	for (unsigned i = 0; i < STRIPES; i++) {
		struct hello hello = {.index = (uint16_t)i, .stripes = STRIPES, .reinject_percent = 100};
		rig->stripes[i] = session_stripe_accepted(rig->session, &hello, rig, rig->now_us);
	}
}

static void start(struct rig *rig)
{
	struct session_config config = {.role = SESSION_SERVER,
	                                .limits = {.flows = 10,
	                                           .flow_window_bytes = 1 << 20,
	                                           .memory_bytes = 16 << 20,
	                                           .timeout_us = 60 * SECOND}};

	*rig = (struct rig){.now_us = SECOND, .mss = MSS, .srtt_us = RTT_US};
	rig->session = session_new(&config, &ops, rig, rig->now_us);
	dial(rig);
}

/* The first `working` stripes deliver. */
static void run(struct rig *rig, uint64_t for_us, unsigned working)
{
	for (uint64_t end_us = rig->now_us + for_us; rig->now_us < end_us;) {
		rig->now_us += STEP_US;
		for (unsigned i = 0; i < working; i++)
			rig->delivered[i] += STEP_SEGMENTS;
		session_run(rig->session, rig->now_us);
	}
}

int main(void)
{
	struct rig rig;

	UNIT_CASE("a path is measured to deliver what its stripes do") {
		start(&rig);
		run(&rig, 5 * SECOND, STRIPES);
		UNIT_EQ(rig.session->most_Bps, STRIPES * RATE_BPS);
		session_free(rig.session);
	}
	UNIT_CASE("a stripe that was stale for a while and works again does not make it faster") {
		start(&rig);
		run(&rig, 5 * SECOND, STRIPES);
		run(&rig, SECOND, STRIPES - 1);
		UNIT_EQ(rig.stale, 1);
		run(&rig, SECOND, STRIPES);
		UNIT_EQ(rig.back, 1);
		UNIT_EQ(rig.session->most_Bps, STRIPES * RATE_BPS);
		session_free(rig.session);
	}
	UNIT_CASE("nor do segments that have become larger") {
		start(&rig);
		run(&rig, 5 * SECOND, STRIPES);
		rig.mss = 2 * MSS;
		run(&rig, SECOND, STRIPES);
		UNIT_EQ(rig.session->most_Bps, 2 * STRIPES * RATE_BPS);
		session_free(rig.session);
	}
	UNIT_CASE("once a queue was seen, no more stripes carry bulk than have four segments each of what the path "
	          "holds") {
		start(&rig);
		const struct path_queue *queue = &rig.session->paths[0].queue;
		run(&rig, 5 * SECOND, STRIPES);
		UNIT_EQ(queue->enough_stripes, 0);
		rig.srtt_us = 2 * RTT_US;
		run(&rig, SECOND, STRIPES);
		/* An RTT, an eighth of it and a millisecond of what is delivered. */
		UNIT_EQ(queue->limit_bytes, 23500ull * STRIPES * RATE_BPS / SECOND);
		UNIT_EQ(queue->enough_stripes, queue->limit_bytes / (4 * MSS));
		UNIT_EQ(queue_stripes(&rig.session->paths[0], rig.now_us),
		        FRAME_STRIPES_MAX); /* bulk was not held back */
		rig.session->paths[0].queue.held_us = rig.now_us;
		UNIT_EQ(queue_stripes(&rig.session->paths[0], rig.now_us), queue->enough_stripes);
		session_free(rig.session);
	}
	UNIT_CASE("a path that lost all its stripes is measured anew") {
		start(&rig);
		run(&rig, 5 * SECOND, STRIPES);
		for (unsigned i = 0; i < STRIPES; i++)
			session_stripe_lost(rig.stripes[i], rig.now_us);
		run(&rig, SECOND, 0);
		dial(&rig);
		UNIT_EQ(rig.session->paths[0].queue.most_Bps, 0);
		run(&rig, SECOND, 1);
		UNIT_EQ(rig.session->most_Bps, RATE_BPS);
		session_free(rig.session);
	}
	return unit_exit();
}
