/* ingress: one direction's bytes from the stripes: deduplicated, put in order, delivered to the application.
 *
 *     delivered ≤ next ≤ highest ≤ edge
 *
 *   [delivered, next)   in order, waiting for the application
 *   [next, highest)     with gaps; what has arrived of it is in `beyond`
 *   edge                the window's right edge as advertised; it never moves left (RFC 8684, 3.3.1)
 *
 * The window is a promise: every byte below `edge` has room. So the byte at `next`, which everything behind waits for,
 * can always land, on whatever stripe and however often it comes. What was received first stays: a repetition
 * never changes bytes.
 */
#ifndef PAIR_CORE_INGRESS_H
#define PAIR_CORE_INGRESS_H

#include "block.h"
#include "page.h"
#include "range.h"

struct ingress {
	struct page_store store;
	struct range_set beyond;
	uint64_t delivered;
	uint64_t next;    /* the data ack; after the FIN arrived in order: end + 1 */
	uint64_t highest; /* one past the highest byte that has arrived */
	uint64_t edge;
	uint64_t end;        /* offset of the FIN; UINT64_MAX: not known yet */
	bool end_taken;      /* the application was told the end */
	struct block *block; /* the last one that is not whole; NULL: none. It is the ingress's */
	bool of_block;       /* the piece that is put in is of it */
};

void ingress_init(struct ingress *in, struct page_pool *pool);
void ingress_fini(struct ingress *in);

/* Bytes at `offset`, and with `fin` the direction's end after them.
 * 1: something new arrived. 0: all of it was known. -EPROTO: beyond the window, beyond the end, another end than
 * before, or more than RANGE_MAX pieces with gaps between them. -ENOMEM: what found no page is not remembered as
 * arrived. -ENOBUFS: nor is what had no room in the account of pieces; it must come again. */
int ingress_put(struct ingress *in, uint64_t offset, const uint8_t *bytes, uint32_t len, bool fin);

/* Where bytes that are about to come at `offset` belong, so that they can be read from the socket right into their
 * place: up to `max` slices for at most `len` bytes; *bytes gets how many they take. 0: not all of it is new or
 * allowed, or there is no page: ingress_put shall sort it out. */
unsigned ingress_place(struct ingress *in, uint64_t offset, uint32_t len, struct iovec *slices, unsigned max,
                       size_t *bytes);
/* `len` bytes were put there, `fin` as in ingress_put. Nothing may have been put in or consumed in between. Returns as
 * ingress_put. */
int ingress_placed(struct ingress *in, uint64_t offset, uint32_t len, bool fin);

/* The piece that comes next is of the block that begins at `start`, which has so many rows of parity: from now on that
 * is kept account of, in the place of an earlier one, unless some of it has come already. With 0 rows the piece is of
 * no block, or sent again. */
void ingress_expect(struct ingress *in, uint64_t start, uint8_t rows);
/* `len` bytes of a row of parity, from its byte `at` on; see block_parity, whose errors it returns, or -EPROTO: the
 * block ends beyond the window. A row of another block than the one kept account of is left out. */
int ingress_put_parity(struct ingress *in, uint64_t start, uint32_t block_len, unsigned row, uint64_t at,
                       const uint8_t *bytes, size_t len);
void ingress_drop_block(struct ingress *in);
/* Puts in what of the block has not arrived, once there are rows enough for that. How many bytes were missing; 0: none
 * was put in; or as ingress_put, when none could be. */
int ingress_recover(struct ingress *in);

/* Bytes in order that wait for the application. */
uint64_t ingress_readable(const struct ingress *in);
/* As up to `max` slices. Returns their number. */
unsigned ingress_peek(const struct ingress *in, struct iovec *slices, unsigned max);
/* The application took `len` ≤ ingress_readable bytes. */
void ingress_consume(struct ingress *in, uint64_t len);
/* All bytes were consumed and the FIN has come: the application may be told. */
bool ingress_at_end(const struct ingress *in);

#endif
