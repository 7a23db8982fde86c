/* A listening socket without a free descriptor, with both families, and the loop that must not spin. */
#include "../../common/io/listener.h"
#include "../../common/io/sock.h"
#include "../../common/io/sockaddr.h"
#include "../unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 8 };

static int accepted_fds[CLIENTS];
static unsigned accepted;
static struct addr last_remote;
static unsigned wakeups;

static void on_accepted(void *user, int fd, const struct addr *remote)
{
	if (accepted == CLIENTS) {
		close(fd);
		return;
	}
	accepted_fds[accepted++] = fd;
	last_remote = *remote;
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
	wakeups++;
}

static void on_over(struct ev_loop *loop, ev_timer *w, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

static void run_for(struct ev_loop *loop, double seconds)
{
	ev_timer over;
	ev_prepare prepare;

	wakeups = 0;
	ev_prepare_init(&prepare, on_prepare);
	ev_prepare_start(loop, &prepare);
	ev_timer_init(&over, on_over, seconds, 0);
	ev_timer_start(loop, &over);
	ev_run(loop, 0);
	ev_prepare_stop(loop, &prepare);
}

static int dial(const char *host, uint16_t port)
{
	struct addr addr;
	struct sockaddr_storage sa;

	sockaddr_parse(&addr, host);
	addr.port = port;
	socklen_t len = sockaddr_from_addr(&sa, &addr);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, len) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd < 0 ? -errno : fd;
}

/* A listener on a port that the kernel chooses: ports of other tests are left alone. */
static bool open_somewhere(struct listener *listener, struct ev_loop *loop)
{
	return listener_open(listener, loop, 0, false, on_accepted, NULL) == 0;
}

static void close_accepted(void)
{
	while (accepted)
		close(accepted_fds[--accepted]);
}

/* The lowest number that a new descriptor would get. */
static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static bool limit_files(rlim_t files)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return false;
	limit.rlim_cur = files;
	return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

int main(void)
{
	struct ev_loop *loop = ev_default_loop(EVFLAG_NOENV);
	struct listener listener;

	UNIT_CASE("listener: IPv4 connections come with IPv4 addresses") {
		if (!UNIT_TRUE(open_somewhere(&listener, loop)))
			break;
		int fd = dial("127.0.0.1", sock_local(listener.watcher.fd).port);
		UNIT_TRUE(fd >= 0);
		run_for(loop, 0.05);
		UNIT_EQ(accepted, 1);
		UNIT_EQ(last_remote.family, ADDR_IPV4);
		close(fd);
		close_accepted();
		listener_close(&listener);
		listener_close(&listener);
	}

	UNIT_CASE("listener: IPv6 connections on the same port") {
		if (!UNIT_TRUE(open_somewhere(&listener, loop)))
			break;
		int fd = dial("::1", sock_local(listener.watcher.fd).port);
		if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT || fd == -ENETUNREACH) {
			unit_skip("no IPv6 here");
		} else {
			UNIT_TRUE(fd >= 0);
			run_for(loop, 0.05);
			UNIT_EQ(accepted, 1);
			UNIT_EQ(last_remote.family, ADDR_IPV6);
			close(fd);
		}
		close_accepted();
		listener_close(&listener);
	}

	UNIT_CASE("listener: a port in use") {
		struct listener second;
		if (!UNIT_TRUE(open_somewhere(&listener, loop)))
			break;
		UNIT_EQ(listener_open(&second, loop, sock_local(listener.watcher.fd).port, false, on_accepted, NULL),
		        -EADDRINUSE);
		listener_close(&second);
		listener_close(&listener);
	}

	UNIT_CASE("listener: without descriptors connections are reset, and the loop sleeps") {
		int clients[CLIENTS];
		struct rlimit before;
		getrlimit(RLIMIT_NOFILE, &before);
		if (!UNIT_TRUE(open_somewhere(&listener, loop)))
			break;
		for (int i = 0; i < CLIENTS; i++)
			clients[i] = dial("127.0.0.1", sock_local(listener.watcher.fd).port);
		UNIT_TRUE(limit_files((rlim_t)next_fd()));
		run_for(loop, 0.25);
		UNIT_EQ(accepted, 0);
		UNIT_TRUE(wakeups < 50);
		for (int i = 0; i < CLIENTS; i++) {
			char byte;
			UNIT_EQ(recv(clients[i], &byte, 1, MSG_DONTWAIT), -1);
			UNIT_EQ(errno, ECONNRESET);
			close(clients[i]);
		}
		limit_files(before.rlim_cur);
		int fd = dial("127.0.0.1", sock_local(listener.watcher.fd).port);
		run_for(loop, 0.2);
		UNIT_EQ(accepted, 1);
		close(fd);
		close_accepted();
		listener_close(&listener);
	}
	ev_loop_destroy(loop);
	return unit_exit();
}
