/* client: makes the flows of a plan, one after the other and many at once. */
#ifndef PAIR_SOAK_CLIENT_H
#define PAIR_SOAK_CLIENT_H

#include <stdint.h>

struct client_options {
	const char *address, *log, *status; /* IPv4; files */
	uint16_t port, closed_port;         /* the server's, and one where nobody listens */
	uint64_t seed;
	uint32_t first_id; /* flows are numbered from here on */
	double seconds;    /* how long new flows are made */
	double drain_s;    /* how long the last ones may take after that */
	double rate;       /* new flows a second, on average */
	uint32_t idle_max_ms;
	unsigned live_max; /* at the same time; new ones wait when there are so many */
};

/* The process's exit status: 0: no flow was cut, wrong or hung. A line for each flow goes to the log, and the present
 * counts, in one line, to the status file, once a second. */
int client_run(const struct client_options *options);

#endif
