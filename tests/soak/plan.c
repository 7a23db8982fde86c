#include "plan.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "content.h"

enum { KB = 1000, MB = 1000000, CLIENT_KEY = 1, SERVER_KEY = 2 };

static const struct {
	const char *name;
	unsigned weight; /* of 1000 */
} kinds[PLAN_KINDS] = {
        [PLAN_REQUEST] = {"request", 540}, [PLAN_UPLOAD] = {"upload", 100}, [PLAN_DOWNLOAD] = {"download", 100},
        [PLAN_BOTH] = {"both", 50},        [PLAN_BULK] = {"bulk", 15},      [PLAN_CHAT] = {"chat", 50},
        [PLAN_IDLE] = {"idle", 40},        [PLAN_SLOW] = {"slow", 25},      [PLAN_ABORT] = {"abort", 30},
        [PLAN_LEAVE] = {"leave", 20},      [PLAN_CRASH] = {"crash", 20},    [PLAN_REFUSED] = {"refused", 10},
};

const char *plan_kind_name(enum plan_kind kind)
{
	return kinds[kind].name;
}

/* --- Numbers ------------------------------------------------------------------------------------------------------ */

static uint64_t draw(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return content_mix(*state);
}

/* From 0 to just below 1. */
static double draw_part(uint64_t *state)
{
	return (double)(draw(state) >> 11) / 9007199254740992.;
}

/* From `low` to `high`, each power of ten as often as the others. */
static uint64_t draw_size(uint64_t *state, double low, double high)
{
	return (uint64_t)(low * pow(high / low, draw_part(state)));
}

static enum plan_kind draw_kind(uint64_t *state)
{
	unsigned at = (unsigned)(draw_part(state) * 1000), kind = 0;

	while (kind + 1 < PLAN_KINDS && at >= kinds[kind].weight)
		at -= kinds[kind++].weight;
	return (enum plan_kind)kind;
}

/* --- Flows -------------------------------------------------------------------------------------------------------- */

/* What the server does is decided by what the client does, and by what is to be sent. */
static void set_sizes(struct plan_flow *flow, uint64_t up_bytes, uint64_t down_bytes)
{
	flow->client.send_bytes = flow->server.receive_bytes = up_bytes;
	flow->client.receive_bytes = flow->server.send_bytes = down_bytes;
}

static void make_talk(struct plan_flow *flow, uint64_t pieces, uint64_t piece_bytes, uint64_t pause_ms)
{
	set_sizes(flow, pieces * piece_bytes, pieces * piece_bytes);
	flow->client.start = FLOW_ASKS;
	flow->client.piece_bytes = (uint32_t)piece_bytes;
	flow->client.piece_pause_ms = (uint32_t)pause_ms;
	flow->server.start = FLOW_ANSWERS;
}

static void make_kind(struct plan_flow *flow, uint64_t *state, uint32_t idle_max_ms)
{
	uint64_t whole;

	switch (flow->kind) {
	case PLAN_REQUEST:
		set_sizes(flow, draw_size(state, 1, 500), draw_size(state, 100, 100 * KB));
		flow->server.start = FLOW_AFTER_BYTES;
		flow->client.ends_last = true;
		break;
	case PLAN_UPLOAD:
		set_sizes(flow, draw_size(state, 10 * KB, 2 * MB), 64);
		flow->server.start = FLOW_AFTER_END;
		break;
	case PLAN_DOWNLOAD:
		set_sizes(flow, 0, draw_size(state, 10 * KB, 2 * MB));
		break;
	case PLAN_BOTH:
		set_sizes(flow, draw_size(state, 20 * KB, MB), draw_size(state, 20 * KB, MB));
		break;
	case PLAN_BULK:
		whole = 1 + draw(state) % 3;
		set_sizes(flow, whole & 1 ? draw_size(state, 2 * MB, 8 * MB) : 0,
		          whole & 2 ? draw_size(state, 2 * MB, 8 * MB) : 0);
		break;
	case PLAN_CHAT:
		make_talk(flow, draw_size(state, 5, 50), draw_size(state, 1, 300), draw_size(state, 10, 200));
		break;
	case PLAN_IDLE:
		make_talk(flow, 2 + draw(state) % 2, draw_size(state, 10, 5 * KB),
		          draw_size(state, idle_max_ms / 6, idle_max_ms));
		break;
	case PLAN_SLOW:
		set_sizes(flow, 0, draw_size(state, 100 * KB, 600 * KB));
		flow->client.read_bytes = 4 * KB;
		flow->client.read_pause_ms = (uint32_t)draw_size(state, 10, 100);
		break;
	case PLAN_ABORT:
	case PLAN_CRASH:
		set_sizes(flow, draw_size(state, KB, 2 * MB), draw_size(state, KB, 2 * MB));
		whole = flow->client.send_bytes + flow->client.receive_bytes;
		*(flow->kind == PLAN_ABORT ? &flow->client.break_at : &flow->server.break_at) =
		        (uint64_t)((double)whole * 0.9 * draw_part(state));
		/* Whoever breaks it keeps the other side from ending in order before. */
		flow->client.ends_last = flow->kind == PLAN_ABORT;
		flow->server.ends_last = flow->kind == PLAN_CRASH;
		break;
	case PLAN_LEAVE:
		set_sizes(flow, 0, draw_size(state, 100 * KB, 2 * MB));
		flow->client.break_at = (uint64_t)((double)flow->client.receive_bytes * 0.7 * draw_part(state));
		flow->client.breaks_by_close = true;
		break;
	case PLAN_REFUSED:
	case PLAN_KINDS:
		set_sizes(flow, 100, 100);
		break;
	}
}

void plan_make(struct plan_flow *flow, uint64_t seed, uint32_t index, double flows_per_s, uint32_t idle_max_ms)
{
	uint64_t state = content_mix(seed) ^ content_mix(UINT64_C(0xf10e) + index), key;

	*flow = (struct plan_flow){.client.break_at = FLOW_NEVER, .server.break_at = FLOW_NEVER};
	key = draw(&state);
	flow->client.send_key = flow->server.receive_key = key + CLIENT_KEY;
	flow->client.receive_key = flow->server.send_key = key + SERVER_KEY;
	flow->pause_ms = (uint32_t)(-log(1 - draw_part(&state)) * 1000 / flows_per_s);
	flow->kind = draw_kind(&state);
	make_kind(flow, &state, idle_max_ms);
}

/* --- Heads -------------------------------------------------------------------------------------------------------- */

void plan_head_write(char head[FLOW_HEAD_BYTES], uint32_t id, const struct plan_flow *flow)
{
	const struct flow_work *work = &flow->server;
	char text[FLOW_HEAD_BYTES + 1];
	int len = snprintf(text, sizeof text, "SOAK %" PRIx32 " %x %x %d %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64,
	                   id, flow->kind, work->start, work->ends_last, work->send_key, work->send_bytes,
	                   work->receive_bytes, work->break_at);

	memset(text + len, ' ', sizeof text - (size_t)len);
	text[FLOW_HEAD_BYTES - 1] = '\n';
	memcpy(head, text, FLOW_HEAD_BYTES);
}

bool plan_head_read(const char head[FLOW_HEAD_BYTES], uint32_t *id, struct plan_flow *flow)
{
	struct flow_work work = {0};
	char text[FLOW_HEAD_BYTES + 1];
	unsigned kind, start;
	int ends_last;

	memcpy(text, head, FLOW_HEAD_BYTES);
	text[FLOW_HEAD_BYTES] = '\0';
	if (text[FLOW_HEAD_BYTES - 1] != '\n' ||
	    sscanf(text, "SOAK %" SCNx32 " %x %x %d %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, id, &kind, &start,
	           &ends_last, &work.send_key, &work.send_bytes, &work.receive_bytes, &work.break_at) != 8 ||
	    kind >= PLAN_KINDS || start > FLOW_ANSWERS)
		return false;
	work.receive_key = work.send_key - SERVER_KEY + CLIENT_KEY;
	work.start = (enum flow_start)start;
	work.ends_last = ends_last != 0;
	flow->kind = (enum plan_kind)kind;
	flow->server = work;
	return true;
}
