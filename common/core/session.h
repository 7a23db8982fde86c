/* session: the engine. The association of one tx_proxy with one rx_proxy: all flows, all stripes, and every decision.
 *
 * No sockets, no clock, no logging: bytes and now_us (monotonic, µs, > 0, never going back) come in; frames go to the
 * stripes' outputs; what the owner must know goes through struct session_ops. One instance is one thread's; no globals.
 *
 * One round of the owner's loop:
 *     session_stripe_in(…) for what was read from stripes
 *     flow_…(…) for what happened on application sockets
 *     session_run(now_us): makes the callbacks, binds what is to be sent to stripes,
 *                          calls stripe_output for each stripe with something to write
 *     sleep until a socket is ready or session_next_us
 *
 * Callbacks are made from session_run only, so none of the calls above ever calls back; the one exception is `event`,
 * which only takes note (and, at SESSION_LOST, may call session_renew). A callback may call any flow_… function and
 * session_stripe_lost; none may call session_free or session_run. A flow's user pointer must not be NULL: the engine
 * takes NULL for "the owner has gone".
 *
 * Memory: limits.memory_bytes bounds the session: 7/16 of it for pages of egress, 7/16 for pages of ingress, a
 * sixteenth each for what keeps account of them. A flow that has no room for another record waits for
 * acknowledgements; bytes too scattered to be kept account of are not acknowledged, and come again. Ingress memory is
 * promised before it is advertised as a window, so what may arrive always has room; egress memory is taken when the
 * application's bytes are read, and when it ends reading stops.
 */
#ifndef PAIR_CORE_SESSION_H
#define PAIR_CORE_SESSION_H

#include "flow.h"
#include "stripe.h"

enum session_role {
	SESSION_CLIENT, /* tx_proxy: dials stripes, opens flows */
	SESSION_SERVER  /* rx_proxy */
};

enum session_event {
	SESSION_UP,      /* the first stripe is up */
	SESSION_DOWN,    /* no stripe is up; flows wait */
	SESSION_LOST,    /* down, or not answered, for longer than the timeout: every flow was reset, stripes close */
	SESSION_RENEWED, /* client: the other side restarted and knows nothing of before: every flow was reset */
	SESSION_GOAWAY,  /* the other side wants no new flows */
	SESSION_PATH_UP, /* `path`: its first stripe is up */
	SESSION_PATH_DOWN,
	SESSION_PATH_QUIET,  /* what it carries is not acknowledged: for longer than of late, */
	SESSION_PATH_SILENT, /* for longer than a round trip explains, and a second more while no flow is busy;
	                        `stripe` is one of its stripes in these three */
	SESSION_PATH_BACK,   /* was told to be silent, works again */
	SESSION_STRIPE_UP,   /* `stripe` is set in these */
	SESSION_STRIPE_STALE,
	SESSION_STRIPE_BACK, /* was stale, works again */
	SESSION_FLOW_BROKEN, /* the other side broke the rules of flow `flow`: it was reset; `text` tells how */
	SESSION_LIMIT        /* server: an OPEN was refused because of a limit */
};

struct session_event_info {
	enum session_event event;
	unsigned path;         /* for path and stripe events */
	struct stripe *stripe; /* or NULL */
	uint32_t flow;         /* id, or 0 */
	const char *text;      /* static, or NULL */
};

struct session_limits {
	uint32_t flows;             /* at once, ≥ 1 */
	uint64_t flow_window_bytes; /* the widest window of one flow's direction */
	uint64_t memory_bytes;      /* ≥ 1 MiB */
	uint64_t timeout_us;        /* how long flows outlive the last stripe */
};

struct session_ops {
	/* client: the destination's answer. OPEN_CONNECTED: attach the application. Else: the flow's last call. */
	void (*flow_result)(void *user, struct flow *flow, enum open_status status);
	/* server: a new flow. Connect to flow->syn.dst and call flow_connected, now or later. Set flow->user. */
	void (*flow_open)(void *user, struct flow *flow);
	/* there are bytes in order, or the end (flow_at_end). Not repeated until the owner has taken all of them. */
	void (*flow_readable)(void *user, struct flow *flow);
	/* flow_reserve gave nothing before; it may now. */
	void (*flow_writable)(void *user, struct flow *flow);
	/* the flow's last call. RESET_NONE: both directions ended and everything was acknowledged: close the socket in
	 * order. Else: reset it. */
	void (*flow_ended)(void *user, struct flow *flow, enum reset_reason reason);
	/* the stripe's output has something to write, or stripe->error was set: close it then. */
	void (*stripe_output)(void *user, struct stripe *stripe);
	/* fresh TCP_INFO, please: session_stripe_info is to be called from inside. Not called for dead stripes. */
	void (*stripe_measure)(void *user, struct stripe *stripe);
	void (*event)(void *user, const struct session_event_info *info);
};

struct session_config {
	enum session_role role;
	uint8_t id[FRAME_ID_BYTES];          /* random; client: its own; server: from HELLO */
	uint8_t incarnation[FRAME_ID_BYTES]; /* server: random, new for every session_new, and session_renew */
	struct session_limits limits;
};

struct session_stats {
	uint32_t flows; /* in the table, those being reset included */
	uint32_t stripes_up;
	uint64_t flows_opened, flows_ended, flows_reset;
	uint64_t bytes_in, bytes_out; /* application payload delivered / taken */
	/* Frames that went out again, as in struct stripe_traffic, and those that no budget allowed. */
	uint64_t copied_bytes, repeated_bytes, reinjected_bytes, refused_bytes;
	uint64_t duplicate_bytes;             /* payload that came again */
	uint64_t recovered_bytes;             /* payload that parity stood for */
	uint64_t dropped_bytes;               /* payload too scattered to be kept account of: it comes again */
	uint64_t egress_pages, ingress_pages; /* in use now, PAGE_BYTES each */
	uint64_t account_bytes; /* records, ranges, blocks now; at most an eighth of the memory, and a little
	                         * for each flow */
	uint64_t promised_bytes;
};

/* A path, with all stripes that it ever had. */
struct session_path_stats {
	unsigned stripes_up, stripes_stale; /* those up include stale ones */
	bool backup;
	unsigned reinject_percent;
	uint32_t srtt_us;  /* the lowest of its stripes; 0: not known */
	uint64_t rate_Bps; /* of all its stripes */
	struct stripe_traffic traffic;
	uint64_t refused_bytes; /* copies and repetitions that it had no budget for */
};

/* NULL when memory is short. The user pointer goes to every callback; the struct ops must outlive the session. */
struct session *session_new(const struct session_config *config, const struct session_ops *ops, void *user,
                            uint64_t now_us);
/* Every flow and stripe with it, without callbacks. */
void session_free(struct session *session);

/* --- Stripes ----------------------------------------------------------------------------------------------------- */

/* Client: the TCP connection for the stripe that `hello` describes is there (and authenticated): HELLO goes out, with
 * the session's own id in place of hello->session. NULL: no memory, or SESSION_STRIPES_MAX reached. */
struct stripe *session_stripe_dialled(struct session *session, const struct hello *hello, void *user, uint64_t now_us);
/* Server: `hello` came on a new connection: WELCOME goes out. NULL: as above. */
struct stripe *session_stripe_accepted(struct session *session, const struct hello *hello, void *user, uint64_t now_us);
enum { SESSION_STRIPES_MAX = 256, SESSION_PATHS_MAX = 16 };

/* Bytes from the stripe's socket, all taken; those of one whose error is set already count for nothing. 0, or -EPROTO:
 * what the other side said breaks the rules, or refuses us, and stripe->error tells how; close it (and call
 * session_stripe_lost). */
int session_stripe_in(struct stripe *stripe, const uint8_t *bytes, size_t len, uint64_t now_us);
/* Where the next bytes of the stripe belong, when the rest of a DATA payload is coming: up to `max` slices, *bytes gets
 * what they hold. 0: not known; read into a buffer. What is read into the slices must be told with
 * session_stripe_placed before anything else is done with the session. It saves one copy of every byte on fast links.
 */
unsigned session_stripe_place(struct stripe *stripe, struct iovec *slices, unsigned max, size_t *bytes);
/* `len` bytes were read into them, in order. Returns as session_stripe_in. */
int session_stripe_placed(struct stripe *stripe, size_t len, uint64_t now_us);
/* Answers stripe_measure; also to be called when the socket has become writable again. `room_bytes`: how much may be
 * put into its output now. */
void session_stripe_info(struct stripe *stripe, const struct stripe_info *info, uint32_t room_bytes, uint64_t now_us);
/* The socket is gone: what it carried is reinjected elsewhere. The pointer is invalid afterwards. */
void session_stripe_lost(struct stripe *stripe, uint64_t now_us);

/* --- Flows ------------------------------------------------------------------------------------------------------- */

/* Client: whether a new flow would be served now: a stripe is up and answers, no GOAWAY, no limit reached. */
bool session_can_open(const struct session *session);
/* Client: likewise, after so many others that have been promised one and are still to be opened. */
bool session_can_open_after(const struct session *session, uint32_t waiting);
/* Whether limits.memory_bytes has room for it then, which is one of these conditions. */
bool session_has_room_after(const struct session *session, uint32_t waiting);
/* Client: a new flow; OPEN goes out with the next session_run, and behind it, before its answer, what the application
 * puts in. NULL: session_can_open is false, or memory is short. */
struct flow *session_open(struct session *session, const struct syn *syn, void *user, uint64_t now_us);
/* Server: refuse further flows; tell the other side so. Client: likewise, for its own. */
void session_goaway(struct session *session, uint64_t now_us);

/* --- Time -------------------------------------------------------------------------------------------------------- */

/* Callbacks, timers, and binding of what is to be sent. Call it once a round; it is cheap when there is nothing to do.
 */
void session_run(struct session *session, uint64_t now_us);
/* When session_run must be called at the latest, even if nothing happens; UINT64_MAX: never. */
uint64_t session_next_us(const struct session *session);

/* Ends a session as if its timeout were over: every flow is reset, stripes that are up close, SESSION_LOST told;
 * callbacks follow with session_run. */
void session_expire(struct session *session, uint64_t now_us);
/* When SESSION_LOST is told: the other side may still have flows of this session, so what goes on is another one. `id`,
 * random, of FRAME_ID_BYTES: the client's id, so that the server's flows end with its timeout; the server's
 * incarnation, so that the client's end with its next stripe. */
void session_renew(struct session *session, const uint8_t *id);

void session_get_stats(const struct session *session, struct session_stats *stats);
/* `path` < SESSION_PATHS_MAX. False: it never had a stripe. */
bool session_get_path_stats(const struct session *session, unsigned path, struct session_path_stats *stats);
/* For status and tests: the first stripe, or NULL; go on with ->next. */
const struct stripe *session_first_stripe(const struct session *session);

#endif
