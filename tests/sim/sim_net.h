/* sim_net: two engines, joined by simulated stripes, with simulated applications at both ends, on a virtual clock.
 *
 *     struct sim *sim = sim_new(&(struct sim_config){.seed = 1, .path_count = 1, .paths = {SIM_DSL}});
 *     sim_add(sim, &(struct sim_plan){.bytes = {1000, 5000000}});
 *     UNIT_TRUE(sim_run(sim, 60 * SIM_SECOND));
 *     sim_check(sim);
 *     sim_free(sim);
 *
 * Side 0 is the client (tx_proxy), side 1 the server; what is indexed by side is of that side. The same configuration,
 * plans and calls give the same trace, byte for byte (sim_trace). What each application writes is a function of its
 * flow, its side and the offset, so whatever is read is compared with what must have been written: a byte lost,
 * doubled, moved or changed anywhere shows.
 *
 * At every step the engines' invariants are looked at: memory within its limits, no callback after a flow's last, time
 * never wanted in a loop. The first thing wrong is kept in sim->wrong, and the run ends.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "../../common/core/session.h"
#include "sim_pipe.h"

enum {
	SIM_SIDES = 2,
	SIM_CLIENT = 0,
	SIM_SERVER = 1,
	SIM_PATHS = 4,
	SIM_CONNS = 256,
	SIM_MS = 1000,
	SIM_SECOND = 1000000
};

/* Initializers of struct sim_path. */
#define SIM_DSL                                                                                                        \
	{                                                                                                              \
		.stripes = 4, .rate_Bps = 2500000, .delay_us = 20000, .queue_bytes = 125000                            \
	}
#define SIM_LAN                                                                                                        \
	{                                                                                                              \
		.stripes = 2, .rate_Bps = 125000000, .delay_us = 200, .queue_bytes = 500000                            \
	}

struct sim_path {
	unsigned stripes; /* 1..64 */
	uint64_t rate_Bps;
	uint32_t delay_us; /* one way */
	uint32_t queue_bytes;
	uint32_t loss_ppm; /* of segments */
	enum sim_congestion congestion;
	bool backup;
	uint8_t budget; /* 1 + reinject_percent; 0: 100 percent */
};

struct sim;
struct sim_conn;

struct sim_config {
	uint64_t seed;
	unsigned path_count;
	struct sim_path paths[SIM_PATHS];
	struct session_limits limits; /* of both sides; 0: 10000 flows, 8 MiB window, 64 MiB, 60 s */
	uint32_t mss;                 /* 0: 1448 */
	uint32_t redial_us;           /* after a stripe's death; 0: 200 ms */
	bool partial; /* sockets take odd parts of what is written, and give odd parts of what has come */
	/* Called at every step, before the engines run, when something may be done to the simulation. */
	void (*step)(struct sim *sim, void *user);
	/* Sees what a side writes to a connection. */
	void (*wire)(const struct sim_conn *conn, unsigned side, const uint8_t *bytes, size_t len, void *user);
	void *user;
};

/* What the two applications of one flow do. */
struct sim_plan {
	uint64_t start_us;    /* no sooner; counted from the start */
	uint64_t bytes[2];    /* written by each side before it ends its direction */
	uint32_t chunk[2];    /* longest write; 0: 20000 */
	uint32_t pause_us[2]; /* between two writes */
	uint32_t read_Bps[2]; /* how fast it reads; 0: at once */
	bool holds[2];        /* does not read before `release_us` */
	uint64_t release_us;
	bool early;      /* the client writes before its flow is open */
	bool answers;    /* the server writes only when it has read all */
	bool never_ends; /* neither side ends its direction */
	enum open_status status;
	uint32_t connect_us;  /* how long the destination takes */
	uint64_t reset_at[2]; /* resets after having read so much; 0: not */
	enum reset_reason reset_reason;
};

/* One application's end of a flow. */
struct sim_end {
	struct sim *sim;
	struct sim_flow *sim_flow;
	unsigned side;
	struct flow *flow; /* NULL: not yet, or no longer its own */
	bool opened;       /* may write */
	bool over;         /* had its last call, or reset */
	bool ended_write, ended_read;
	bool waits; /* for flow_writable */
	bool readable;
	enum reset_reason reason;
	uint64_t written, read;
	uint64_t write_us, read_us, connect_us; /* when to do it next; 0: not by time */
	uint64_t first_read_us, last_read_us, over_us;
	uint64_t gap_us; /* the longest time between two reads that gave bytes; a test may set it back */
};

struct sim_flow {
	struct sim_plan plan;
	struct sim_end ends[SIM_SIDES];
	uint32_t index;
	bool started;
	enum open_status status;
	uint64_t result_us; /* when the client learnt the answer; 0: not yet */
	uint64_t started_us;
};

/* One TCP connection. */
struct sim_conn {
	struct sim *sim;
	unsigned path, index;
	struct sim_pipe pipes[SIM_SIDES];  /* [side]: what that side sends */
	struct stripe *stripes[SIM_SIDES]; /* NULL: not yet, or lost */
	bool closed[SIM_SIDES];
	struct frame_reader greeting; /* server: until HELLO is here */
	uint64_t open_us;             /* client: connected then; 0: it is */
	uint64_t lost_us[SIM_SIDES];  /* when that side will learn of the end; 0: no end in sight */
	bool wrote[SIM_SIDES];
	uint64_t retry_us[SIM_SIDES]; /* a partial write goes on then */
	uint64_t next_us;             /* when something happens here by itself, as the last step began */
};

struct sim_host {
	struct sim *sim;
	unsigned side;
	struct session *session;
	bool dirty;
	uint8_t peer[FRAME_ID_BYTES]; /* server: whose session it is */
	unsigned events[32];          /* how often each enum session_event came */
	uint64_t peak_bytes;          /* of pages */
	uint64_t peak_account_bytes;
};

struct sim {
	struct sim_config config;
	uint64_t seed;
	uint64_t now_us;
	struct sim_host hosts[SIM_SIDES];
	struct sim_link links[SIM_PATHS][SIM_SIDES];
	struct sim_conn *conns[SIM_CONNS]; /* NULL: free */
	unsigned conn_slots;               /* those beyond were never used */
	bool path_down[SIM_PATHS];         /* no dialling */
	uint64_t redial_us[SIM_PATHS][64]; /* when to dial; 0: not */
	struct sim_flow **flows;
	uint32_t flow_count, flow_capacity;
	uint32_t first_unfinished;
	uint64_t wake_us; /* config.step wants to be called then, whatever else happens; 0: no */
	uint64_t trace;
	uint64_t steps;
	uint64_t delivered[SIM_PATHS]; /* bytes of stripes */
	uint64_t live_before;          /* memory_live() at the start */
	char wrong[200];
};

/* Dials every stripe. NULL: no memory. */
struct sim *sim_new(const struct sim_config *config);
void sim_free(struct sim *sim);

struct sim_flow *sim_add(struct sim *sim, const struct sim_plan *plan);

/* The application resets now, for its plan's reason. */
void sim_reset(struct sim_end *end);

/* Until every flow is over and both flow tables are empty. False: not within `for_us`, or something went wrong. */
bool sim_run(struct sim *sim, uint64_t for_us);
/* Until a time. False: something went wrong. */
bool sim_run_until(struct sim *sim, uint64_t us);

/* Reports as failures of the open unit case: what went wrong; and for each flow, bytes missing or an end other than
 * planned. */
void sim_check(const struct sim *sim);
/* Whether the flow came to its planned end with all its bytes. Otherwise reports how not. */
bool sim_flow_check(const struct sim *sim, const struct sim_flow *flow);

/* The connection of stripe `index` of `path`, or NULL. */
struct sim_conn *sim_find_conn(struct sim *sim, unsigned path, unsigned index);
/* Both ends learn of it at once, or each at its own time (`silent`): until then bytes vanish. A part of what was under
 * way may still arrive before. The client dials again unless the path is down. */
void sim_kill(struct sim *sim, struct sim_conn *conn, bool silent);
void sim_path_down(struct sim *sim, unsigned path, bool silent);
void sim_path_up(struct sim *sim, unsigned path);
/* The server's engine is replaced by a new one: its flows and stripes are gone with it. */
void sim_restart_server(struct sim *sim);

/* Any path, and any plan that comes to an orderly end; `most` bytes each way. */
struct sim_path sim_random_path(uint64_t *seed);
struct sim_plan sim_random_plan(uint64_t *seed, uint64_t most);

__attribute__((format(printf, 2, 3))) void sim_wrong(struct sim *sim, const char *format, ...);
void sim_note(struct sim *sim, uint64_t a, uint64_t b, uint64_t c); /* into the trace */

/* --- sim_app.c, for sim_net.c: callbacks of struct session_ops; `user` is the struct sim_host */
void sim_app_result(void *user, struct flow *flow, enum open_status status);
void sim_app_open(void *user, struct flow *flow);
void sim_app_readable(void *user, struct flow *flow);
void sim_app_writable(void *user, struct flow *flow);
void sim_app_ended(void *user, struct flow *flow, enum reset_reason reason);
/* When an application wants to do something; UINT64_MAX: none does. */
uint64_t sim_app_next_us(const struct sim *sim);
/* What is due now. */
void sim_app_run(struct sim *sim);
/* Every flow that was added is over at both ends. */
bool sim_app_done(struct sim *sim);
/* The server's engine has gone, and with it the destinations' ends. */
void sim_app_server_gone(struct sim *sim);

#endif
