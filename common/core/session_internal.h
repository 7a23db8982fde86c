/* session_internal: what the engine's own files share. Nobody else includes it.
 *
 *   session.c         life of the session; callbacks; flow and stripe tables
 *   session_flow.c    the flow_… functions of flow.h, and how a flow begins and ends
 *   session_window.c  ingress memory: what is promised, what is advertised, when a data ack is owed
 *   session_in.c      frames from stripes → flows
 *   session_control.c control frames → stripes
 *   session_out.c     data of flows → frames to stripes
 *   session_run.c     which stripe takes the next frame
 *   session_repeat.c  copies and repetitions, within budgets
 *   session_path.c    paths that fall silent
 *   session_queue.c   what bulk and young flows may have under way on a path
 *   session_time.c    liveness, stale stripes, timeouts
 *   session_delivery.c  how long paths take to deliver
 *   session_late.c    what of a flow is late, and goes again
 *   session_block.c   young flows' bytes with parity behind them
 *   session_rest.c    stripes rest, so that BBR need not probe
 *   session_stats.c   figures for statistics
 */
#ifndef PAIR_CORE_SESSION_INTERNAL_H
#define PAIR_CORE_SESSION_INTERNAL_H

#include "budget.h"
#include "sched.h"
#include "session.h"

enum {
	EXPRESS_BYTES = 16384,       /* a flow is small until it sent so much without a pause */
	LAST_BYTES = 65536,          /* so many last ones are repeated as soon as they are due */
	LITTLE_BYTES = 1024,         /* or as long as no more than that is under way */
	YOUNG_BYTES = 524288,        /* what a flow sends since a pause while it counts as young: done in a turn, */
	YOUNG_FLOWS_MAX = 16,        /* while no more are busy, */
	YOUNG_TURN_MIN = 131072,     /* if at least so much can be sent in it */
	YOUNG_ROUND_US = 250000,     /* and all others in their turns within that time */
	TURN_BYTES = 32768,          /* of a flow before the next one's turn, */
	ROUND_BYTES = 262144,        /* and of all flows before it has its next: with many, turns are short */
	ACK_DELAY_US = 5000,         /* a data ack waits at most so long for company */
	ACK_BYTES = 65536,           /* and for at most so many bytes */
	TICK_US = 20000,             /* timers' grain while flows are moving, */
	TICK_MIN_US = 2000,          /* and when something is due sooner */
	PING_IDLE_US = 5000000,      /* each path is asked at least that often */
	PING_IDLE_MAX_US = 30000000, /* and each of its stripes at least that often (NAT mappings) */
	PING_BUSY_US = 500000,       /* while an answer is missing */
	TRY_AGAIN_US = 2500000,      /* the kernel tries a silent stripe at least that often (sock_prepare_stripe) */
	ANSWER_MIN_US = 1000000,     /* no sooner is the far end taken for gone */
	STALE_MIN_US = 300000,       /* no sooner is a stripe taken for stale */
	LANE_US = 2000000,           /* the express lane stays reserved so long after its last use */
	REPEAT_US = 1000000, /* RESET, and data that may have been answered by a stripe that died, go again so late */
	RESET_REPEATS = 20,
	OPEN_REPEAT_US = 5000000, /* a destination may take its time */
	WINDOW_START_MAX = 1048576,
	WINDOW_MAX = 1 << 30,
	SEEN_IDS = 65536, /* flow ids remembered as used, below the highest */
	REPLIES_MAX = 1024,
	REFUSALS_MAX = 256,        /* are remembered: their answers may be lost, too */
	HASH_START = 256,          /* buckets */
	CHAIN_MAX = 64,            /* flows in one */
	REPEATS_PER_TICK = 128,    /* records of one flow */
	QUOTA_START_BYTES = 65536, /* of a path that is not the best */
	SLOW_PATH = 3,             /* a path is slow whose RTT is so many times what the best takes to deliver */
	RATE_US = 100000,          /* a flow's rate is measured over so long */
	AHEAD_KEPT_US = 1000000    /* what a slow path asked to be there for it is kept so long */
};

enum { TURN_NONE, TURN_EXPRESS, TURN_BULK, TURN_REPEAT, TURN_LISTS };

struct flow_list {
	struct flow *first, *last;
	uint32_t count;
};

/* An answer about a flow that has no struct flow (any more). */
struct reply {
	enum frame_type type; /* GONE or OPEN_RESULT */
	uint32_t flow;
	enum open_status status;
};

enum path_state {
	PATH_WELL,
	PATH_QUIET, /* no acks for longer than of late: new data keeps off it, if another path can take it */
	PATH_SILENT /* and for longer than a round trip explains: what it carries goes again */
};

/* What is known of a path's bottleneck (session_queue.c). All zeros: nothing yet. */
struct path_queue {
	uint64_t limit_bytes;      /* so much bulk may have under way; 0: no queue was seen of late, or one not ours */
	uint64_t start_bytes;      /* the limit where no queue was seen of late; 0: none */
	uint64_t first_flow_bytes; /* but it is no less than this for each busy flow, */
	uint64_t first_bytes;      /* up to this; 0 where a queue was ever seen */
	uint64_t most_Bps;         /* the most that arrived in an RTT of late */
	uint64_t windows_Bps;      /* while start_bytes is the limit, what the windows let through; else 0 */
	unsigned enough_stripes;   /* so many have a few segments each of what the path holds; 0: not known */
	uint64_t held_us;          /* when the limit last held bulk back; 0: it never did */
	bool held_back;            /* it has, since the last look */
	uint64_t queue_us;         /* when a queue was seen or prevented last; 0: never */
	unsigned queue_looks;      /* in how many looks in a row one was seen, */
	unsigned held_looks;       /* and in how many more than not although the limit held bulk back */
	uint64_t foreign_us;       /* when these were last too many: the queue is not ours; 0: never */
	uint64_t foreign_for_us;   /* and for how long that tells */
	uint64_t looked_us;        /* when the last look was, */
	uint64_t looked_bytes;     /* what was delivered until then, */
	unsigned looked_stripes;   /* and on how many stripes that were up */
};

struct path {
	unsigned stripes_up; /* stale ones too */
	enum path_state state;
	bool silence_told;    /* PATH_SILENT, and SESSION_PATH_SILENT was told */
	uint64_t worse_us;    /* when the state was last left for a worse one */
	uint64_t progress_us; /* last time that something was acknowledged on it, or a stripe of it came up */
	uint64_t heard_us;    /* last time that anything came from it */
	uint32_t pause_us;    /* how long acks have stayed out lately, though something was under way */
	uint64_t pinged_us;
	unsigned ping_turn; /* which of its stripes is asked next */
	bool known;         /* it has, or had, a stripe: these are set */
	bool backup;
	struct budget budget;
	uint64_t refused_bytes;
	struct stripe_traffic past; /* of its stripes that are gone */
	uint64_t delivered_bytes;   /* by all stripes that it ever had: segments' worth, retransmissions not counted */
	struct path_queue queue;
	/* session_delivery.c: mean and mean deviation of the time from putting a frame in until it has arrived; 0: not
	 * known */
	uint64_t delivery_us, deviation_us;
	uint32_t samples;
	uint64_t sample_us;       /* when the last was taken, or what they tell faded */
	uint64_t under_way_bytes; /* in outputs, sockets and on the way, but not what is lost */
	uint64_t quota_bytes;     /* as much of these as it may have when it is not the best path, */
	uint64_t cut_us;          /* and when that was lowered */
	uint64_t expected_us;     /* within what time a frame arrives, but for rare ones */
	uint64_t present_us;      /* the same, or as long as all stripes have waited by now */
};

struct session {
	const struct session_ops *ops;
	void *user;
	struct session_config config;
	uint64_t now_us;

	struct stripe *stripes;                    /* newest first, dead ones until the next session_run */
	struct stripe *by_id[SESSION_STRIPES_MAX]; /* at its id modulo the size: the newest such one, or NULL */
	uint32_t stripe_count;
	uint32_t stripes_up; /* STRIPE_UP and STRIPE_STALE */
	uint32_t last_stripe_id;
	struct path paths[SESSION_PATHS_MAX];
	bool dead_stripes; /* some are to be freed */

	struct flow **hash;
	uint32_t hash_size;
	uint32_t flow_count;
	struct flow *ended;    /* in the table in FLOW_ENDED, linked by turn_next, to be freed */
	uint32_t last_flow_id; /* client: last one given out; server: highest one seen */
	uint64_t *seen;        /* server: bit id % SEEN_IDS: that id was opened; for ids in (last − SEEN_IDS, last] */

	struct page_pool egress_pool, ingress_pool;
	uint64_t promised_bytes; /* of the ingress pool; ≤ its size */
	size_t starved_at;       /* pages in use and held back when that was last looked at */

	struct flow_list turns[TURN_LISTS];  /* linked by turn_next/turn_prev */
	struct flow_list linked[FLOW_LINKS]; /* linked by links[] */
	struct flow *control_first, *control_last;
	struct flow *event_first, *event_last;
	struct flow *ack_first, *ack_last; /* in order of ack_due_us */
	struct reply replies[REPLIES_MAX];
	uint32_t reply_first, reply_count;
	struct reply refusals[REFUSALS_MAX]; /* the last OPEN_RESULTs that ended a flow, in a ring; flow 0: none */
	uint32_t refusal_next;

	bool incarnation_known;
	uint8_t incarnation[FRAME_ID_BYTES];
	bool goaway_sent, goaway_due, goaway_heard;
	uint64_t asked_us; /* since when an answer is missing; 0: none is */
	uint64_t down_us;  /* since when no stripe is up; 0: one is */
	uint64_t tick_us;  /* next one */
	bool moving;       /* some flow waits for the other side: ticks are needed */
	/* The express lane is kept free of a flow's bulk while another flow used it lately: the last user, until when
	 * for all others, and until when for itself, because of those before it. */
	uint32_t lane_flow;
	uint64_t lane_until_us, lane_others_until_us;
	uint64_t bulk_us;              /* when a flow that is not young sent last; 0: none has */
	uint64_t longest_rtt_us;       /* of all stripes that work, smoothed */
	uint64_t most_Bps;             /* of all paths: what they are known, or while that is not known, */
	                               /* taken to deliver (session_queue.c) */
	uint32_t blocks;               /* flows that have one with parity begun, */
	uint64_t last_block;           /* and the number of the last one */
	uint64_t held_back_us;         /* some path's limit holds bulk back since then; 0: none does */
	uint64_t loss_sent, loss_lost; /* segments, recent: decayed by halves */

	struct session_stats stats;
};

/* --- session.c */
void session_tell(struct session *session, enum session_event event, struct stripe *stripe, uint32_t flow,
                  const char *text);
struct flow *session_find_flow(const struct session *session, uint32_t id);
struct flow *session_add_flow(struct session *session, uint32_t id, const struct syn *syn, enum flow_state state);
bool session_has_seen(const struct session *session, uint32_t id);
void session_mark_seen(struct session *session, uint32_t id);
void session_reset_all(struct session *session, enum reset_reason reason);
void session_add_event(struct flow *flow, uint8_t event);
void session_add_control(struct flow *flow, uint8_t control);
void session_drop_control(struct flow *flow, uint8_t control);
void session_add_reply(struct session *session, enum frame_type type, uint32_t flow, enum open_status status);
/* What is still asked about the flow, which ends, gets that answer. */
void session_add_refusal(struct session *session, uint32_t flow, enum open_status status);
struct stripe *session_find_stripe(const struct session *session, uint32_t id);
/* The stripe carries nothing any more, or (`lives`) nothing in time: what it may have carried goes again on others, but
 * not what the other kernel has of a stripe that lives. */
void session_send_elsewhere(const struct stripe *stripe, bool lives);
void session_set_stripe_state(struct stripe *stripe, enum stripe_state state);

/* --- session_flow.c */
/* Puts the flow into one of session->linked, if it is not there, or out of it. */
void session_link(struct flow *flow, unsigned which);
void session_unlink(struct flow *flow, unsigned which);
/* The flow has ended: its owner is told (unless gone), what it holds is freed with the next session_run. */
void flow_finish(struct flow *flow, enum reset_reason reason);
/* Ends the flow in order once both directions are through. */
void flow_check_done(struct flow *flow);
/* The other side broke the flow's rules, or memory failed: RESET goes out and the owner is told. */
void flow_break(struct flow *flow, enum reset_reason reason, const char *why);
/* Room has come about: tells the owner if it waits for it and the room is worth a read. */
void flow_offer_room(struct flow *flow);
/* Puts the flow in the list that its turn is in, or out of it. Call it whenever it may have got something to send. */
void flow_update_turn(struct flow *flow);
void flow_end_turn(struct flow *flow); /* to the end of its list, if it has more */
void flow_leave_turn(struct flow *flow);

/* --- session_window.c */
void window_start(struct flow *flow);
/* So many flows more: as limits.memory_bytes allows, and as the system has memory for it, too. */
bool window_fits(const struct session *session, uint32_t count);
bool window_admits(const struct session *session, uint32_t count);
/* After bytes arrived or were consumed: moves the edge where memory allows, and sees to it that an ack goes out. */
void window_update(struct flow *flow);
void window_release(struct flow *flow);   /* gives its promise back */
void window_ack_later(struct flow *flow); /* within ACK_DELAY_US */
void window_ack_sent(struct flow *flow);
void window_acks_due(struct session *session);

/* --- session_out.c */
void output_run(struct session *session);
/* Whether anything waits for a stripe. */
bool output_waits(const struct session *session);
/* Puts a frame without payload into the stripe's output, which must have room (stripe_output_fits). Returns its
 * length. */
uint32_t output_frame(struct stripe *stripe, const struct frame *f);
/* Whether stripe `index` of a path with `stripes` is of the express lane. */
bool output_is_express(unsigned index, unsigned stripes);
/* Whether a path of so many stripes has enough for bulk besides those of the express lane. */
bool output_is_wide(unsigned stripes);

/* --- session_delivery.c */
/* A frame was put in: that is noted; it is timed, unless another is or the stripe is stale. */
void delivery_time(struct stripe *stripe);
/* The stripe's info is new: so many bytes more have arrived. */
void delivery_learn(struct stripe *stripe, uint64_t arrived_bytes);
/* Brings expected_us of all paths up to date. */
void delivery_look(struct session *session);
/* expected_us of the best path. */
uint64_t delivery_least_us(const struct session *session);
/* Whether the other kernel has the record, as far as is known. */
bool delivery_known(const struct session *session, const struct egress_record *record);
/* Whether what is being timed on the stripe is late. */
bool delivery_stuck(const struct stripe *stripe);
/* Whether the stripe's path has its quota under way. */
bool delivery_full(const struct stripe *stripe);

/* --- session_rest.c */
/* Before stripe->info becomes *info: whether BBR has measured its floor since. */
void rest_learn(struct stripe *stripe, const struct stripe_info *info);
/* Which stripes begin to rest, and which end it, with output; at each tick. */
void rests_look(struct session *session);

/* --- session_block.c */
/* What the flow has sent of its block gets no parity. */
void block_drop(struct flow *flow);
/* A piece of the flow has come, which may be of a block: before it is put into the ingress. */
void block_expect(struct flow *flow, const struct frame *f);
/* When parity is due next; UINT64_MAX: none is, by the clock. */
uint64_t blocks_next_us(const struct session *session);
/* The block that the flow receives is no longer kept account of. */
void block_forget(struct flow *flow);

/* --- session_late.c */
/* What a tick has found out of all stripes together. */
struct tick {
	uint64_t least_us;      /* delivery_least_us */
	uint64_t best_after_us; /* the soonest that any stripe would certainly get a record across */
};
void late_look(const struct session *session, struct tick *tick);
/* For a flow with something under way, once a tick. */
void late_check(struct flow *flow, const struct tick *tick);

/* --- session_stats.c */
void stats_add_traffic(struct stripe_traffic *sum, const struct stripe_traffic *more);

/* --- session_path.c */
/* Looks for paths that have fallen silent. */
void paths_check(struct session *session);
/* When paths_check must be called at the latest; UINT64_MAX: never. */
uint64_t paths_next_us(const struct session *session);
/* The stripe's path works, as that tells. */
void path_is_well(struct stripe *stripe);
/* Something that the stripe carried was acknowledged since `looked_us`; before stripe->progress_us is set. */
void path_progress(struct stripe *stripe, uint64_t looked_us);
/* It was not heard for some time, and there is another: what is put on it now may be lost. */
bool path_is_unproven(const struct session *session, unsigned index);
/* Those that get nothing new, because they are not well and another is. */
void paths_avoided(const struct session *session, bool avoided[SESSION_PATHS_MAX]);

/* --- session_queue.c */
/* Measures the paths' queues, each once an RTT. */
void queues_look(struct session *session);
/* With so much under way (and waiting in sockets) the path takes neither bulk nor young flows' bytes. */
bool queue_is_full(const struct session *session, unsigned index, uint64_t under_way_bytes);
/* And with so much it has capacity that new data leaves idle. */
bool queue_has_idle(const struct session *session, unsigned index, uint64_t under_way_bytes);
/* The limit held bulk back lately: what its stripes carry fills the path. That a queue is seen does not say so: jitter
 * looks like one, and others may make it. */
bool queue_fills(const struct path *path, uint64_t now_us);
/* To how many of its stripes bulk and young flows keep; FRAME_STRIPES_MAX: to none in particular. */
unsigned queue_stripes(const struct path *path, uint64_t now_us);
/* All its stripes were gone: it may be another path now. */
void queue_forget(struct path *path);

/* --- session_time.c */
void time_run(struct session *session);
/* Whether the far end answers, as far as is known. */
bool time_far_end_answers(const struct session *session);
/* The stripe's figures are too old, and matter. */
bool time_to_measure(const struct stripe *stripe);
/* Something was sent that must be answered. */
void time_asked(struct session *session);

#endif
