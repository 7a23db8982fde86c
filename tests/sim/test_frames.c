/* One engine, with frames made by hand: what another engine does not send, and what gets lost in between. */
#include <string.h>

#include "../../common/core/memory.h"
#include "../../common/core/session.h"
#include "../unit/unit.h"
#include "sim_rig.h"

/* --- Answers that are lost ----------------------------------------------------------------------------------------*/

static void check_lost_answers(void)
{
	struct rig rig;

	for (unsigned stripes = 1; stripes <= RIG_STRIPES; stripes++)
		UNIT_CASE("the last ack is lost with its stripe, %u others stay: the end is asked for again", stripes) {
			rig_start(&rig, SESSION_CLIENT, stripes);
			rig_half_closed_flow(&rig);
			UNIT_TRUE(rig.fins >= 1);
			rig_feed(&rig, 0, &(struct frame){.type = FRAME_DATA, .flow = 1, .flags = FRAME_FLAG_FIN});
			rig_run(&rig, 3 * RIG_SECOND);
			unsigned before = rig.fins;
			rig_run(&rig, 3 * RIG_SECOND);
			UNIT_TRUE(rig.fins > before);
			UNIT_EQ(rig.ended, 0);
			rig_feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
			rig_run(&rig, RIG_STEP_US);
			UNIT_EQ(rig.ended, 1);
			UNIT_EQ(rig.reason, RESET_NONE);
			rig_stop(&rig);
		}
	UNIT_CASE("the answer to OPEN is lost: OPEN is sent again") {
		rig_start(&rig, SESSION_CLIENT, 2);
		rig_open_flow(&rig);
		unsigned before = rig.sent[FRAME_OPEN];
		rig_run(&rig, 20 * RIG_SECOND);
		UNIT_TRUE(rig.sent[FRAME_OPEN] > before);
		UNIT_TRUE(rig.sent[FRAME_OPEN] <= before + 10);
		rig_feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
		rig_run(&rig, RIG_STEP_US);
		UNIT_EQ(rig.results, 1);
		UNIT_EQ(rig.status, OPEN_FAILED);
		rig_stop(&rig);
	}
}

static void check_first_data(void)
{
	struct rig rig;
	struct iovec slice;

	UNIT_CASE("what the application has said travels with OPEN, the rest and the end behind it") {
		struct frame f = rig_open_frame(1);
		rig_start(&rig, SESSION_CLIENT, 1);
		struct flow *flow = session_open(rig.session, &f.open.syn, &rig, rig.now_us);
		UNIT_EQ(flow_reserve(flow, 3000, &slice, 1), 1);
		flow_commit(flow, 3000);
		flow_end(flow);
		rig_run(&rig, RIG_STEP_US);
		UNIT_EQ(rig.sent[FRAME_OPEN], 1);
		UNIT_TRUE(rig.open_payload > 0);
		UNIT_TRUE(rig.open_payload < 3000);
		UNIT_EQ(rig.fins, 1);
		rig_feed(&rig, 0, &(struct frame){.type = FRAME_ACK, .flow = 1, .ack = {3001, 100000}});
		UNIT_TRUE(egress_done(&flow->egress));
		rig_stop(&rig);
	}
	UNIT_CASE("a client that says nothing first has an OPEN without payload") {
		rig_start(&rig, SESSION_CLIENT, 1);
		rig_open_flow(&rig);
		UNIT_EQ(rig.sent[FRAME_OPEN], 1);
		UNIT_EQ(rig.open_payload, 0);
		rig_stop(&rig);
	}
}

static void check_stripe_lost(void)
{
	enum { FLOWS = 50 };
	struct rig rig;

	UNIT_CASE("a stripe dies: only the answers that it carried go again") {
		rig_start(&rig, SESSION_SERVER, RIG_STRIPES);
		for (uint32_t id = 1; id <= FLOWS; id++) {
			struct frame f = rig_open_frame(id);
			rig_feed(&rig, 0, &f);
			rig_run(&rig, RIG_STEP_US);
			if (UNIT_TRUE(rig.flow && rig.flow->id == id))
				flow_connected(rig.flow, OPEN_CONNECTED);
			rig_run(&rig, RIG_STEP_US);
		}
		unsigned again = 0;
		for (unsigned i = 0; i < RIG_STRIPES - 1; i++) {
			unsigned before = rig.sent[FRAME_OPEN_RESULT];
			session_stripe_lost(rig.stripes[i], rig.now_us);
			rig_run(&rig, RIG_STEP_US);
			again += rig.sent[FRAME_OPEN_RESULT] > before;
			if (rig.sent[FRAME_OPEN_RESULT] > before)
				UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] - before >= FLOWS);
		}
		UNIT_TRUE(again < RIG_STRIPES - 1);
		UNIT_EQ(rig.sent[FRAME_ACK], 0);
		rig_stop(&rig);
	}
}

/* --- Calls and frames that cross ----------------------------------------------------------------------------------*/

static void check_crossing(void)
{
	struct rig rig;

	UNIT_CASE("RESET and the destination's refusal cross: the owner has had its last call") {
		rig_start(&rig, SESSION_SERVER, 1);
		struct frame f = rig_open_frame(1);
		rig_feed(&rig, 0, &f);
		rig_run(&rig, RIG_STEP_US);
		if (!UNIT_TRUE(rig.flow))
			break;
		rig_feed(&rig, 0, &(struct frame){.type = FRAME_RESET, .flow = 1, .reason = RESET_BY_APP});
		flow_connected(rig.flow, OPEN_REFUSED);
		rig_run(&rig, RIG_STEP_US);
		UNIT_EQ(rig.ended, 0);
		rig_stop(&rig);
	}
}

/* --- What breaks the rules ----------------------------------------------------------------------------------------*/

static void check_many_answers(void)
{
	enum { MANY = 900, TOO_MANY = 2500 };
	struct rig rig;

	UNIT_CASE("many refusals at once, no stripe has room: none is lost, and later data is answered") {
		rig_start_with(&rig, SESSION_SERVER, 2, 64 << 20);
		rig.refuses = rig.full = true;
		for (uint32_t id = 1; id <= MANY; id++) {
			struct frame f = rig_open_frame(id);
			rig_feed(&rig, id % 2, &f);
			session_run(rig.session, rig.now_us);
			/* What travels behind the OPEN, on the way already. */
			f = (struct frame){.type = FRAME_DATA, .flow = id, .flags = FRAME_FLAG_FIN};
			rig_feed(&rig, id % 2, &f);
		}
		rig_run(&rig, RIG_SECOND);
		UNIT_EQ(rig.sent[FRAME_OPEN_RESULT], 0);
		rig.full = false;
		rig_run(&rig, RIG_SECOND);
		UNIT_TRUE(rig.statuses[OPEN_REFUSED] >= MANY); /* copies go as well */
		UNIT_EQ(rig.statuses[OPEN_REFUSED], rig.sent[FRAME_OPEN_RESULT]);
		UNIT_EQ(rig.sent[FRAME_GONE], 0);
		struct session_stats stats;
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.flows, 0);
		UNIT_EQ(stats.promised_bytes, 0);
		unsigned before = rig.sent[FRAME_OPEN_RESULT];
		rig_feed(&rig, 0, &(struct frame){.type = FRAME_DATA, .flow = MANY, .flags = FRAME_FLAG_FIN});
		rig_run(&rig, RIG_STEP_US);
		UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] > before);
		UNIT_EQ(rig.statuses[OPEN_REFUSED], rig.sent[FRAME_OPEN_RESULT]);
		rig_stop(&rig);
	}
	UNIT_CASE("more OPENs over the limit than answers are kept: those without one are answered when asked again") {
		rig_start(&rig, SESSION_SERVER, 2);
		session_goaway(rig.session, rig.now_us);
		rig.full = true;
		for (uint32_t id = 1; id <= TOO_MANY; id++) {
			struct frame f = rig_open_frame(id);
			rig_feed(&rig, id % 2, &f);
		}
		rig_run(&rig, RIG_SECOND);
		rig.full = false;
		rig_run(&rig, RIG_SECOND);
		unsigned answered = rig.statuses[OPEN_LIMIT];
		UNIT_TRUE(answered > 0);
		UNIT_EQ(answered, rig.sent[FRAME_OPEN_RESULT]);
		for (uint32_t id = 1; id <= TOO_MANY; id++) {
			struct frame f = rig_open_frame(id);
			rig_feed(&rig, id % 2, &f);
			rig_run(&rig, RIG_STEP_US);
		}
		/* Of the last ones it is still known why. */
		UNIT_EQ(rig.statuses[OPEN_LIMIT], rig.sent[FRAME_OPEN_RESULT]);
		UNIT_TRUE(rig.sent[FRAME_OPEN_RESULT] > answered);
		UNIT_TRUE(rig.sent[FRAME_GONE] > 0 && rig.sent[FRAME_GONE] < TOO_MANY);
		UNIT_TRUE(rig.sent[FRAME_GONE] + rig.sent[FRAME_OPEN_RESULT] >= TOO_MANY + answered);
		rig_stop(&rig);
	}
}

static void check_gone_first(void)
{
	struct rig rig;

	for (unsigned fin = 0; fin < 2; fin++)
		UNIT_CASE("refused, but GONE comes first: a failure, never an end in order%s",
		          fin ? ", all being said" : "") {
			rig_start(&rig, SESSION_CLIENT, 2);
			struct flow *flow = rig_open_flow(&rig);
			struct iovec slice;
			if (!UNIT_TRUE(flow_reserve(flow, 10, &slice, 1)))
				break;
			memset(slice.iov_base, 'x', 10);
			flow_commit(flow, 10);
			if (fin)
				flow_end(flow);
			rig_run(&rig, RIG_STEP_US);
			rig_feed(&rig, 0, &(struct frame){.type = FRAME_GONE, .flow = 1});
			rig_feed(&rig, 1,
			         &(struct frame){.type = FRAME_OPEN_RESULT, .flow = 1, .result.status = OPEN_REFUSED});
			rig_feed(&rig, 1, &(struct frame){.type = FRAME_GONE, .flow = 1});
			rig_run(&rig, RIG_STEP_US);
			UNIT_EQ(rig.results, 1);
			UNIT_EQ(rig.status, OPEN_FAILED);
			UNIT_EQ(rig.ended, 0);
			rig_stop(&rig);
		}
}

static void check_scattered(void)
{
	enum { PIECES = 5000 };
	struct rig rig;

	UNIT_CASE(
	        "bytes too scattered to be kept account of are not acknowledged, and are taken when they come again") {
		struct session_stats stats;

		rig_start_with(&rig, SESSION_SERVER, 1, 1 << 20);
		rig_serve_flow(&rig);
		for (uint32_t i = 1; i <= PIECES; i++)
			rig_feed_data(&rig, 2 * i, 1);
		rig_run(&rig, RIG_STEP_US);
		session_get_stats(rig.session, &stats);
		UNIT_TRUE(stats.account_bytes <= (1 << 20) / 8);
		UNIT_TRUE(stats.dropped_bytes > 0 && stats.dropped_bytes < PIECES);
		for (uint32_t i = 0; i <= PIECES; i++)
			rig_feed_data(&rig, 2 * i, 2);
		rig_run(&rig, RIG_STEP_US);
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.bytes_in, 2 * PIECES + 2);
		UNIT_TRUE(stats.account_bytes <= 1024);
		UNIT_EQ(rig.ended, 0);
		rig_stop(&rig);
	}
}

static void check_rules(void)
{
	struct rig rig;

	UNIT_CASE("DATA instead of WELCOME is refused, also when its payload would go right into its place") {
		rig_start(&rig, SESSION_CLIENT, 1);
		rig_open_flow(&rig);
		rig_dial(&rig, 1);
		rig_feed(&rig, 1, &(struct frame){.type = FRAME_DATA, .flow = 1, .payload_len = 100});
		struct iovec slices[4];
		size_t bytes;
		UNIT_EQ(session_stripe_place(rig.stripes[1], slices, 4, &bytes), 0);
		UNIT_TRUE(session_stripe_in(rig.stripes[1], (const uint8_t *)"x", 1, rig.now_us) < 0);
		rig_stop(&rig);
	}
}

static void check_hash(void)
{
	enum { FLOWS = 1000 };
	struct session_stats stats;
	struct rig rig;

	UNIT_CASE("ids in steps are as good as any") {
		rig_start_with(&rig, SESSION_SERVER, 1, 256 << 20);
		for (uint32_t id = 1; id <= 65536 * (FLOWS - 1); id += 65536)
			rig_feed(&rig, 0, (struct frame[]){rig_open_frame(id)});
		session_get_stats(rig.session, &stats);
		UNIT_EQ(stats.flows, FLOWS - 1);
		rig_stop(&rig);
	}
	UNIT_CASE("ids picked to fall together are refused before each frame has hundreds to go along") {
		rig_start_with(&rig, SESSION_SERVER, 1, 256 << 20);
		for (uint32_t id = 1, count = 0; count < FLOWS; id++)
			if (id * 2654435769u < 1 << 22) { /* those of the first of 1024 buckets */
				rig_feed(&rig, 0, (struct frame[]){rig_open_frame(id)});
				count++;
			}
		session_get_stats(rig.session, &stats);
		UNIT_TRUE(stats.flows < FLOWS / 4);
		rig_stop(&rig);
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
		rig_start_with(&rig, SESSION_CLIENT, 1, 1 << 20);
		for (unsigned i = 0; i < FLOWS; i++)
			flows[i] = rig_connected_flow(&rig);
		for (unsigned i = 0; i < FLOWS && UNIT_TRUE(flows[i]); i++) {
			fill(flows[i]);
			UNIT_TRUE(flows[i]->egress.end >= PAGE_BYTES);
		}
		rig_stop(&rig);
	}
	UNIT_CASE("egress memory: a flow may fill the page it has when there is no other") {
		rig_start_with(&rig, SESSION_CLIENT, 1, 1 << 20);
		struct flow *small = rig_connected_flow(&rig), *large = rig_connected_flow(&rig);
		struct iovec slice;
		UNIT_EQ(flow_reserve(small, 1, &slice, 1), 1);
		flow_commit(small, 1);
		fill(large);
		while (small->egress.end < PAGE_BYTES && UNIT_EQ(flow_reserve(small, 100, &slice, 1), 1))
			flow_commit(small, slice.iov_len);
		rig_stop(&rig);
	}
	UNIT_CASE("flows that are being reset keep no window from others") {
		rig_start(&rig, SESSION_CLIENT, 1);
		for (unsigned i = 0; i < 100; i++) {
			struct flow *flow = rig_connected_flow(&rig);
			if (UNIT_TRUE(flow))
				flow_reset(flow, RESET_BY_APP);
		}
		struct flow *flow = rig_connected_flow(&rig);
		if (UNIT_TRUE(flow))
			UNIT_TRUE(flow->ingress.edge > FRAME_FIRST_WINDOW_BYTES);
		rig_stop(&rig);
	}
	UNIT_CASE("what the application takes after the end came is not acknowledged again") {
		rig_start(&rig, SESSION_CLIENT, 1);
		rig.holds = true;
		struct flow *flow = rig_connected_flow(&rig);
		uint8_t head[FRAME_HEAD_MAX], bytes[1000] = {0};
		uint32_t len = frame_encode_head(head, &(struct frame){.type = FRAME_DATA,
		                                                       .flags = FRAME_FLAG_FIN,
		                                                       .flow = flow->id,
		                                                       .payload_len = sizeof bytes});
		session_stripe_in(rig.stripes[0], head, len, rig.now_us);
		session_stripe_in(rig.stripes[0], bytes, sizeof bytes, rig.now_us);
		rig_run(&rig, RIG_STEP_US);
		unsigned acks = rig.sent[FRAME_ACK];
		UNIT_TRUE(acks >= 1);
		for (unsigned i = 0; i < 10; i++) {
			flow_consume(flow, sizeof bytes / 10);
			rig_run(&rig, RIG_STEP_US);
		}
		UNIT_EQ(rig.sent[FRAME_ACK], acks);
		rig_stop(&rig);
	}
}

static void check_given_up(void)
{
	/* Else what the far end sends on would be answered as if the flow had ended in order. */
	UNIT_CASE("nothing is heard for longer than the timeout, though the stripes are up: they close") {
		struct rig rig;
		rig_start(&rig, SESSION_SERVER, 2);
		rig_serve_flow(&rig);
		rig_feed_data(&rig, 0, 10);
		rig_run(&rig, 30 * (uint64_t)RIG_SECOND);
		UNIT_TRUE(!rig.ended && !rig.stripes[0]->error);
		rig_run(&rig, 50 * (uint64_t)RIG_SECOND);
		UNIT_EQ(rig.ended, 1);
		UNIT_EQ(rig.reason, RESET_SESSION);
		for (unsigned i = 0; i < 2; i++)
			UNIT_TRUE(rig.stripes[i]->error);
		rig_stop(&rig);
	}
}

/* As a proxy does: nothing is run before the engine says. */
static void check_ack_delay(void)
{
	UNIT_CASE("an idle receiver acknowledges within 5 ms") {
		struct rig rig;
		rig_start(&rig, SESSION_SERVER, 1);
		rig_serve_flow(&rig);
		rig_run(&rig, 3 * (uint64_t)RIG_SECOND);
		unsigned acks = rig.sent[FRAME_ACK];
		rig_feed_data(&rig, 0, 10);
		session_run(rig.session, rig.now_us);
		uint64_t came_us = rig.now_us;
		while (rig.sent[FRAME_ACK] == acks && rig.now_us < came_us + RIG_SECOND) {
			rig.now_us = session_next_us(rig.session);
			session_run(rig.session, rig.now_us);
		}
		UNIT_EQ(rig.now_us - came_us, 5000);
		rig_stop(&rig);
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
	check_given_up();
	check_ack_delay();
	return unit_exit();
}
