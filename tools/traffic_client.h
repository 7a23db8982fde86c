/* traffic_client: what stream can do: transfers, requests or echoes. Each is one driver behind the same few calls.
 *
 * stream.c makes the client, calls start, runs the loop until the driver breaks it (all is done), a signal or the time
 * limit comes (then stop), and ends with report and free.
 */
#ifndef PAIR_TOOLS_TRAFFIC_CLIENT_H
#define PAIR_TOOLS_TRAFFIC_CLIENT_H

#include <ev.h>

#include "../common/io/conf.h"
#include "traffic_flow.h"
#include "traffic_report.h"

struct traffic_options {
	const struct conf_stream *conf;
	bool json, quiet;
	bool raw;           /* transfers without header and trailer, for any sink */
	uint64_t timeout_s; /* of the whole run; 0: none */

	bool echo;
	uint64_t echo_count;  /* per flow, 1..1000000 */
	uint64_t echo_bytes;  /* 1..65536 */
	uint64_t interval_ms; /* 1..3600000 */

	uint64_t requests;     /* 0: no requests; else 1..TRAFFIC_FLOWS_MAX */
	uint64_t parallel;     /* 1..10000 */
	uint64_t answer_bytes; /* ≥ 1 */
};

struct traffic_client;

struct traffic_client_ops {
	/* 0 or a negative errno, already logged. Nothing is connected yet when it returns. */
	int (*start)(struct traffic_client *client);
	/* Ends all flows that live, with this status. */
	void (*stop)(struct traffic_client *client, enum traffic_status status);
	void (*bytes)(const struct traffic_client *client, unsigned *flows, uint64_t *sent, uint64_t *received);
	/* The summary on standard output. True if all is well. */
	bool (*report)(struct traffic_client *client);
	void (*free)(struct traffic_client *client);
};

struct traffic_client {
	const struct traffic_options *options;
	const struct traffic_client_ops *ops;
	struct ev_loop *loop;
	struct traffic_buffer *buffer;
	uint64_t started_us, ended_us; /* first connect, end of the last flow */
	void *state;                   /* the driver's */
};

extern const struct traffic_client_ops traffic_transfer_ops, traffic_request_ops, traffic_echo_ops;

/* Reads stream's own switches (traffic_options.c). Exits with 2 and a message where they are wrong. */
void traffic_options_load(struct traffic_options *options, struct conf **conf, int argc, char **argv);

/* The opening of the JSON summary, up to the keys that are the driver's own. */
void traffic_client_json_head(const struct traffic_client *client, const char *mode);

/* Logs the end of a flow that failed; rate limited. */
void traffic_client_log_failure(const struct traffic_client *client, uint64_t index, enum traffic_status status,
                                int error);

#endif
