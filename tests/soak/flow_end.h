/* flow_end: one end of a flow of the soak, client's or server's, and what exactly became of it.
 *
 * An end sends what its work says and takes what comes, checks each byte of it at once, and takes the SHA-256 of both.
 * It is over when both directions have ended in order, when the connection has failed, or when it resets the connection
 * itself, as its work says. What it finds is a verdict about this end alone:
 *
 *   whole     all was sent, all has come, and both directions ended in order
 *   broken    an error told this end that the flow failed; what had come until then was right
 *   aborted   this end broke the flow itself, as its work says
 *   cut       the stream ended in order, as a whole one does, before all had come          never right
 *   wrong     a byte is not the right one, or there are more than there may be             never right
 *   hung      nothing ended it in its time: the caller's judgement                         never right
 *
 * Time is libev's. All functions are for one loop.
 */
#ifndef PAIR_SOAK_FLOW_END_H
#define PAIR_SOAK_FLOW_END_H

#include <ev.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FLOW_NEVER UINT64_MAX

enum flow_start {
	FLOW_AT_ONCE,
	FLOW_AFTER_BYTES, /* sends when all that is to come has come */
	FLOW_AFTER_END,   /* sends when the other side has ended its direction */
	FLOW_ASKS,        /* a piece, then nothing until as many bytes have come back */
	FLOW_ANSWERS      /* as many bytes as have come */
};

struct flow_work {
	uint64_t send_bytes, receive_bytes; /* without the head */
	uint64_t send_key, receive_key;     /* of their content */
	enum flow_start start;
	bool ends_last;          /* ends its direction after the other side has; else as soon as all is sent */
	uint64_t break_at;       /* breaks the flow when so many bytes were sent and received together; FLOW_NEVER */
	bool breaks_by_close;    /* with close(2), as a program that ends; else with a RST */
	uint32_t piece_bytes;    /* sent at a time; 0: what the socket takes */
	uint32_t piece_pause_ms; /* after each piece */
	uint32_t read_bytes;     /* taken at a time; 0: what is there */
	uint32_t read_pause_ms;  /* after each read */
};

enum flow_verdict { FLOW_WHOLE, FLOW_BROKEN, FLOW_ABORTED, FLOW_CUT, FLOW_WRONG, FLOW_HUNG, FLOW_VERDICTS };

enum { FLOW_HEAD_BYTES = 96, FLOW_HEAD_MAX = 256 };

struct flow_end {
	/* the caller's, set before flow_end_start */
	struct flow_work work;
	void (*ended)(struct flow_end *end); /* once, last; the socket is closed, and the caller may free the end */
	char head[FLOW_HEAD_MAX];            /* goes before the content and is not part of it */
	size_t head_bytes;

	/* read by the caller */
	uint64_t sent_bytes, received_bytes;
	bool eof;             /* the other side ended its direction */
	int error;            /* positive errno, or 0 */
	uint64_t wrong_at;    /* CONTENT_RIGHT, or where */
	bool broke;           /* the flow, as its work says */
	ev_tstamp started_at; /* on the loop's clock */

	/* its own */
	struct ev_loop *loop;
	int fd; /* -1: over */
	ev_io reader, writer;
	ev_timer read_pause, send_pause;
	size_t head_sent;
	uint64_t piece_end; /* the offset where the present piece ends */
	bool fin_sent;
	EVP_MD_CTX *sent_sha, *received_sha;
};

/* Takes over a socket, connected or connecting. `ended` may come from within. */
void flow_end_start(struct flow_end *end, struct ev_loop *loop, int fd);

/* Ends it with a RST and calls `ended`. Not of one that is over. */
void flow_end_reset(struct flow_end *end);

enum flow_verdict flow_end_verdict(const struct flow_end *end);
const char *flow_verdict_name(enum flow_verdict verdict);
const char *flow_error_name(int error);

/* The loop's time of day, UTC, to the millisecond. */
enum { FLOW_CLOCK_TEXT = sizeof "00:00:00.000" };
const char *flow_clock_text(char text[FLOW_CLOCK_TEXT], struct ev_loop *loop);

/* One line about an end that is over, with what `format` says first: `FORMAT verdict=… error=… sent=… …`. Frees what
 * the end holds, so once only. */
void flow_end_report(struct flow_end *end, FILE *log, enum flow_verdict verdict, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Closes with a RST. */
void flow_reset_socket(int fd);

/* Ends what nobody answers for: after some 20 s without a sign of the other side. */
void flow_keep_alive(int fd);

#endif
