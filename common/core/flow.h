/* flow: one proxied TCP connection, at either proxy. Owns its egress and its ingress.
 *
 *   client role (tx_proxy)              server role (rx_proxy)
 *   FLOW_OPENING   OPEN sent            FLOW_CONNECTING  OPEN came, the destination is being connected
 *          └──────────── OPEN_RESULT: connected ────────────┘
 *                                       FLOW_REFUSED     it did not: OPEN_RESULT is to be sent, then the flow ends
 *   FLOW_OPEN      both directions work, or one has ended (half-close)
 *   FLOW_RESETTING RESET is to be sent or was sent; waits for GONE
 *   FLOW_ENDED     nothing more to do; freed by the next session_run
 *
 * The owner of the flow (common/io/app_io) calls the flow_… functions below with the application's socket at hand, and
 * is called back through struct session_ops (session.h), never from inside one of these functions. A flow is its
 * owner's until one of: flow_ended or flow_result with a failure was called back, flow_reset or flow_connected with a
 * failure was called. After that the owner must not use it again, and gets no callback.
 */
#ifndef PAIR_CORE_FLOW_H
#define PAIR_CORE_FLOW_H

#include "egress.h"
#include "frame.h"
#include "ingress.h"

/* Lists of the session's that a flow may be in. */
enum {
	LINK_BUSY,    /* it waits for the other side: looked at in each tick */
	LINK_STARVED, /* it waits for memory for the application's bytes */
	LINK_OWED,    /* it waits for the best path: with lost or left bytes, which hold up others, or with new ones */
	LINK_PARITY,  /* its block is over, or it pauses: rows of parity are to be sent */
	LINK_BLOCK,   /* it receives a block */
	FLOW_LINKS
};

struct flow_link {
	struct flow *next, *prev;
	bool in;
};

/* What a flow has sent with parity to follow (session_block.c). */
struct flow_block {
	struct page *page; /* the sums; NULL: no block has begun */
	uint64_t number;   /* ≥ 1, of the session's blocks; what stripes carry of it is counted under it */
	uint64_t start;    /* offset of its first byte */
	uint32_t len;      /* bytes so far */
	bool over;         /* no more will come */
	bool fin;          /* the direction ends with it */
	uint8_t rows_sent;
	uint64_t due_us; /* when the rows are to be sent, unless more bytes come */
};

enum flow_state { FLOW_OPENING, FLOW_CONNECTING, FLOW_REFUSED, FLOW_OPEN, FLOW_RESETTING, FLOW_ENDED };

enum { FLOW_OPENS_MAX = 3 };

struct session;

struct flow {
	struct session *session;
	struct flow *hash_next;
	struct flow_link links[FLOW_LINKS];
	void *user; /* the owner's; NULL: it has gone */
	uint32_t id;
	enum flow_state state;
	enum reset_reason reason;     /* why it ended; RESET_NONE: both directions ended in order */
	enum open_status open_status; /* valid from FLOW_OPEN on, or with event RESULT */
	struct syn syn;
	struct egress egress;
	struct ingress ingress;

	/* control frames to be sent (session_control.c clears, the others set) */
	uint8_t control; /* FLOW_CONTROL_… */
	/* callbacks to be made (session.c clears) */
	uint8_t events; /* FLOW_EVENT_… */

	struct flow *control_next, *control_prev; /* in the session's list of flows with control ≠ 0 */
	struct flow *event_next;                  /* in the session's list of flows with events ≠ 0 */
	struct flow *turn_next, *turn_prev;       /* in one of the session's lists of flows with something to send */
	uint8_t turn_list;                        /* 0: in none */
	int32_t turn_bytes;                       /* what is left of its turn (deficit round robin) */

	uint32_t open_stripes[FLOW_OPENS_MAX]; /* stripes that OPEN was sent on: until its result is here, DATA must
	                             follow on one of them */
	uint64_t asked_us;     /* when OPEN or RESET went out last, to be repeated until answered; 0: not yet */
	int32_t express_bytes; /* what it may still send as a small flow; full again when little is in flight */
	int32_t young_bytes;   /* and as one that may be done in one turn, */
	bool in_young_turn;    /* which it is in, or was until its application paused */

	/* How fast it sends new bytes, for what is put ahead of its turn on slow paths: since when without a pause,
	 * what was measured (0: nothing yet), what was sent since rate_us, and when a slow path last asked for bytes
	 * ahead. */
	uint64_t busy_us, rate_Bps, rate_bytes, rate_us, ahead_us;
	bool held_up; /* what is to be repeated goes before new bytes */
	struct flow_block block;

	uint32_t window_bytes;   /* wish for the ingress window, grown by measurement: */
	uint64_t round_us;       /* since when the application takes bytes is measured, */
	uint64_t round_offset;   /* and from which on */
	uint64_t promised_bytes; /* of the session's ingress memory, see session_window.c */
	uint32_t result_stripe;  /* id of the stripe that OPEN_RESULT was sent on last; 0: none */
	uint32_t ack_stripe;     /* and of ACK's */
	uint64_t acked;          /* data ack last sent */
	uint64_t ack_due_us;     /* when an ack must go at the latest; 0: none is owed */
	struct flow *ack_next, *ack_prev;
	uint8_t resets_sent;
	bool readable_told; /* flow_readable was called and not all was taken since */
	bool app_waits;     /* the owner found no room: gets flow_writable when there is some */
};

enum { FLOW_CONTROL_OPEN = 1, FLOW_CONTROL_RESULT = 2, FLOW_CONTROL_ACK = 4, FLOW_CONTROL_RESET = 8 };

enum {
	FLOW_EVENT_OPEN = 1,   /* server role: a new flow */
	FLOW_EVENT_RESULT = 2, /* client role: OPEN_RESULT came */
	FLOW_EVENT_READABLE = 4,
	FLOW_EVENT_WRITABLE = 8,
	FLOW_EVENT_ENDED = 16
};

/* --- From the application's socket to the stripes ---------------------------------------------------------------- */

/* Free space for at most `len` bytes of the application's, as up to `max` slices. Returns the number of slices; 0: no
 * room now (window, or memory): stop reading, flow_writable comes. Every call that returned > 0 must be followed by
 * flow_commit. */
unsigned flow_reserve(struct flow *flow, size_t len, struct iovec *slices, unsigned max);
/* `len` bytes (may be 0) were put into the slices, in order. */
void flow_commit(struct flow *flow, size_t len);
/* The application has ended its direction (EOF). At most once, after the last commit. */
void flow_end(struct flow *flow);

/* --- From the stripes to the application's socket ---------------------------------------------------------------- */

/* Bytes in order for the application, as up to `max` slices; 0: none now. */
unsigned flow_peek(const struct flow *flow, struct iovec *slices, unsigned max);
/* The application took `len` bytes of them. */
void flow_consume(struct flow *flow, size_t len);
/* All bytes were taken and the other side has ended: shut the socket's sending side down, then flow_end_taken once. */
bool flow_at_end(const struct flow *flow);
void flow_end_taken(struct flow *flow);

/* --- Both -------------------------------------------------------------------------------------------------------- */

/* The application's socket failed, or the owner gives the flow up: the other side resets its socket. Not RESET_NONE.
 * The flow is no longer the owner's: no callback follows. */
void flow_reset(struct flow *flow, enum reset_reason reason);

/* Server role, state FLOW_CONNECTING: what the destination answered. Anything but OPEN_CONNECTED ends the flow and
 * takes it from its owner, as flow_reset does. */
void flow_connected(struct flow *flow, enum open_status status);

#endif
