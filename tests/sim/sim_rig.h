/* sim_rig: one engine on one path, with frames made by hand, and a count of what it puts out and calls. Its application
 * takes whatever comes, unless it is told otherwise.
 */
#ifndef TESTS_SIM_RIG_H
#define TESTS_SIM_RIG_H

#include "../../common/core/session.h"

enum { RIG_STRIPES = 3, RIG_SECOND = 1000000, RIG_STEP_US = 10000, RIG_FRAME_TYPES = 16 };

/* The engine, and what it put out and called. */
struct rig {
	struct session *session;
	struct stripe *stripes[RIG_STRIPES]; /* NULL: lost */
	struct frame_reader readers[RIG_STRIPES];
	uint64_t now_us;
	unsigned sent[RIG_FRAME_TYPES]; /* frames by type */
	unsigned fins;                  /* DATA with FIN */
	uint32_t open_payload;          /* bytes that the last OPEN announced behind it */
	struct flow *flow;              /* the last one opened */
	unsigned results, ended;
	bool holds;                           /* the application takes nothing */
	bool refuses;                         /* the destination */
	bool full;                            /* no stripe has room */
	unsigned statuses[OPEN_STATUS_COUNT]; /* of OPEN_RESULTs sent */
	enum open_status status;
	enum reset_reason reason;
};

/* Begins, with the first so many stripes up; memory_bytes of rig_start: 16 MiB. */
void rig_start(struct rig *rig, enum session_role role, unsigned stripes);
void rig_start_with(struct rig *rig, enum session_role role, unsigned stripes, uint64_t memory_bytes);
/* Frees the engine; nothing may be left of it. */
void rig_stop(struct rig *rig);

/* Lets time pass. */
void rig_run(struct rig *rig, uint64_t for_us);
/* A client's stripe, in place of one that was lost; WELCOME is not yet here. */
void rig_dial(struct rig *rig, unsigned i);

/* A frame without payload comes on stripe i: what session_stripe_in returns. */
int rig_feed(struct rig *rig, unsigned i, const struct frame *f);
/* DATA of flow 1 comes on stripe 0, `len` ≤ 16 bytes. */
void rig_feed_data(struct rig *rig, uint64_t offset, uint32_t len);
struct frame rig_open_frame(uint32_t id);

/* A flow of the client's: it was asked for; it is open; it is open, and has ended towards the server. NULL: no. */
struct flow *rig_open_flow(struct rig *rig);
struct flow *rig_connected_flow(struct rig *rig);
struct flow *rig_half_closed_flow(struct rig *rig);
/* A flow of the server's, rig->flow: the client opened it, and the destination is connected. */
void rig_serve_flow(struct rig *rig);

#endif
