/* One engine, with frames made by hand: what another engine does not send, and what gets lost in between. */
#include <string.h>

#include "../../common/core/memory.h"
#include "../../common/core/session.h"
#include "../unit/unit.h"

enum { STRIPES = 3, SECOND = 1000000, STEP_US = 10000, FRAME_TYPES = 16 };

/* The engine, and what it put out and called. */
struct rig {
	struct session *session;
	struct stripe *stripes[STRIPES]; /* NULL: lost */
	struct frame_reader readers[STRIPES];
	uint64_t now_us;
	unsigned sent[FRAME_TYPES]; /* frames by type */
	unsigned fins;              /* DATA with FIN */
	uint32_t open_payload;      /* bytes that the last OPEN announced behind it */
	struct flow *flow;          /* the last one opened */
	unsigned results, ended;
	bool holds;                           /* the application takes nothing */
	bool refuses;                         /* the destination */
	bool full;                            /* no stripe has room */
	unsigned statuses[OPEN_STATUS_COUNT]; /* of OPEN_RESULTs sent */
	enum open_status status;
	enum reset_reason reason;
};

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

static int feed(struct rig *rig, unsigned i, const struct frame *f)
{
	uint8_t head[FRAME_HEAD_MAX];
	uint32_t len = frame_encode_head(head, f);

	return session_stripe_in(rig->stripes[i], head, len, rig->now_us);
}

/* Of flow 1. */
static void feed_data(struct rig *rig, uint64_t offset, uint32_t len)
{
	uint8_t bytes[FRAME_HEAD_MAX + 16] = {0};
	uint32_t head_len = frame_encode_head(
	        bytes, &(struct frame){.type = FRAME_DATA, .flow = 1, .offset = offset, .payload_len = len});

	UNIT_EQ(session_stripe_in(rig->stripes[0], bytes, head_len + len, rig->now_us), 0);
}

static void run(struct rig *rig, uint64_t for_us)
{
	for (uint64_t end_us = rig->now_us + for_us; rig->now_us <= end_us; rig->now_us += STEP_US)
		session_run(rig->session, rig->now_us);
}

static void dial(struct rig *rig, unsigned i)
{
	struct hello hello = {.path = 0, .index = (uint16_t)i, .stripes = STRIPES, .reinject_percent = 100};

	frame_reader_init(&rig->readers[i]);
	rig->stripes[i] = session_stripe_dialled(rig->session, &hello, rig, rig->now_us);
	session_run(rig->session, rig->now_us);
}

static void start_with(struct rig *rig, enum session_role role, unsigned stripes, uint64_t memory_bytes)
{
	struct session_config config = {.role = role,
	                                .limits = {.flows = 1000,
	                                           .flow_window_bytes = 1 << 20,
	                                           .memory_bytes = memory_bytes,
	                                           .timeout_us = 60 * SECOND}};

	*rig = (struct rig){.now_us = SECOND};
	rig->session = session_new(&config, &ops, rig, rig->now_us);
	for (unsigned i = 0; i < stripes; i++) {
		struct hello hello = {.path = 0, .index = (uint16_t)i, .stripes = STRIPES, .reinject_percent = 100};
		if (role == SESSION_SERVER) {
			frame_reader_init(&rig->readers[i]);
			rig->stripes[i] = session_stripe_accepted(rig->session, &hello, rig, rig->now_us);
		} else {
			dial(rig, i);
			feed(rig, i, &(struct frame){.type = FRAME_WELCOME});
		}
	}
	run(rig, STEP_US);
}

static void start(struct rig *rig, enum session_role role, unsigned stripes)
{
	start_with(rig, role, stripes, 16 << 20);
}

static struct frame open_frame(uint32_t id)
{
	return (struct frame){.type = FRAME_OPEN,
	                      .flow = id,
	                      .open = {.syn = {.src = {.family = ADDR_IPV4, .port = 1},
	                                       .dst = {.family = ADDR_IPV4, .port = 80},
	                                       .window_scale = 7},
	                               .window_edge = FRAME_FIRST_WINDOW_BYTES}};
}

static struct flow *open_flow(struct rig *rig)
{
	struct frame f = open_frame(1);
	struct flow *flow = session_open(rig->session, &f.open.syn, rig, rig->now_us);

	run(rig, STEP_US);
	return flow;
}

static struct flow *connected_flow(struct rig *rig)
{
	struct flow *flow = open_flow(rig);
	struct frame f = {.type = FRAME_OPEN_RESULT, .result.window_edge = FRAME_FIRST_WINDOW_BYTES};

	if (!flow)
		return NULL;
	f.flow = flow->id;
	feed(rig, 0, &f);
	run(rig, STEP_US);
	return flow;
}

/* A flow of the client's that is open, and has ended towards the server. */
static struct flow *half_closed_flow(struct rig *rig)
{
	struct flow *flow = connected_flow(rig);

	flow_end(flow);
	run(rig, STEP_US);
	return flow;
}

static void stop(struct rig *rig)
{
	session_free(rig->session);
	UNIT_EQ(memory_live(), 0);
}

/* --- Answers that are lost ----------------------------------------------------------------------------------------*/

static void check_lost_answers(void)
{
	struct rig rig;

	for (unsigned stripes = 1; stripes <= STRIPES; stripes++)
		UNIT_CASE("the last ack is lost with its stripe, %u others stay: the end is asked for again", stripes) {
			start(&rig, SESSION_CLIENT, stripes);
			half_closed_flow(&rig);
			UNIT_TRUE(rig.fins >= 1);
			feed(&rig, 0, &(struct frame){.type = FRAME_DATA, .flow = 1, .flags = FRAME_FLAG_FIN});
			run(&rig, 3 * SECOND);
			unsigned before = rig.fins;
			run(&rig, 3 * SECOND);
			UNIT_TRUE(rig.fins > before);
			UNIT_EQ(rig.ended, 0);
			feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
			run(&rig, STEP_US);
			UNIT_EQ(rig.ended, 1);
			UNIT_EQ(rig.reason, RESET_NONE);
			stop(&rig);
		}
	UNIT_CASE("the answer to OPEN is lost: OPEN is sent again") {
		start(&rig, SESSION_CLIENT, 2);
		open_flow(&rig);
		unsigned before = rig.sent[FRAME_OPEN];
		run(&rig, 20 * SECOND);
		UNIT_TRUE(rig.sent[FRAME_OPEN] > before);
		UNIT_TRUE(rig.sent[FRAME_OPEN] <= before + 10);
		feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
		run(&rig, STEP_US);
		UNIT_EQ(rig.results, 1);
		UNIT_EQ(rig.status, OPEN_FAILED);
		stop(&rig);
	}
}

static void check_first_data(void)
{
	struct rig rig;
	struct iovec slice;

	UNIT_CASE("what the application has said travels with OPEN, the rest and the end behind it") {
		struct frame f = open_frame(1);
		start(&rig, SESSION_CLIENT, 1);
		struct flow *flow = session_open(rig.session, &f.open.syn, &rig, rig.now_us);
		UNIT_EQ(flow_reserve(flow, 3000, &slice, 1), 1);
		flow_commit(flow, 3000);
		flow_end(flow);
		run(&rig, STEP_US);
		UNIT_EQ(rig.sent[FRAME_OPEN], 1);
		UNIT_TRUE(rig.open_payload > 0);
		UNIT_TRUE(rig.open_payload < 3000);
		UNIT_EQ(rig.fins, 1);
		feed(&rig, 0, &(struct frame){.type = FRAME_ACK, .flow = 1, .ack = {3001, 100000}});
		UNIT_TRUE(egress_done(&flow->egress));
		stop(&rig);
	}
	UNIT_CASE("a client that says nothing first has an OPEN without payload") {
		start(&rig, SESSION_CLIENT, 1);
		open_flow(&rig);
		UNIT_EQ(rig.sent[FRAME_OPEN], 1);
		UNIT_EQ(rig.open_payload, 0);
		stop(&rig);
	}
}

static void check_stripe_lost(void)
{
	enum { FLOWS = 50 };
	struct rig rig;

	UNIT_CASE("a stripe dies: only the answers that it carried go again") {
		start(&rig, SESSION_SERVER, STRIPES);
		for (uint32_t id = 1; id <= FLOWS; id++) {
			struct frame f = open_frame(id);
			feed(&rig, 0, &f);
			run(&rig, STEP_US);
			if (UNIT_TRUE(rig.flow && rig.flow->id == id))
				flow_connected(rig.flow, OPEN_CONNECTED);
			run(&rig, STEP_US);
		}
		unsigned again = 0;
		for (unsigned i = 0; i < STRIPES - 1; i++) {
			unsigned before = rig.sent[FRAME_OPEN_RESULT];
			session_stripe_lost(rig.stripes[i], rig.now_us);
			run(&rig, STEP_US);
			again += rig.sent[FRAME_OPEN_RESULT] > before;
			if (rig.sent[FRAME_OPEN_RESULT] > before)
				UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] - before >= FLOWS);
		}
		UNIT_TRUE(again < STRIPES - 1);
		UNIT_EQ(rig.sent[FRAME_ACK], 0);
		stop(&rig);
	}
}

/* --- Calls and frames that cross ----------------------------------------------------------------------------------*/

static void check_crossing(void)
{
	struct rig rig;

	UNIT_CASE("RESET and the destination's refusal cross: the owner has had its last call") {
		start(&rig, SESSION_SERVER, 1);
		struct frame f = open_frame(1);
		feed(&rig, 0, &f);
		run(&rig, STEP_US);
		if (!UNIT_TRUE(rig.flow))
			break;
		feed(&rig, 0, &(struct frame){.type = FRAME_RESET, .flow = 1, .reason = RESET_BY_APP});
		flow_connected(rig.flow, OPEN_REFUSED);
		run(&rig, STEP_US);
		UNIT_EQ(rig.ended, 0);
		stop(&rig);
	}
}

/* --- What breaks the rules ----------------------------------------------------------------------------------------*/

static void check_many_answers(void)
{
	enum { MANY = 900, TOO_MANY = 2500 };
	struct rig rig;

	UNIT_CASE("many refusals at once, no stripe has room: none is lost, and later data is answered") {
		start_with(&rig, SESSION_SERVER, 2, 64 << 20);
		rig.refuses = rig.full = true;
		for (uint32_t id = 1; id <= MANY; id++) {
			struct frame f = open_frame(id);
			feed(&rig, id % 2, &f);
			session_run(rig.session, rig.now_us);
			/* What travels behind the OPEN, on the way already. */
			f = (struct frame){.type = FRAME_DATA, .flow = id, .flags = FRAME_FLAG_FIN};
			feed(&rig, id % 2, &f);
		}
		run(&rig, SECOND);
		UNIT_EQ(rig.sent[FRAME_OPEN_RESULT], 0);
		rig.full = false;
		run(&rig, SECOND);
		UNIT_TRUE(rig.statuses[OPEN_REFUSED] >= MANY); /* copies go as well */
		UNIT_EQ(rig.statuses[OPEN_REFUSED], rig.sent[FRAME_OPEN_RESULT]);
		UNIT_EQ(rig.sent[FRAME_GONE], 0);
		struct session_stats stats;
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.flows, 0);
		UNIT_EQ(stats.promised_bytes, 0);
		unsigned before = rig.sent[FRAME_OPEN_RESULT];
		feed(&rig, 0, &(struct frame){.type = FRAME_DATA, .flow = MANY, .flags = FRAME_FLAG_FIN});
		run(&rig, STEP_US);
		UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] > before);
		UNIT_EQ(rig.statuses[OPEN_REFUSED], rig.sent[FRAME_OPEN_RESULT]);
		stop(&rig);
	}
	UNIT_CASE("more OPENs over the limit than answers are kept: those without one are answered when asked again") {
		start(&rig, SESSION_SERVER, 2);
		session_goaway(rig.session, rig.now_us);
		rig.full = true;
		for (uint32_t id = 1; id <= TOO_MANY; id++) {
			struct frame f = open_frame(id);
			feed(&rig, id % 2, &f);
		}
		run(&rig, SECOND);
		rig.full = false;
		run(&rig, SECOND);
		unsigned answered = rig.statuses[OPEN_LIMIT];
		UNIT_TRUE(answered > 0);
		UNIT_EQ(answered, rig.sent[FRAME_OPEN_RESULT]);
		for (uint32_t id = 1; id <= TOO_MANY; id++) {
			struct frame f = open_frame(id);
			feed(&rig, id % 2, &f);
			run(&rig, STEP_US);
		}
		/* Of the last ones it is still known why. */
		UNIT_EQ(rig.statuses[OPEN_LIMIT], rig.sent[FRAME_OPEN_RESULT]);
		UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] > answered);
		UNIT_TRUE(rig.sent[FRAME_GONE] > 0 && rig.sent[FRAME_GONE] < TOO_MANY);
		UNIT_TRUE(rig.sent[FRAME_GONE] + rig.sent[FRAME_OPEN_RESULT] >= TOO_MANY + answered);
		stop(&rig);
	}
}

static void check_gone_first(void)
{
	struct rig rig;

	for (unsigned fin = 0; fin < 2; fin++)
		UNIT_CASE("refused, but GONE comes first: a failure, never an end in order%s",
		          fin ? ", all being said" : "") {
			start(&rig, SESSION_CLIENT, 2);
			struct flow *flow = open_flow(&rig);
			struct iovec slice;
			if (!UNIT_TRUE(flow_reserve(flow, 10, &slice, 1)))
				break;
			memset(slice.iov_base, 'x', 10);
			flow_commit(flow, 10);
			if (fin)
				flow_end(flow);
			run(&rig, STEP_US);
			feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
			feed(&rig, 1,
			     &(struct frame){.type = FRAME_OPEN_RESULT, .flow = 1, .result.status = OPEN_REFUSED});
			feed(&rig, 1, &(struct frame){.type = FRAME_GONE, .flow = 1});
			run(&rig, STEP_US);
			UNIT_EQ(rig.results, 1);
			UNIT_EQ(rig.status, OPEN_FAILED);
			UNIT_EQ(rig.ended, 0);
			stop(&rig);
		}
}

static void check_scattered(void)
{
	enum { PIECES = 5000 };
	struct rig rig;

	UNIT_CASE(
	        "bytes too scattered to be kept account of are not acknowledged, and are taken when they come again") {
		struct session_stats stats;
		struct frame f = open_frame(1);

		start_with(&rig, SESSION_SERVER, 1, 1 << 20);
		feed(&rig, 0, &f);
		run(&rig, STEP_US);
		flow_connected(rig.flow, OPEN_CONNECTED);
		for (uint32_t i = 1; i <= PIECES; i++)
			feed_data(&rig, 2 * i, 1);
		run(&rig, STEP_US);
		session_get_stats(rig.session, &stats);
		UNIT_TRUE(stats.account_bytes <= (1 << 20) / 8);
		UNIT_TRUE(stats.dropped_bytes > 0 && stats.dropped_bytes < PIECES);
		for (uint32_t i = 0; i <= PIECES; i++)
			feed_data(&rig, 2 * i, 2);
		run(&rig, STEP_US);
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.bytes_in, 2 * PIECES + 2);
		UNIT_TRUE(stats.account_bytes <= 1024);
		UNIT_EQ(rig.ended, 0);
		stop(&rig);
	}
}

static void check_rules(void)
{
	struct rig rig;

	UNIT_CASE("DATA instead of WELCOME is refused, also when its payload would go right into its place") {
		start(&rig, SESSION_CLIENT, 1);
		open_flow(&rig);
		dial(&rig, 1);
		feed(&rig, 1, &(struct frame){.type = FRAME_DATA, .flow = 1, .payload_len = 100});
		struct iovec slices[4];
		size_t bytes;
		UNIT_EQ(session_stripe_place(rig.stripes[1], slices, 4, &bytes), 0);
		UNIT_TRUE(session_stripe_in(rig.stripes[1], (const uint8_t *)"x", 1, rig.now_us) < 0);
		stop(&rig);
	}
}

static void check_hash(void)
{
	enum { FLOWS = 1000 };
	struct session_stats stats;
	struct rig rig;

	UNIT_CASE("ids in steps are as good as any") {
		start_with(&rig, SESSION_SERVER, 1, 256 << 20);
		for (uint32_t id = 1; id <= 65536 * (FLOWS - 1); id += 65536)
			feed(&rig, 0, (struct frame[]){open_frame(id)});
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.flows, FLOWS - 1);
		stop(&rig);
	}
	UNIT_CASE("ids picked to fall together are refused before each frame has hundreds to go along") {
		start_with(&rig, SESSION_SERVER, 1, 256 << 20);
		for (uint32_t id = 1, count = 0; count < FLOWS; id++)
			if (id * 2654435769u < 1 << 22) { /* those of the first of 1024 buckets */
				feed(&rig, 0, (struct frame[]){open_frame(id)});
				count++;
			}
		session_get_stats(rig.session, &stats);
		UNIT_TRUE(stats.flows < FLOWS / 4);
		stop(&rig);
	}
}

/* --- Memory and windows -------------------------------------------------------------------------------------------*/

/* All that it may have. */
static void fill(struct flow *flow)
{
	struct iovec slices[8];
	unsigned count;

	while ((count = flow_reserve(flow, PAGE_BYTES * 8, slices, 8)) > 0) {
		size_t len = 0;
		for (unsigned i = 0; i < count; i++)
			len += slices[i].iov_len;
		flow_commit(flow, len);
	}
}

static void check_shares(void)
{
	struct rig rig;

	UNIT_CASE("egress memory: every flow gets a page, however much those before it wanted") {
		enum { FLOWS = 9 };
		struct flow *flows[FLOWS];
		start_with(&rig, SESSION_CLIENT, 1, 1 << 20);
		for (unsigned i = 0; i < FLOWS; i++)
			flows[i] = connected_flow(&rig);
		for (unsigned i = 0; i < FLOWS && UNIT_TRUE(flows[i]); i++) {
			fill(flows[i]);
			UNIT_TRUE(flows[i]->egress.end >= PAGE_BYTES);
		}
		stop(&rig);
	}
	UNIT_CASE("egress memory: a flow may fill the page it has when there is no other") {
		start_with(&rig, SESSION_CLIENT, 1, 1 << 20);
		struct flow *small = connected_flow(&rig), *large = connected_flow(&rig);
		struct iovec slice;
		UNIT_EQ(flow_reserve(small, 1, &slice, 1), 1);
		flow_commit(small, 1);
		fill(large);
		while (small->egress.end < PAGE_BYTES && UNIT_EQ(flow_reserve(small, 100, &slice, 1), 1))
			flow_commit(small, slice.iov_len);
		stop(&rig);
	}
	UNIT_CASE("flows that are being reset keep no window from others") {
		start(&rig, SESSION_CLIENT, 1);
		for (unsigned i = 0; i < 100; i++) {
			struct flow *flow = connected_flow(&rig);
			if (UNIT_TRUE(flow))
				flow_reset(flow, RESET_BY_APP);
		}
		struct flow *flow = connected_flow(&rig);
		if (UNIT_TRUE(flow))
			UNIT_TRUE(flow->ingress.edge > FRAME_FIRST_WINDOW_BYTES);
		stop(&rig);
	}
	UNIT_CASE("what the application takes after the end came is not acknowledged again") {
		start(&rig, SESSION_CLIENT, 1);
		rig.holds = true;
		struct flow *flow = connected_flow(&rig);
		uint8_t head[FRAME_HEAD_MAX], bytes[1000] = {0};
		uint32_t len = frame_encode_head(head, &(struct frame){.type = FRAME_DATA,
		                                                       .flags = FRAME_FLAG_FIN,
		                                                       .flow = flow->id,
		                                                       .payload_len = sizeof bytes});
		session_stripe_in(rig.stripes[0], head, len, rig.now_us);
		session_stripe_in(rig.stripes[0], bytes, sizeof bytes, rig.now_us);
		run(&rig, STEP_US);
		unsigned acks = rig.sent[FRAME_ACK];
		UNIT_TRUE(acks >= 1);
		for (unsigned i = 0; i < 10; i++) {
			flow_consume(flow, sizeof bytes / 10);
			run(&rig, STEP_US);
		}
		UNIT_EQ(rig.sent[FRAME_ACK], acks);
		stop(&rig);
	}
}

int main(void)
{
	check_shares();
	check_lost_answers();
	check_first_data();
	check_stripe_lost();
	check_crossing();
	check_many_answers();
	check_gone_first();
	check_scattered();
	check_rules();
	check_hash();
	return unit_exit();
}
