#define _GNU_SOURCE /* accept4 */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "sock.h"
#include "sockaddr.h"

enum {
	BACKLOG = 4096,
	ACCEPTS_MAX = 64 /* in one wakeup */
};

static const double pause_s = 0.1;

static struct log_limit limit = LOG_LIMIT_DEFAULT;

static int open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* 1: one was accepted and reset; 0: nothing to accept; or a negative errno. */
static int refuse_one(struct listener *listener)
{
	int fd;

	if (listener->spare_fd < 0)
		return -EMFILE;
	close(listener->spare_fd);
	fd = accept4(listener->watcher.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int error = errno;
	if (fd >= 0)
		sock_reset(fd);
	listener->spare_fd = open_spare();
	if (fd >= 0)
		return 1;
	return error == EAGAIN ? 0 : -error;
}

static void take_pause(struct listener *listener)
{
	ev_io_stop(listener->loop, &listener->watcher);
	ev_timer_set(&listener->pause, pause_s, 0);
	ev_timer_start(listener->loop, &listener->pause);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int events)
{
	struct listener *listener = w->data;

	if (listener->spare_fd < 0)
		listener->spare_fd = open_spare();
	ev_io_start(loop, &listener->watcher);
}

/* What accept(2) could not do. True: go on. */
static bool accept_failed(struct listener *listener, int error)
{
	char why[128];

	/* Errors of the connection and not of the listening socket (accept(2), "Error handling"). */
	switch (error) {
	case EAGAIN:
		return false;
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return true;
	default:
		break;
	}
	log_limited(&limit, LOG_LEVEL_WARN, "accept_failed", "port=%u error=%s", listener->port,
	            log_value(why, sizeof why, strerror(error)));
	if (error == EMFILE || error == ENFILE) {
		int refused = refuse_one(listener);
		if (refused >= 0)
			return refused > 0;
	}
	take_pause(listener);
	return false;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct listener *listener = w->data;

	for (unsigned i = 0; i < ACCEPTS_MAX && w->fd >= 0; i++) {
		struct sockaddr_storage sa = {0};
		socklen_t len = sizeof sa;
		int fd = accept4(w->fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (!accept_failed(listener, errno))
				return;
			continue;
		}
		struct addr remote = sockaddr_to_addr(&sa);
		listener->accepted(listener->user, fd, &remote);
	}
}

/* The socket, or a negative errno. */
static int open_family(uint8_t family, uint16_t port, bool transparent)
{
	struct sockaddr_storage sa;
	struct addr any = {.family = family, .port = port};
	socklen_t len = sockaddr_from_addr(&sa, &any);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = sock_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!err)
		err = sock_set(fd, SOL_SOCKET, SO_OOBINLINE,
		               1); /* inherited, for urgent data that comes before accept */
	if (!err && family == ADDR_IPV6)
		err = sock_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (!err && transparent)
		err = sock_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
	if (!err && transparent && family == ADDR_IPV6)
		err = sock_set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	if (!err && bind(fd, (struct sockaddr *)&sa, len) < 0)
		err = -errno;
	if (!err && listen(fd, BACKLOG) < 0)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

int listener_open(struct listener *listener, struct ev_loop *loop, uint16_t port, bool transparent,
                  void (*accepted)(void *user, int fd, const struct addr *remote), void *user)
{
	int fd = open_family(ADDR_IPV6, port, transparent);

	*listener = (struct listener){.port = port, .loop = loop, .spare_fd = -1, .accepted = accepted, .user = user};
	listener->watcher.fd = -1;
	/* A machine without IPv6, or with IPv6 switched off. */
	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)
		fd = open_family(ADDR_IPV4, port, transparent);
	if (fd < 0)
		return fd;
	ev_io_init(&listener->watcher, on_readable, fd, EV_READ);
	ev_set_priority(&listener->watcher, LISTENER_PRIORITY);
	ev_timer_init(&listener->pause, on_pause_over, 0, 0);
	listener->watcher.data = listener->pause.data = listener;
	listener->spare_fd = open_spare();
	ev_io_start(loop, &listener->watcher);
	return 0;
}

void listener_close(struct listener *listener)
{
	if (listener->watcher.fd < 0)
		return;
	ev_timer_stop(listener->loop, &listener->pause);
	ev_io_stop(listener->loop, &listener->watcher);
	close(listener->watcher.fd);
	ev_io_set(&listener->watcher, -1, EV_READ);
	if (listener->spare_fd >= 0)
		close(listener->spare_fd);
	listener->spare_fd = -1;
}
