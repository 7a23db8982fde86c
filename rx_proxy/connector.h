/* connector: a flow that a tx_proxy opens → a connection to its destination.
 *
 * Asks the access list, connects within 10 s, tells the session what the destination answered, and joins socket and
 * flow (app_io). A destination that cannot be reached costs that flow alone.
 */
#ifndef RX_PROXY_CONNECTOR_H
#define RX_PROXY_CONNECTOR_H

#include "../common/io/app_io.h"
#include "../common/io/conf.h"

struct dest;

struct dest_list {
	struct dest *first, *last;
};

/* Local ports that connections may have, as net.ipv4.ip_local_port_range said at the start; both 0: not known. */
struct connector_ports {
	uint16_t from, to;
};

struct connector {
	struct app_set apps;
	unsigned count; /* connections, being made or open */

	/* private */
	struct runner *runner;
	const struct conf_rx *conf;
	struct connector_ports ports;
	uint64_t count_max;          /* as descriptors allow */
	struct dest_list connecting; /* oldest first */
	struct dest_list open;
	ev_timer sweep;
};

/* `conf` must outlive it; `files_max` descriptors may be open in this process. */
void connector_init(struct connector *connector, struct runner *runner, const struct conf_rx *conf, uint64_t files_max);
/* Resets every connection. The runner's next round is the last that the connector needs. */
void connector_abort(struct connector *connector);
void connector_fini(struct connector *connector);

/* For struct session_ops, whose user the caller knows. */
void connector_flow_open(struct connector *connector, struct flow *flow);
void connector_flow_readable(struct flow *flow);
void connector_flow_writable(struct flow *flow);
void connector_flow_ended(struct flow *flow, enum reset_reason reason);

#endif
