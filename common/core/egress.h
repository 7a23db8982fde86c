/* egress: one direction's bytes from the application, kept until the other proxy has acknowledged them.
 *
 *     acked ≤ sent ≤ end + fin
 *
 *   [acked, sent)  in flight, or left for later (egress_leave): each byte belongs to one record, which knows the stripe
 *                  that carries it
 *   [sent, end)    pending: put in by the application, bound to no stripe yet (late binding)
 *
 * A record is the unit of reinjection: when the last stripe that carried it is lost, it waits and is sent again before
 * anything new, with the same bounds. When it is only late, it may be repeated, when nothing new is to be sent. The end
 * of the direction (FIN) takes the offset `end`, as DATA_FIN does in RFC 8684, 3.3.3, so that it is acknowledged like a
 * byte.
 *
 * Knows no stripes (only their ids), no frames, no time but what it is told.
 */
#ifndef PAIR_CORE_EGRESS_H
#define PAIR_CORE_EGRESS_H

#include "page.h"

enum {
	EGRESS_RECORDS_MAX = 16384,   /* in flight at once: a peer's ingress never needs more ranges (RANGE_MAX) */
	EGRESS_RECORDS_FIRST = 8,     /* beyond so many, the pool's account must allow them */
	EGRESS_BACKLOG_BYTES = 524288 /* taken from the application beyond `sent`: more is a queue, unless asked for */
};

struct egress_record {
	uint64_t offset;
	uint64_t sent_us;       /* when it was last bound to a stripe; 0: never, it was left for later */
	uint64_t due_us;        /* when it should have arrived there */
	uint64_t position;      /* where it ends in that stripe's output */
	uint64_t copy_position; /* and in copy_stripe's */
	uint32_t len;           /* bytes; 0 only for a FIN alone */
	uint32_t stripe;        /* id of the stripe that carries it; 0: none does, it waits for reinjection */
	uint32_t last_stripe;   /* id of the stripe that carried it last, lost or not: reinjection prefers another */
	uint32_t copy_stripe;   /* id of the stripe with a second copy; 0: none */
	bool fin;               /* the direction ends after these bytes */
	bool reinjected;        /* was sent more than once, not counting the first copy, or need not be repeated */
	bool repeat;            /* is late: shall be repeated on another stripe than the one that carries it */
	bool asks;              /* goes again because the data ack may be lost, not the data */
	bool refused;           /* a path had no budget for its repetition */
};

struct egress {
	struct page_store store;
	uint64_t acked;
	uint64_t sent;
	uint64_t end;
	uint64_t edge;                 /* offsets below it may be sent */
	uint64_t reserved;             /* pages reach to here between egress_reserve and egress_commit */
	uint64_t ahead_bytes;          /* taken from the application on top of EGRESS_BACKLOG_BYTES, for slow paths */
	bool fin;                      /* the application has ended this direction at `end` */
	struct egress_record *records; /* ring of record_capacity (a power of two), sorted by offset */
	uint32_t record_first;
	uint32_t record_count;
	uint32_t record_capacity;
	uint32_t lost;         /* records whose stripe is 0 */
	uint32_t repeats;      /* records that shall be repeated */
	uint64_t lost_from;    /* the first of them, if there is one, is record number lost_from or a later one */
	uint64_t records_gone; /* that were acknowledged: the i-th in the ring is number records_gone + i */
};

/* What goes into one frame. */
struct egress_piece {
	uint64_t offset;
	uint32_t len;
	bool fin;
	uint32_t avoid_stripe;        /* id of the stripe that carried it before; 0: none did */
	struct egress_record *record; /* NULL: new bytes; valid until the next call that changes records */
};

void egress_init(struct egress *e, struct page_pool *pool);
void egress_fini(struct egress *e);

/* Bytes that the application may put in now, not counting the pool; 0 after egress_end. */
size_t egress_room(const struct egress *e);

/* Free space for at most `len` bytes, as up to `max` slices; the caller fills them in order and commits how
 * many bytes it filled (also 0: pages not needed go back). Returns the number of slices, 0 when there is no room, or
 * -ENOMEM when the pool or heap has none. */
int egress_reserve(struct egress *e, size_t len, struct iovec *slices, unsigned max);
void egress_commit(struct egress *e, size_t len);

/* No more bytes will come. */
void egress_end(struct egress *e);

/* Bytes that were never sent and may be. */
uint64_t egress_sendable(const struct egress *e);
/* Whether egress_next would give a piece. */
bool egress_has_next(const struct egress *e);
/* No further record fits: new bytes must wait for acks. */
bool egress_full(const struct egress *e);
/* Everything, and the FIN, has been acknowledged. */
bool egress_done(const struct egress *e);

/* The first piece that shall be repeated: on another stripe than piece->avoid_stripe, which carries it. False: none. */
bool egress_next_repeat(const struct egress *e, struct egress_piece *piece);

/* The piece to send next: first what was lost, then new bytes, at most max_len of these. False: nothing. */
bool egress_next(const struct egress *e, uint32_t max_len, struct egress_piece *piece);

/* The piece of new bytes to send next, whatever waits before it. */
bool egress_next_new(const struct egress *e, uint32_t max_len, struct egress_piece *piece);
/* Leaves `len_bytes` ≤ egress_sendable new bytes for later, in records of at most `record_bytes` that wait as lost ones
 * do; egress_next_new goes on behind them. Bytes for a slow stripe are those that will be needed when it has delivered
 * them. 0, or -ENOMEM: fewer, or none, were left. */
int egress_leave(struct egress *e, uint64_t len_bytes, uint32_t record_bytes);

/* `piece` is now on `stripe` (id ≥ 1). 0, or -ENOMEM (no record: the piece was not sent; when it is full, too). */
int egress_sent(struct egress *e, struct egress_piece *piece, uint32_t stripe, uint64_t now_us);

/* The i-th record in flight in order of offset, 0 ≤ i < record_count. */
struct egress_record *egress_record_at(const struct egress *e, uint32_t i);

/* The record waits for reinjection, whatever stripe carries it. */
void egress_mark_lost(struct egress *e, struct egress_record *record);
/* A lost record's last stripe brings it after all. */
void egress_unmark_lost(struct egress *e, struct egress_record *record);
/* The record, which is not lost, shall be repeated; or not, after all. */
void egress_mark_repeat(struct egress *e, struct egress_record *record);
void egress_drop_repeat(struct egress *e, struct egress_record *record);

/* Stripe `id` brings nothing any more beyond position `arrived`: its other records without a living copy wait for
 * reinjection. Returns how many do. */
uint32_t egress_stripe_lost(struct egress *e, uint32_t id, uint64_t arrived);

/* Data ack and right edge from the other proxy; stale ones are harmless. 0, or -EPROTO: acknowledges what was never
 * sent. */
int egress_ack(struct egress *e, uint64_t offset, uint64_t edge);

#endif
