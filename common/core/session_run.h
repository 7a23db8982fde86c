/* session_run: one run of the output, for session_run.c, session_control.c, session_out.c and session_repeat.c alone.
 */
#ifndef PAIR_CORE_SESSION_RUN_H
#define PAIR_CORE_SESSION_RUN_H

#include "session_internal.h"

/* What a frame is to the path that carries it. */
enum sending {
	SENDING_NEW,
	SENDING_AGAIN,  /* what carried it is lost */
	SENDING_COPY,   /* travels twice from the start */
	SENDING_REPEAT, /* what carries it is late */
};

/* What one run works with: the usable stripes and their state, kept up to date while frames are put in. */
struct run {
	struct session *session;
	struct stripe *stripes[SESSION_STRIPES_MAX];
	struct sched_choice choices[SESSION_STRIPES_MAX];
	size_t count;
	bool taken[SESSION_STRIPES_MAX];        /* left out of the choice for now */
	bool avoided[SESSION_PATHS_MAX];        /* paths that get nothing new */
	uint64_t load_bytes[SESSION_PATHS_MAX]; /* of each path: what is under way, or waits to be, and is not stuck */
	unsigned bulk_from[SESSION_PATHS_MAX];  /* of each path: from which index on its stripes carry bulk */
	uint64_t loss_ppm;                      /* of segments */
	uint32_t frame_max;                     /* payload of a bulk frame */
	int ack_index;                          /* where the last ack of a run went; -1: nowhere yet */
};

enum {
	RUN_FRAME_MIN = 1400, /* payload of a segment: bulk's smallest frame, small flows' largest */
	COPIES_MAX = FLOW_OPENS_MAX - 1
};

/* --- session_run.c */
void run_start(struct run *run, struct session *session);
/* The choice's figures as they are now. */
void run_look_at(struct run *run, size_t index);
/* The stripe works, though it may rest: what it carries will come. */
bool run_works(const struct run *run, int index);
/* Losses are so many, or may be, that small frames travel more than once. */
bool run_loses(const struct run *run);
/* Of the stripe with that id; -1: it is not there. */
int run_index_of(const struct run *run, uint32_t stripe_id);
/* A stripe for DATA of the flow, or with NULL for a control frame, other than not_index (or -1). -1: none now. */
int run_pick(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int not_index);
/* Leaves the stripe (-1: none) out of all further choices, or no longer. */
void run_take(struct run *run, int index, bool taken);
/* The flow says something that bulk shall not hold up: from now on the lane is reserved for a while. */
void run_use_lane(struct session *session, const struct flow *flow);

/* --- session_control.c */
/* Puts in all control frames that wait, as far as there is room. */
void run_send_control(struct run *run);

/* --- session_out.c */
/* Puts a frame on a stripe, its payload (f->payload_len bytes from f->offset on, in OPEN from 0 on) from the flow's
 * egress; `record` is that of the payload, or NULL: it is told where and when the bytes travel. */
void run_put_frame(struct run *run, int index, const struct flow *flow, const struct frame *f, enum sending sending,
                   struct egress_record *record);
void run_put_data(struct run *run, int index, const struct flow *flow, const struct egress_piece *piece,
                  enum sending sending);

/* Puts a frame whose payload, f->payload_len bytes, is at `bytes` in `page`: a copy, as the budget has it. */
void run_put_page(struct run *run, int index, const struct frame *f, struct page *page, const uint8_t *bytes);

/* --- session_block.c */
/* How long the flow's next new piece, at egress.sent, may be: within a symbol if it belongs to a block, which may begin
 * here. */
uint32_t block_limit(const struct run *run, struct flow *flow, uint32_t max_len);
/* Whether a piece at `offset` is the next of the flow's block. */
bool block_covers(const struct flow *flow, uint64_t offset);
/* For the frames of such pieces. */
struct frame_block block_of(const struct flow *flow);
/* How many of these, of the block that the flow has begun, the stripe was given; and that it is given one more. */
uint32_t block_frames(const struct flow *flow, const struct stripe *stripe);
void block_count(const struct flow *flow, struct stripe *stripe);
/* The piece, which block_limit was asked about, was sent. */
void block_sent(struct flow *flow, const struct egress_piece *piece);
/* Sends the parity of all flows whose block is over, as far as there is room. */
void blocks_send(struct run *run);

/* --- session_repeat.c */
/* The stripe's path has capacity that new data leaves idle. */
bool run_is_idle(const struct run *run, int index);
/* `len` bytes of a frame were put on the stripe: into statistics and the budget. */
void run_account(const struct run *run, size_t index, enum sending sending, uint32_t len);
/* As run_pick, for a frame of `len` bytes that travels on `first` already; its path's budget allows it. *refused gets
 * the path that would carry it but for its budget, or NULL. */
int run_pick_second(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                    struct path **refused);
/* The path had no budget for a frame of `len` bytes: into statistics. */
void run_count_refused(const struct run *run, struct path *path, uint32_t len);
/* For copies of a small frame: as many as it takes to make it unlikely that all of them wait for a repair. Returns how
 * many; 0 also when copies are not worth it. */
unsigned run_pick_copies(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                         int copies[COPIES_MAX]);
/* For a copy of a frame of a small flow that has more to say: only in capacity that new data leaves idle. -1: none. */
int run_pick_idle_copy(struct run *run, const struct flow *flow, uint32_t len, int first);
/* Repeats the flow's first late record. False: no stripe takes it now. */
bool run_repeat(struct run *run, struct flow *flow);
/* Repeats what is late, where nothing new wants the room. */
void run_repeats(struct run *run);

#endif
