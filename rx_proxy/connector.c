#define _GNU_SOURCE /* IP_TRANSPARENT and IPV6_TRANSPARENT */
#include "connector.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "access.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* linux/in.h, from 6.3 on */
#endif

enum {
	CONNECT_MAX_US = 10000000,
	PORTS = 256,    /* that the kernel may look at for a connection, */
	PORT_TRIES = 8, /* so often */
	FILES_RESERVE =
	        512 /* descriptors that are not for destinations: stripes, and connections that may become some */
};

static const double sweep_interval_s = 0.2;

static struct log_limit denied_limit = LOG_LIMIT_DEFAULT;
static struct log_limit failed_limit = LOG_LIMIT_DEFAULT;

/* One connection to a destination. */
struct dest {
	struct connector *connector;
	struct dest *next, *prev; /* in connecting while `flow` is set, then in open */
	struct flow *flow;        /* while connecting; then it is the app_io's */
	uint64_t since_us;
	ev_io connecting; /* .fd: the socket while connecting */
	struct app_io app;
};

/* --- Lists -------------------------------------------------------------------------------------------------------- */

static void append(struct dest_list *list, struct dest *dest)
{
	dest->next = NULL;
	dest->prev = list->last;
	*(list->last ? &list->last->next : &list->first) = dest;
	list->last = dest;
}

static void remove_from(struct dest_list *list, struct dest *dest)
{
	*(dest->prev ? &dest->prev->next : &list->first) = dest->next;
	*(dest->next ? &dest->next->prev : &list->last) = dest->prev;
}

static struct dest *dest_of(struct app_io *app)
{
	return (struct dest *)((char *)app - offsetof(struct dest, app));
}

/* --- Connecting --------------------------------------------------------------------------------------------------- */

static enum open_status status_of(int error)
{
	switch (error) {
	case 0:
		return OPEN_CONNECTED;
	case ECONNREFUSED:
		return OPEN_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
	case ENONET:
	case ENOPROTOOPT:
	case EPROTO:
		return OPEN_UNREACHABLE;
	case ETIMEDOUT:
		return OPEN_TIMED_OUT;
	case EACCES:
	case EPERM:
		return OPEN_DENIED;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case EADDRNOTAVAIL:
	case EAGAIN:
		return OPEN_LIMIT;
	default:
		return OPEN_FAILED;
	}
}

static void log_failed(const struct syn *syn, const struct addr *dst, enum open_status status, int error)
{
	char src[SOCKADDR_TEXT_MAX], to[SOCKADDR_TEXT_MAX], why[128];

	log_limited(&failed_limit, LOG_LEVEL_INFO, "connect_failed", "src=%s dst=%s status=%s error=%s",
	            sockaddr_text(src, &syn->src), sockaddr_text(to, dst), open_status_name(status),
	            log_value(why, sizeof why, strerror(error)));
}

static const struct addr *destination(const struct conf_rx *conf, const struct syn *syn)
{
	return conf->fixed_dest.family == ADDR_NONE ? &syn->dst : &conf->fixed_dest;
}

/* Takes the client's address for the connection. What comes back must be routed through this machine. */
static int take_client_address(int fd, const struct syn *syn, const struct addr *dst)
{
	struct addr src = syn->src;
	struct sockaddr_storage sa;
	bool ipv4 = dst->family == ADDR_IPV4;
	int err;

	if (src.family != dst->family)
		return 0;
	src.port = 0;
	err = ipv4 ? sock_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1) : sock_set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	if (err)
		return err;
	sock_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	socklen_t len = sockaddr_from_addr(&sa, &src);
	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static void set_dscp(int fd, const struct syn *syn, const struct addr *dst)
{
	if (!syn->dscp)
		return;
	if (dst->family == ADDR_IPV4)
		sock_set(fd, IPPROTO_IP, IP_TOS, syn->dscp << 2);
	else
		sock_set(fd, IPPROTO_IPV6, IPV6_TCLASS, syn->dscp << 2);
}

/* The kernel chooses among a few ports only, somewhere in the range. False: it cannot (before Linux 6.3), or the range
 * has not many. */
static bool take_few_ports(int fd, struct connector_ports range)
{
	unsigned count = range.to >= range.from ? range.to - range.from + 1u : 0, random;

	if (count <= PORTS * PORT_TRIES || getrandom(&random, sizeof random, 0) != sizeof random)
		return false;
	/* Windows side by side, so that all ports fill evenly; the last one reaches back to be as wide as the others.
	 */
	unsigned at = random % ((count + PORTS - 1) / PORTS) * PORTS;
	unsigned from = range.from + (at < count - PORTS ? at : count - PORTS);
	return sock_set(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (int)((from + PORTS - 1) << 16 | from)) == 0;
}

/* Once half of the ports to a destination are in use, or were of late (TIME-WAIT), the kernel looks at thousands of
 * them for one that is free: milliseconds for each connection, in which no stripe is served. 0, or a negative errno. */
static int connect_quickly(int fd, const struct sockaddr_storage *sa, socklen_t len, struct connector_ports range)
{
	bool few = false;

	for (unsigned i = 0; !i || (few && i < PORT_TRIES); i++) {
		few = take_few_ports(fd, range);
		if (connect(fd, (const struct sockaddr *)sa, len) == 0 || errno == EINPROGRESS)
			return 0;
		if (errno != EADDRNOTAVAIL)
			break;
	}
	return -errno;
}

/* A socket that connects to `dst`, or a negative errno. */
static int start_connect(const struct connector *connector, const struct syn *syn, const struct addr *dst)
{
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_from_addr(&sa, dst);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	/* It may be connected, by the kernel, before we know. */
	sock_arm(fd);
	set_dscp(fd, syn, dst);
	if (connector->conf->source == CONF_SOURCE_CLIENT)
		err = take_client_address(fd, syn, dst);
	if (!err)
		err = connect_quickly(fd, &sa, len, connector->ports);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* Ends the state of connecting, with the socket open: it is the caller's. */
static struct flow *stop_connecting(struct dest *dest)
{
	struct flow *flow = dest->flow;

	ev_io_stop(dest->connector->runner->loop, &dest->connecting);
	remove_from(&dest->connector->connecting, dest);
	dest->flow = NULL;
	return flow;
}

static void discard(struct dest *dest)
{
	close(dest->connecting.fd);
	dest->connector->count--;
	free(dest);
}

/* The destination has not answered with a connection. */
static void fail(struct dest *dest, int error)
{
	enum open_status status = status_of(error);
	struct flow *flow = stop_connecting(dest);

	log_failed(&flow->syn, destination(dest->connector->conf, &flow->syn), status, error);
	flow_connected(flow, status);
	discard(dest);
}

static void on_connected(struct ev_loop *loop, ev_io *w, int events)
{
	struct dest *dest = w->data;
	struct connector *connector = dest->connector;
	int error = sock_error(w->fd);

	if (error) {
		fail(dest, error);
		return;
	}
	struct flow *flow = stop_connecting(dest);
	append(&connector->open, dest);
	flow_connected(flow, OPEN_CONNECTED);
	app_io_start(&dest->app, &connector->apps, w->fd, flow);
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int events)
{
	struct connector *connector = w->data;
	struct dest_list *list = &connector->connecting;

	while (list->first && connector->runner->now_us - list->first->since_us >= CONNECT_MAX_US)
		fail(list->first, ETIMEDOUT);
	if (!list->first)
		ev_timer_stop(loop, w);
}

/* 0 or a negative errno. */
static int open_dest(struct connector *connector, struct flow *flow, const struct addr *dst)
{
	struct dest *dest;
	int fd;

	if (connector->count >= connector->count_max)
		return -EMFILE;
	dest = calloc(1, sizeof *dest);
	if (!dest)
		return -ENOMEM;
	fd = start_connect(connector, &flow->syn, dst);
	if (fd < 0) {
		free(dest);
		return fd;
	}
	dest->connector = connector;
	dest->flow = flow;
	dest->since_us = connector->runner->now_us;
	flow->user = dest;
	connector->count++;
	append(&connector->connecting, dest);
	ev_io_init(&dest->connecting, on_connected, fd, EV_WRITE);
	dest->connecting.data = dest;
	ev_io_start(connector->runner->loop, &dest->connecting);
	if (!ev_is_active(&connector->sweep))
		ev_timer_again(connector->runner->loop, &connector->sweep);
	return 0;
}

/* --- What the session says ---------------------------------------------------------------------------------------- */

void connector_flow_open(struct connector *connector, struct flow *flow)
{
	const struct addr *dst = destination(connector->conf, &flow->syn);
	/* Without one it cannot be told whose address that is. */
	int err = sock_files_left(1) ? 0 : -EMFILE;

	/* A fixed destination is the administrator's own choice. */
	if (!err && dst == &flow->syn.dst && !access_allows(connector->conf, dst)) {
		char src[SOCKADDR_TEXT_MAX], to[SOCKADDR_TEXT_MAX];
		log_limited(&denied_limit, LOG_LEVEL_INFO, "destination_denied", "src=%s dst=%s",
		            sockaddr_text(src, &flow->syn.src), sockaddr_text(to, dst));
		flow_connected(flow, OPEN_DENIED);
		return;
	}
	if (!err)
		err = open_dest(connector, flow, dst);
	if (err) {
		log_failed(&flow->syn, dst, status_of(-err), -err);
		flow_connected(flow, status_of(-err));
	}
}

void connector_flow_readable(struct flow *flow)
{
	struct dest *dest = flow->user;

	if (!dest->flow)
		app_io_readable(&dest->app);
}

void connector_flow_writable(struct flow *flow)
{
	struct dest *dest = flow->user;

	if (!dest->flow)
		app_io_writable(&dest->app);
}

void connector_flow_ended(struct flow *flow, enum reset_reason reason)
{
	struct dest *dest = flow->user;

	if (!dest->flow) {
		app_io_flow_ended(&dest->app, reason);
		return;
	}
	stop_connecting(dest);
	discard(dest);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void on_app_ended(struct app_io *app)
{
	struct dest *dest = dest_of(app);
	struct connector *connector = dest->connector;

	remove_from(&connector->open, dest);
	connector->count--;
	free(dest);
}

static struct connector_ports read_ports(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	struct connector_ports ports;
	bool known = file && fscanf(file, "%hu %hu", &ports.from, &ports.to) == 2;

	if (file)
		fclose(file);
	return known ? ports : (struct connector_ports){0};
}

void connector_init(struct connector *connector, struct runner *runner, const struct conf_rx *conf, uint64_t files_max)
{
	*connector = (struct connector){.runner = runner, .conf = conf, .ports = read_ports()};
	connector->count_max = files_max > 2 * FILES_RESERVE ? files_max - FILES_RESERVE : files_max / 2;
	app_set_init(&connector->apps, runner, on_app_ended);
	ev_timer_init(&connector->sweep, on_sweep, 0, sweep_interval_s);
	connector->sweep.data = connector;
}

void connector_abort(struct connector *connector)
{
	while (connector->connecting.first) {
		struct dest *dest = connector->connecting.first;
		flow_reset(stop_connecting(dest), RESET_ABORTED);
		discard(dest);
	}
	for (struct dest *dest = connector->open.first; dest; dest = dest->next)
		app_io_abort(&dest->app, RESET_ABORTED);
}

void connector_fini(struct connector *connector)
{
	ev_timer_stop(connector->runner->loop, &connector->sweep);
	app_set_fini(&connector->apps);
}
