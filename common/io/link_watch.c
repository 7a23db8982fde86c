#include "link_watch.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "log.h"

enum {
	GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE |
	         RTMGRP_IPV4_RULE | 1 << (RTNLGRP_IPV6_RULE - 1),
	RECEIVE_BYTES = 32 * 1024, /* as much as the kernel puts into one datagram of a dump (libmnl) */
	SEND_BYTES = 128,
	DATAGRAMS_PER_WAKEUP = 64,
	SETTLE_MS = 10, /* an address comes with its routes, a new interface in several steps */
	SPACING_MS = 100
};

enum look { LOOK_NONE, LOOK_LINKS, LOOK_ADDRESSES };

struct link_watch {
	struct mnl_socket *socket;
	struct link_table table;
	enum look look;
	uint32_t seq;         /* of the dump that was asked for last */
	bool stale;           /* something was missed: look again */
	struct ev_loop *loop; /* NULL: not started */
	ev_io readable;
	ev_timer timer; /* runs while there is something to tell, or to look at */
	bool news;      /* to be told */
	double told_at; /* ev_now of the last time */
	const struct link_watch_ops *ops;
	void *user;
};

static struct log_limit missed_limit = {.burst = 3, .interval_us = 60000000};

/* Sees to it that the timer runs. */
static void schedule(struct link_watch *watch)
{
	if (!watch->loop || ev_is_active(&watch->timer))
		return;
	double wait = SETTLE_MS / 1e3;
	double spaced = watch->told_at + SPACING_MS / 1e3 - ev_now(watch->loop);
	/* ev_now is the wall clock, which may have been set back. */
	if (spaced > SPACING_MS / 1e3)
		spaced = SPACING_MS / 1e3;
	ev_timer_set(&watch->timer, spaced > wait ? spaced : wait, 0);
	ev_timer_start(watch->loop, &watch->timer);
}

static void missed(struct link_watch *watch)
{
	watch->stale = true;
	schedule(watch);
}

static void changed(struct link_watch *watch)
{
	watch->news = true;
	schedule(watch);
}

/* --- Looking ------------------------------------------------------------------------------------------------------ */

static int ask(struct link_watch *watch, uint16_t type, size_t head_bytes, enum look look)
{
	char buf[SEND_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	struct nlmsghdr *message = mnl_nlmsg_put_header(buf);

	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	message->nlmsg_seq = ++watch->seq;
	mnl_nlmsg_put_extra_header(message, head_bytes); /* all 0: every interface, every family */
	if (type == RTM_GETLINK)
		mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	watch->look = look;
	return mnl_socket_sendto(watch->socket, message, message->nlmsg_len) < 0 ? -errno : 0;
}

static int look(struct link_watch *watch)
{
	watch->stale = false;
	link_table_begin_look(&watch->table);
	return ask(watch, RTM_GETLINK, sizeof(struct ifinfomsg), LOOK_LINKS);
}

/* The dump that was asked for is complete. */
static void dump_ended(struct link_watch *watch)
{
	if (watch->look == LOOK_LINKS) {
		if (link_table_end_links(&watch->table))
			changed(watch);
		if (ask(watch, RTM_GETADDR, sizeof(struct ifaddrmsg), LOOK_ADDRESSES) < 0)
			missed(watch);
	} else {
		watch->look = LOOK_NONE;
		if (link_table_end_addresses(&watch->table))
			changed(watch);
	}
}

/* --- Receiving ---------------------------------------------------------------------------------------------------- */

static void take(struct link_watch *watch, const struct nlmsghdr *message)
{
	bool answer = watch->look != LOOK_NONE && message->nlmsg_seq == watch->seq;
	struct link_route route;

	/* Something changed while the kernel was telling: it may have passed over something. */
	if (answer && message->nlmsg_flags & NLM_F_DUMP_INTR)
		missed(watch);
	if (answer && message->nlmsg_type == NLMSG_DONE) {
		dump_ended(watch);
		return;
	}
	if (answer && message->nlmsg_type == NLMSG_ERROR) {
		watch->look = LOOK_NONE;
		missed(watch);
		return;
	}
	switch (link_table_take(&watch->table, message, &route)) {
	case LINK_TABLE_SAME:
		break;
	case LINK_TABLE_CHANGED:
		changed(watch);
		break;
	case LINK_TABLE_ROUTE:
		if (watch->ops && watch->ops->route(watch->user, &route))
			changed(watch);
		break;
	default:
		missed(watch);
	}
}

/* Reads one datagram and takes what is in it. 0, or a negative errno: -EAGAIN, there is none. */
static int receive(struct link_watch *watch)
{
	char buf[RECEIVE_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	const struct nlmsghdr *message = (const struct nlmsghdr *)buf;
	struct sockaddr_nl from = {0};
	socklen_t from_len = sizeof from;
	ssize_t got =
	        recvfrom(mnl_socket_get_fd(watch->socket), buf, sizeof buf, 0, (struct sockaddr *)&from, &from_len);
	int left_bytes = (int)got;

	if (got < 0)
		return -errno;
	/* Only the kernel is believed. */
	if (from_len != sizeof from || from.nl_pid != 0)
		return 0;
	for (; mnl_nlmsg_ok(message, left_bytes); message = mnl_nlmsg_next(message, &left_bytes))
		take(watch, message);
	return 0;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct link_watch *watch = w->data;

	for (int i = 0; i < DATAGRAMS_PER_WAKEUP; i++) {
		int err = receive(watch);
		if (err == -EAGAIN)
			return;
		if (!err || err == -EINTR)
			continue;
		log_limited(&missed_limit, LOG_LEVEL_INFO, "link_news_missed", "error=\"%s\"", strerror(-err));
		missed(watch);
		return;
	}
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct link_watch *watch = w->data;

	watch->told_at = ev_now(loop);
	if (watch->stale && look(watch) < 0)
		missed(watch);
	if (!watch->news)
		return;
	watch->news = false;
	watch->ops->changed(watch->user);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

/* The kernel answers at once, and -EAGAIN means that it has nothing more to say. */
static int look_now(struct link_watch *watch)
{
	int err = look(watch);

	while (!err && watch->look != LOOK_NONE)
		err = receive(watch);
	return err;
}

int link_watch_open(struct link_watch **out)
{
	struct link_watch *watch = calloc(1, sizeof *watch);
	int err = 0;

	if (!watch)
		return -ENOMEM;
	watch->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (!watch->socket || mnl_socket_bind(watch->socket, GROUPS, MNL_SOCKET_AUTOPID) < 0)
		err = -errno;
	/* News that is lost already, or a dump that was interrupted, is for the first turn of the loop. */
	if (!err)
		err = look_now(watch);
	if (err == -ENOBUFS) {
		watch->stale = true;
		err = 0;
	}
	if (err) {
		link_watch_close(watch);
		return err;
	}
	*out = watch;
	return 0;
}

void link_watch_start(struct link_watch *watch, struct ev_loop *loop, const struct link_watch_ops *ops, void *user)
{
	watch->loop = loop;
	watch->ops = ops;
	watch->user = user;
	ev_timer_init(&watch->timer, on_timer, 0, 0);
	ev_io_init(&watch->readable, on_readable, mnl_socket_get_fd(watch->socket), EV_READ);
	watch->timer.data = watch->readable.data = watch;
	ev_io_start(loop, &watch->readable);
	if (watch->stale)
		schedule(watch);
}

const struct link_table *link_watch_table(const struct link_watch *watch)
{
	return &watch->table;
}

void link_watch_close(struct link_watch *watch)
{
	if (!watch)
		return;
	if (watch->loop) {
		ev_io_stop(watch->loop, &watch->readable);
		ev_timer_stop(watch->loop, &watch->timer);
	}
	if (watch->socket)
		mnl_socket_close(watch->socket);
	link_table_free(&watch->table);
	free(watch);
}
