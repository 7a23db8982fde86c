/* traffic_serve: receive's side of all flows: accept, find out what each wants, serve it, report its end.
 *
 * Strangers may connect: a flow costs some 700 bytes beyond its socket, no header makes it cost more, and without a
 * free descriptor a connection is reset at once (listener.h).
 */
#ifndef PAIR_TOOLS_TRAFFIC_SERVE_H
#define PAIR_TOOLS_TRAFFIC_SERVE_H

#include <stdio.h>

#include "../common/io/conf.h"
#include "../common/io/listener.h"
#include "traffic_flow.h"
#include "traffic_out.h"
#include "traffic_report.h"

enum traffic_kind {
	TRAFFIC_KIND_RAW,
	TRAFFIC_KIND_PATTERN,
	TRAFFIC_KIND_FILE,
	TRAFFIC_KIND_ECHO,
	TRAFFIC_KIND_REQUEST
};

struct traffic_server;

struct traffic_served {
	struct traffic_flow flow;
	struct traffic_server *server;
	struct traffic_served *next, *prev; /* in the server's list of live flows */
	uint64_t number;                    /* of the connection, from 1 */
	enum traffic_kind kind;
	uint32_t index; /* within its run of stream; 0 for a raw one */
	char *out_name; /* the file it is written to, owned; NULL: none */
};

struct traffic_server {
	/* set by the caller */
	struct ev_loop *loop;
	const struct conf_dest *conf;
	bool json, quiet;
	FILE *log;                                   /* borrowed; NULL: standard error */
	void (*done)(struct traffic_server *server); /* conf->flows flows have ended */

	/* to be read */
	uint64_t accepted, ended, failed;    /* flows */
	uint64_t received_bytes, sent_bytes; /* of data, ended flows only */
	unsigned live;

	/* the server's own */
	struct traffic_buffer *buffer;
	struct traffic_out out;
	struct traffic_served *first;
	struct listener listener;
};

/* Listens and starts to serve: 0 or a negative errno. */
int traffic_serve_start(struct traffic_server *server);

/* Accepts no more and resets the flows that live; each is reported as interrupted. */
void traffic_serve_stop(struct traffic_server *server);

/* Data of ended and of live flows. */
void traffic_serve_bytes(const struct traffic_server *server, uint64_t *received_bytes, uint64_t *sent_bytes);

/* One line to the log, with --json also an object on standard output (traffic_serve_report.c). */
void traffic_serve_report(struct traffic_served *served);
void traffic_serve_summary(const struct traffic_server *server);

#endif
