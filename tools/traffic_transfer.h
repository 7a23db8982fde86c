/* traffic_transfer: stream's transfers: `flows` connections at once, each way as configured. */
#ifndef PAIR_TOOLS_TRAFFIC_TRANSFER_H
#define PAIR_TOOLS_TRAFFIC_TRANSFER_H

#include "traffic_client.h"

struct traffic_transfer {
	struct traffic_flow *flows; /* one for each flow of the configuration, in order */
	unsigned count;
	unsigned started, connecting, ended, failed;
	bool any_connected;
	int file_fd; /* -1: the pattern */
	bool sends, receives;
	uint64_t forth_bytes, back_bytes;
	ev_timer starter; /* starts more flows, from the loop and not from within another flow's end */
};

/* The summary (traffic_transfer_report.c). */
bool traffic_transfer_report(struct traffic_client *client);

#endif
