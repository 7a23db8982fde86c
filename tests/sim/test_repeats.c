/* What is late is repeated in room that nothing new wants: one engine, with stripes whose figures are made by hand. */
#include <string.h>

#include "../../common/core/session.h"
#include "../unit/unit.h"

enum { STRIPES = 2, SECOND = 1000000, STEP_US = 10000, ROOM_BYTES = 6000, SRTT_US = 20000 };

struct rig {
	struct session *session;
	struct stripe *stripes[STRIPES];
	struct frame_reader readers[STRIPES];
	uint64_t now_us;
	uint32_t room_bytes[STRIPES]; /* of this step */
	uint64_t payload[3][STRIPES]; /* by flow and stripe */
	const struct stripe *silent;  /* the other kernel acknowledges nothing of it from then on */
	uint32_t silent_bytes;        /* that it carries */
};

static void on_result(void *user, struct flow *flow, enum open_status status)
{
}

static void on_flow(void *user, struct flow *flow)
{
}

static void on_ended(void *user, struct flow *flow, enum reset_reason reason)
{
}

static void on_event(void *user, const struct session_event_info *info)
{
}

static unsigned index_of(const struct rig *rig, const struct stripe *stripe)
{
	return rig->stripes[0] == stripe ? 0 : 1;
}

static void on_output(void *user, struct stripe *stripe)
{
	struct rig *rig = user;
	unsigned i = index_of(rig, stripe);
	struct iovec slice;

	while (stripe_output_peek(stripe, &slice, 1)) {
		const uint8_t *at = slice.iov_base, *end = at + slice.iov_len;
		struct frame f;
		while (frame_reader_next(&rig->readers[i], &at, end, &f) == 1)
			if (f.type == FRAME_DATA && f.flow < 3)
				rig->payload[f.flow][i] += f.payload_len;
		uint32_t room = rig->room_bytes[i];
		rig->room_bytes[i] = room > slice.iov_len ? room - (uint32_t)slice.iov_len : 0;
		if (stripe == rig->silent)
			rig->silent_bytes += (uint32_t)slice.iov_len;
		stripe_output_consume(stripe, slice.iov_len);
	}
}

static void on_measure(void *user, struct stripe *stripe)
{
	struct rig *rig = user;
	/* So many segments without a loss: copies are not worth it. */
	struct stripe_info info = {.srtt_us = SRTT_US, .rate_Bps = 1000000, .sent_segments = 100000};
	uint32_t room = rig->room_bytes[index_of(rig, stripe)];

	if (stripe == rig->silent)
		info.in_flight_bytes = rig->silent_bytes;
	info.arrived_bytes = stripe->traffic.bytes_out - info.in_flight_bytes;
	info.delivered = info.arrived_bytes;
	session_stripe_info(stripe, &info, room > stripe->output_bytes ? room - (uint32_t)stripe->output_bytes : 0,
	                    rig->now_us);
}

static const struct session_ops ops = {on_result, on_flow, on_flow, on_flow, on_ended, on_output, on_measure, on_event};

static void feed(struct rig *rig, unsigned i, const struct frame *f)
{
	uint8_t head[FRAME_HEAD_MAX];

	UNIT_EQ(session_stripe_in(rig->stripes[i], head, frame_encode_head(head, f), rig->now_us), 0);
}

static void step(struct rig *rig)
{
	for (unsigned i = 0; i < STRIPES; i++)
		rig->room_bytes[i] = ROOM_BYTES;
	rig->now_us += STEP_US;
	session_run(rig->session, rig->now_us);
}

static void start(struct rig *rig, uint8_t percent)
{
	struct session_config config = {.role = SESSION_CLIENT,
	                                .limits = {.flows = 10,
	                                           .flow_window_bytes = 1 << 20,
	                                           .memory_bytes = 16 << 20,
	                                           .timeout_us = 60 * SECOND}};

	*rig = (struct rig){.now_us = SECOND};
	rig->session = session_new(&config, &ops, rig, rig->now_us);
	for (unsigned i = 0; i < STRIPES; i++) {
		struct hello hello = {.index = (uint16_t)i, .stripes = STRIPES, .reinject_percent = percent};
		frame_reader_init(&rig->readers[i]);
		rig->stripes[i] = session_stripe_dialled(rig->session, &hello, rig, rig->now_us);
		session_run(rig->session, rig->now_us);
		feed(rig, i, &(struct frame){.type = FRAME_WELCOME});
	}
	for (unsigned i = 0; i < 5; i++)
		step(rig);
}

static struct flow *open_flow(struct rig *rig)
{
	struct syn syn = {.src = {.family = ADDR_IPV4, .port = 1}, .dst = {.family = ADDR_IPV4, .port = 80}};
	struct flow *flow = session_open(rig->session, &syn, rig, rig->now_us);
	struct frame f = {.type = FRAME_OPEN_RESULT, .flow = flow->id, .result.window_edge = 1 << 20};

	step(rig);
	feed(rig, 0, &f);
	step(rig);
	return flow;
}

static void put_in(struct flow *flow, size_t len)
{
	struct iovec slices[16];

	while (len) {
		unsigned count = flow_reserve(flow, len, slices, 16);
		size_t got = 0;
		if (!UNIT_TRUE(count))
			return;
		for (unsigned i = 0; i < count; i++) {
			memset(slices[i].iov_base, 'x', slices[i].iov_len);
			got += slices[i].iov_len;
		}
		flow_commit(flow, got < len ? got : len);
		len -= got < len ? got : len;
	}
}

/* Flow 1's only bytes, on a stripe that falls silent with them; the other one is free. */
static struct flow *late_flow(struct rig *rig, uint8_t percent)
{
	start(rig, percent);
	struct flow *flow = open_flow(rig);
	put_in(flow, 1000);
	step(rig);
	UNIT_EQ(rig->payload[1][0] + rig->payload[1][1], 1000);
	rig->silent = rig->stripes[rig->payload[1][0] ? 0 : 1];
	rig->silent_bytes = 1016;
	return flow;
}

int main(void)
{
	struct rig rig;
	struct session_stats stats;

	UNIT_CASE("the last bytes of a flow are late: once, after two round trips, they go on the other stripe") {
		late_flow(&rig, 100);
		step(&rig);
		step(&rig);
		UNIT_EQ(rig.payload[1][0] + rig.payload[1][1], 1000);
		for (unsigned i = 0; i < 15; i++)
			step(&rig);
		UNIT_EQ(rig.payload[1][0], 1000);
		UNIT_EQ(rig.payload[1][1], 1000);
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.repeated_bytes, 1016);
		UNIT_EQ(stats.reinjected_bytes, 0);
		session_free(rig.session);
	}
	UNIT_CASE("not while another flow has something new for that room") {
		late_flow(&rig, 100);
		struct flow *bulk = open_flow(&rig);
		put_in(bulk, 300000);
		for (unsigned i = 0; i < 12; i++)
			step(&rig);
		UNIT_TRUE(rig.payload[2][0] + rig.payload[2][1] > 50000);
		UNIT_TRUE(rig.payload[2][0] + rig.payload[2][1] < 300000);
		UNIT_EQ(rig.payload[1][0] + rig.payload[1][1], 1000);
		session_free(rig.session);
	}
	UNIT_CASE("nor without a budget; when the stripe dies, they go all the same") {
		late_flow(&rig, 0);
		for (unsigned i = 0; i < 15; i++)
			step(&rig);
		UNIT_EQ(rig.payload[1][0] + rig.payload[1][1], 1000);
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.repeated_bytes, 0);
		UNIT_EQ(stats.refused_bytes, 1016); /* counted once */
		session_stripe_lost(rig.stripes[index_of(&rig, rig.silent)], rig.now_us);
		step(&rig);
		UNIT_EQ(rig.payload[1][0] + rig.payload[1][1], 2000);
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.repeated_bytes, 0);
		UNIT_EQ(stats.reinjected_bytes, 1016);
		session_free(rig.session);
	}
	UNIT_CASE("bytes that travel with OPEN are due when those of any other frame were") {
		start(&rig, 100);
		struct syn syn = {.src = {.family = ADDR_IPV4, .port = 1}, .dst = {.family = ADDR_IPV4, .port = 80}};
		struct flow *flow = session_open(rig.session, &syn, &rig, rig.now_us);
		put_in(flow, 1000);
		step(&rig);
		if (UNIT_EQ(flow->egress.record_count, 1))
			UNIT_TRUE(egress_record_at(&flow->egress, 0)->due_us > rig.now_us);
		session_free(rig.session);
	}
	return unit_exit();
}
