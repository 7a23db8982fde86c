/* plan: which flows the soak makes. Flow `index` of a seed is always the same one, whatever became of those before it.
 */
#ifndef PAIR_SOAK_PLAN_H
#define PAIR_SOAK_PLAN_H

#include "flow_end.h"

enum plan_kind {
	PLAN_REQUEST,  /* asks, takes the answer; the server ends first */
	PLAN_UPLOAD,   /* sends, half-closes; the server then answers shortly */
	PLAN_DOWNLOAD, /* half-closes at once, takes */
	PLAN_BOTH,     /* both ways at the same time */
	PLAN_BULK,     /* some MB, one way or both */
	PLAN_CHAT,     /* pieces, each after the answer to the one before it, with short pauses */
	PLAN_IDLE,     /* a piece, seconds of silence, another piece */
	PLAN_SLOW,     /* a download that is read slowly */
	PLAN_ABORT,    /* the client resets in the middle */
	PLAN_LEAVE,    /* the client closes in the middle of a download */
	PLAN_CRASH,    /* the server resets in the middle */
	PLAN_REFUSED,  /* to a port where nobody listens */
	PLAN_KINDS
};

struct plan_flow {
	enum plan_kind kind;
	uint32_t pause_ms; /* after the start of the flow before it */
	struct flow_work client, server;
};

/* idle_max_ms: the longest silence of a PLAN_IDLE flow. */
void plan_make(struct plan_flow *flow, uint64_t seed, uint32_t index, double flows_per_s, uint32_t idle_max_ms);
const char *plan_kind_name(enum plan_kind kind);

/* What the client's head tells the server: FLOW_HEAD_BYTES, filled up with blanks, a line feed at the end. */
void plan_head_write(char head[FLOW_HEAD_BYTES], uint32_t id, const struct plan_flow *flow);
/* Whether it is one; then *id, flow->kind and flow->server are set. */
bool plan_head_read(const char head[FLOW_HEAD_BYTES], uint32_t *id, struct plan_flow *flow);

#endif
