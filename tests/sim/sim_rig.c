#include "sim_rig.h"

#include "../../common/core/memory.h"
#include "../unit/unit.h"

static void on_result(void *user, struct flow *flow, enum open_status status)
{
	struct rig *rig = user;

	(void)flow;
	rig->results++;
	rig->status = status;
}

static void on_open(void *user, struct flow *flow)
{
	struct rig *rig = user;

	rig->flow = flow;
	flow->user = rig;
	if (rig->refuses)
		flow_connected(flow, OPEN_REFUSED);
}

static void on_readable(void *user, struct flow *flow)
{
	const struct rig *rig = user;
	struct iovec slices[4];
	unsigned count;

	if (rig->holds)
		return;
	while ((count = flow_peek(flow, slices, 4)) > 0)
		for (unsigned i = 0; i < count; i++)
			flow_consume(flow, slices[i].iov_len);
	if (flow_at_end(flow))
		flow_end_taken(flow);
}

static void on_writable(void *user, struct flow *flow)
{
	(void)user;
	(void)flow;
}

static void on_ended(void *user, struct flow *flow, enum reset_reason reason)
{
	struct rig *rig = user;

	(void)flow;
	rig->ended++;
	rig->reason = reason;
}

static void on_output(void *user, struct stripe *stripe)
{
	struct rig *rig = user;
	struct iovec slice;
	unsigned i = 0;

	while (rig->stripes[i] != stripe)
		i++;
	while (stripe_output_peek(stripe, &slice, 1)) {
		const uint8_t *at = slice.iov_base, *end = at + slice.iov_len;
		struct frame f;
		while (frame_reader_next(&rig->readers[i], &at, end, &f) == 1) {
			rig->sent[f.type]++;
			if (f.type == FRAME_OPEN_RESULT)
				rig->statuses[f.result.status]++;
			rig->fins += f.type == FRAME_DATA && f.flags & FRAME_FLAG_FIN;
			if (f.type == FRAME_OPEN)
				rig->open_payload = rig->readers[i].payload_left;
		}
		stripe_output_consume(stripe, slice.iov_len);
	}
}

static void on_measure(void *user, struct stripe *stripe)
{
	struct rig *rig = user;
	struct stripe_info info = {.srtt_us = 20000, .rate_Bps = 1000000};

	session_stripe_info(stripe, &info, rig->full ? 0 : 100000, rig->now_us);
}

static void on_event(void *user, const struct session_event_info *info)
{
	(void)user;
	(void)info;
}

static const struct session_ops ops = {on_result, on_open,   on_readable, on_writable,
                                       on_ended,  on_output, on_measure,  on_event};

int rig_feed(struct rig *rig, unsigned i, const struct frame *f)
{
	uint8_t head[FRAME_HEAD_MAX];
	uint32_t len = frame_encode_head(head, f);

	return session_stripe_in(rig->stripes[i], head, len, rig->now_us);
}

void rig_feed_data(struct rig *rig, uint64_t offset, uint32_t len)
{
	uint8_t bytes[FRAME_HEAD_MAX + 16] = {0};
	uint32_t head_len = frame_encode_head(
	        bytes, &(struct frame){.type = FRAME_DATA, .flow = 1, .offset = offset, .payload_len = len});

	UNIT_EQ(session_stripe_in(rig->stripes[0], bytes, head_len + len, rig->now_us), 0);
}

void rig_run(struct rig *rig, uint64_t for_us)
{
	for (uint64_t end_us = rig->now_us + for_us; rig->now_us <= end_us; rig->now_us += RIG_STEP_US)
		session_run(rig->session, rig->now_us);
}

void rig_dial(struct rig *rig, unsigned i)
{
	struct hello hello = {.path = 0, .index = (uint16_t)i, .stripes = RIG_STRIPES, .reinject_percent = 100};

	frame_reader_init(&rig->readers[i]);
	rig->stripes[i] = session_stripe_dialled(rig->session, &hello, rig, rig->now_us);
	session_run(rig->session, rig->now_us);
}

void rig_start_with(struct rig *rig, enum session_role role, unsigned stripes, uint64_t memory_bytes)
{
	struct session_config config = {.role = role,
	                                .limits = {.flows = 1000,
	                                           .flow_window_bytes = 1 << 20,
	                                           .memory_bytes = memory_bytes,
	                                           .timeout_us = 60 * RIG_SECOND}};

	*rig = (struct rig){.now_us = RIG_SECOND};
	rig->session = session_new(&config, &ops, rig, rig->now_us);
	for (unsigned i = 0; i < stripes; i++) {
		struct hello hello = {.path = 0, .index = (uint16_t)i, .stripes = RIG_STRIPES, .reinject_percent = 100};
		if (role == SESSION_SERVER) {
			frame_reader_init(&rig->readers[i]);
			rig->stripes[i] = session_stripe_accepted(rig->session, &hello, rig, rig->now_us);
		} else {
			rig_dial(rig, i);
			rig_feed(rig, i, &(struct frame){.type = FRAME_WELCOME});
		}
	}
	rig_run(rig, RIG_STEP_US);
}

void rig_start(struct rig *rig, enum session_role role, unsigned stripes)
{
	rig_start_with(rig, role, stripes, 16 << 20);
}

struct frame rig_open_frame(uint32_t id)
{
	return (struct frame){.type = FRAME_OPEN,
	                      .flow = id,
	                      .open = {.syn = {.src = {.family = ADDR_IPV4, .port = 1},
	                                       .dst = {.family = ADDR_IPV4, .port = 80},
	                                       .window_scale = 7},
	                               .window_edge = FRAME_FIRST_WINDOW_BYTES}};
}

void rig_serve_flow(struct rig *rig)
{
	struct frame open = rig_open_frame(1);

	UNIT_EQ(rig_feed(rig, 0, &open), 0);
	rig_run(rig, RIG_STEP_US);
	flow_connected(rig->flow, OPEN_CONNECTED);
}

struct flow *rig_open_flow(struct rig *rig)
{
	struct frame f = rig_open_frame(1);
	struct flow *flow = session_open(rig->session, &f.open.syn, rig, rig->now_us);

	rig_run(rig, RIG_STEP_US);
	return flow;
}

struct flow *rig_connected_flow(struct rig *rig)
{
	struct flow *flow = rig_open_flow(rig);
	struct frame f = {.type = FRAME_OPEN_RESULT, .result.window_edge = FRAME_FIRST_WINDOW_BYTES};

	if (!flow)
		return NULL;
	f.flow = flow->id;
	rig_feed(rig, 0, &f);
	rig_run(rig, RIG_STEP_US);
	return flow;
}

struct flow *rig_half_closed_flow(struct rig *rig)
{
	struct flow *flow = rig_connected_flow(rig);

	flow_end(flow);
	rig_run(rig, RIG_STEP_US);
	return flow;
}

void rig_stop(struct rig *rig)
{
	session_free(rig->session);
	UNIT_EQ(memory_live(), 0);
}
