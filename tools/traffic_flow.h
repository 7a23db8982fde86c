/* traffic_flow: one connection between stream and receive, seen from either end.
 *
 * A flow sends [greeting], the bytes of its source, [trailer], FIN, and puts what arrives into its sink, both at the
 * same time. The owner says what is wanted in a struct traffic_plan; the flow does the rest on the owner's libev loop
 * and calls
 *   connected   once, if it was started by traffic_flow_connect and connects;
 *   greeted     once, if it was started by traffic_flow_accept, to be given its plan;
 *   ended       once, last, with `status` set: the socket is closed, and the owner may free the flow.
 * A FIN before everything was there is TRAFFIC_SHORT; a reset is TRAFFIC_RESET; a flow that we give up ends in a reset,
 * so that the other side never takes it for a whole one.
 *
 * Times are monotonic microseconds; 0: has not happened.
 */
#ifndef PAIR_TOOLS_TRAFFIC_FLOW_H
#define PAIR_TOOLS_TRAFFIC_FLOW_H

#include <ev.h>

#include "../common/core/addr.h"
#include "traffic_data.h"
#include "traffic_header.h"

enum { TRAFFIC_CHUNK_SIZE = 262144 };

/* What all flows of a process read into and send from. Its contents mean nothing between two callbacks. */
struct traffic_buffer {
	uint8_t room[TRAFFIC_TRAILER_SIZE]; /* traffic_sink_take() needs it before the data */
	uint8_t data[TRAFFIC_CHUNK_SIZE];
	unsigned gap_epoch; /* raised by who wants gaps to count anew */
};

/* How a flow goes on after its greeting. */
struct traffic_plan {
	bool sends_trailer;         /* after the source's bytes */
	bool trailer_after_eof;     /* but not before the other side's FIN: it reports on all that was received */
	bool half_closes;           /* FIN when all is sent; else the connection stays open until it ends */
	bool ends_at_eof;           /* the other side's FIN ends the flow even if not all is sent */
	bool echoes;                /* sends back what arrives; source and sink are not used */
	uint64_t complete_at_bytes; /* ends as soon as the sink has so many; 0: at the other side's FIN */
	uint32_t duration_ms;       /* the source is stopped then; 0: never */
};

enum traffic_flow_state { TRAFFIC_FLOW_CONNECTING, TRAFFIC_FLOW_OPEN, TRAFFIC_FLOW_ENDED };
enum traffic_receiving { TRAFFIC_RECEIVING_GREETING, TRAFFIC_RECEIVING_DATA, TRAFFIC_RECEIVING_DONE };
enum traffic_sending {
	TRAFFIC_SENDING_DATA,  /* greeting and source */
	TRAFFIC_SENDING_WAITS, /* for the other side's FIN, before the trailer */
	TRAFFIC_SENDING_LAST,  /* what is in the block, then FIN */
	TRAFFIC_SENDING_DONE,
};

struct traffic_flow;

struct traffic_flow_ops {
	void (*connected)(struct traffic_flow *flow); /* may be NULL */

	/* header: NULL for a raw connection. Sets plan, sink and source. Not TRAFFIC_OK: the flow is reset and ends so.
	 */
	enum traffic_status (*greeted)(struct traffic_flow *flow, const struct traffic_header *header);

	void (*ended)(struct traffic_flow *flow);
};

struct traffic_flow {
	/* the owner's, set before the start */
	struct ev_loop *loop;
	struct traffic_buffer *buffer; /* borrowed, shared by all flows */
	const struct traffic_flow_ops *ops;
	void *owner;
	struct traffic_plan plan;
	struct traffic_source source; /* initialised by the owner (or in greeted), freed by the flow's free */
	struct traffic_sink sink;

	/* the flow's, read by the owner */
	enum traffic_flow_state state;
	enum traffic_receiving receiving;
	enum traffic_sending sending;
	enum traffic_status status; /* when ended */
	int error;                  /* negative errno behind the status, or 0 */
	struct addr remote;
	uint64_t started_us; /* connect(2) or accept(2) */
	uint64_t connected_us;
	uint64_t greeted_us;
	uint64_t first_us, last_us; /* when the first and the last bytes arrived */
	uint64_t longest_gap_us;    /* without bytes between them, in this epoch */
	unsigned gap_epoch;
	uint64_t ended_us;
	bool has_theirs;
	struct traffic_trailer theirs; /* the other side's trailer, if has_theirs */

	/* the flow's own */
	int fd;
	size_t block_bytes, block_sent; /* greeting, trailer or echo under way */
	uint8_t block[TRAFFIC_TRAILER_SIZE];
	size_t greeting_bytes;
	ev_io reader, writer;
	ev_timer deadline;
};

uint64_t traffic_now_us(void);

/* Connects to `remote` and sends greeting_bytes of greeting first (at most TRAFFIC_TRAILER_SIZE). The flow may end
 * within the call. */
void traffic_flow_connect(struct traffic_flow *flow, const struct addr *remote, const void *greeting,
                          size_t greeting_bytes);

/* Takes over an accepted socket. */
void traffic_flow_accept(struct traffic_flow *flow, int fd, const struct addr *remote);

/* The longest time without bytes between two reads that gave some, since the buffer's gap_epoch was raised. */
uint64_t traffic_flow_longest_gap_us(const struct traffic_flow *flow);

/* Resets and ends it, with `ended`, if it has not ended yet. */
void traffic_flow_abort(struct traffic_flow *flow, enum traffic_status status);

/* What the source and the sink own. Only of an ended flow, or of one that was never started. */
void traffic_flow_free(struct traffic_flow *flow);

#endif
