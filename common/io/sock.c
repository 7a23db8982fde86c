#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockaddr.h"

#ifndef TCP_RTO_MAX_MS /* Linux 6.15; older ones refuse it, and double on */
#define TCP_RTO_MAX_MS 44
#endif

enum {
	STRIPE_IDLE_S = 4,
	STRIPE_PROBE_S = 1, /* on a path that loses, probes are lost as well: six in a row end a stripe */
	/* How long a path that is well again may go unnoticed, against the kernel's 120 s; above any sound RTT. */
	STRIPE_RTO_MAX_MS = 2000,
	/* Long enough for a laptop's nap, short enough that what a vanished application leaves does not pile up. */
	APP_IDLE_S = 600,
	APP_PROBE_S = 60,
	APP_PROBES = 10,
	/* As patient, but in time for connection tracking, also where its limits have been lowered. */
	HALF_CLOSED_IDLE_S = 20,
	HALF_CLOSED_PROBE_S = 20,
	HALF_CLOSED_PROBES = 59,
	FILES_MAX = 1048576,
	FILES_PROBED_MAX = 64
};

int sock_set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

int sock_set_congestion(int fd, const char *name)
{
	if (!*name)
		return 0;
	return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) < 0 ? -errno : 0;
}

bool sock_congestion_is_free(const char *name)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_allowed_congestion_control", "re");
	char word[64];
	bool found = false;

	if (!file)
		return false;
	while (!found && fscanf(file, "%63s", word) == 1)
		found = strcmp(word, name) == 0;
	fclose(file);
	return found;
}

bool sock_congestions_are_free(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_congestion_control", "re");
	char word[64];
	bool free = true;

	if (!file)
		return false;
	while (free && fscanf(file, "%63s", word) == 1)
		free = sock_congestion_is_free(word);
	fclose(file);
	return free;
}

void sock_prepare_stripe(int fd)
{
	sock_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	sock_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, STRIPE_IDLE_S);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, STRIPE_PROBE_S);
	/* With a user timeout the kernel counts time and not probes (tcp(7)). */
	sock_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SOCK_STRIPE_TIMEOUT_MS);
	sock_set(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, STRIPE_RTO_MAX_MS);
}

static void set_linger(int fd, bool reset)
{
	struct linger linger = {.l_onoff = reset, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void sock_arm(int fd)
{
	set_linger(fd, true);
}

void sock_prepare_app(int fd)
{
	sock_arm(fd);
	sock_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* Urgent data is data (RFC 6093): without this the kernel would take the byte out of the stream. */
	sock_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	sock_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, APP_IDLE_S);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, APP_PROBE_S);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPCNT, APP_PROBES);
}

void sock_keep_half_closed(int fd)
{
	sock_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, HALF_CLOSED_PROBE_S);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPCNT, HALF_CLOSED_PROBES);
	sock_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, HALF_CLOSED_IDLE_S);
}

void sock_disarm(int fd)
{
	set_linger(fd, false);
}

void sock_reset(int fd)
{
	set_linger(fd, true);
	close(fd);
}

int sock_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}

struct addr sock_local(int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof sa;

	getsockname(fd, (struct sockaddr *)&sa, &len);
	return sockaddr_to_addr(&sa);
}

uint64_t sock_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	struct rlimit most = {.rlim_cur = FILES_MAX,
	                      .rlim_max = limit.rlim_max > FILES_MAX ? limit.rlim_max : FILES_MAX};
	if (setrlimit(RLIMIT_NOFILE, &most) < 0) {
		most.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
		most.rlim_max = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &most);
	}
	return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 1024 : limit.rlim_cur;
}

bool sock_files_left(unsigned count)
{
	int fds[FILES_PROBED_MAX];
	unsigned made = 0;

	if (count > FILES_PROBED_MAX)
		count = FILES_PROBED_MAX;
	while (made < count && (fds[made] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0)
		made++;
	bool scarce = made < count && (errno == EMFILE || errno == ENFILE);
	while (made)
		close(fds[--made]);
	return !scarce;
}
