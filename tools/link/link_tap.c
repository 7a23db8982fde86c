#define _GNU_SOURCE
#include "link_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Frames wait here only while this process is not running: room enough for a burst at full rate, bounded. */
#define TAP_QUEUE_FRAMES 4096

static int fail(char *why, size_t why_size, const char *what, const char *name)
{
	int error = errno;

	snprintf(why, why_size, "%s %s: %s", what, name, strerror(error));
	return -error;
}

/* Enters /run/netns/`name`. Returns a descriptor of the namespace left, or -errno. */
static int netns_enter(const char *name, char *why, size_t why_size)
{
	char path[300];
	int home_fd, fd, rc = 0;

	home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home_fd < 0)
		return fail(why, why_size, "open", "/proc/self/ns/net");
	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		rc = fail(why, why_size, "network namespace", path);
	} else {
		if (setns(fd, CLONE_NEWNET) < 0)
			rc = fail(why, why_size, "enter network namespace", path);
		close(fd);
	}
	if (rc < 0) {
		close(home_fd);
		return rc;
	}
	return home_fd;
}

static int netns_leave(int home_fd, char *why, size_t why_size)
{
	int rc = 0;

	if (setns(home_fd, CLONE_NEWNET) < 0)
		rc = fail(why, why_size, "return to", "the first network namespace");
	close(home_fd);
	return rc;
}

static int tap_create(struct link_tap *tap, char *why, size_t why_size)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL};

	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0)
		return fail(why, why_size, "open", "/dev/net/tun");
	memcpy(request.ifr_name, tap->name, IFNAMSIZ);
	if (ioctl(tap->fd, TUNSETIFF, &request) < 0)
		return fail(why, why_size, "create TAP", tap->spec);
	if (ioctl(tap->fd, TUNSETOFFLOAD, 0UL) < 0)
		return fail(why, why_size, "turn off offloads of", tap->spec);
	return 0;
}

/* In the namespace of the device. */
static int tap_configure(const struct link_tap *tap, unsigned mtu_bytes, char *why, size_t why_size)
{
	struct ifreq request = {.ifr_flags = 0};
	int fd, rc = 0;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(why, why_size, "socket for", tap->spec);
	memcpy(request.ifr_name, tap->name, IFNAMSIZ);
	request.ifr_mtu = (int)mtu_bytes;
	if (ioctl(fd, SIOCSIFMTU, &request) < 0)
		rc = fail(why, why_size, "set MTU of", tap->spec);
	request.ifr_qlen = TAP_QUEUE_FRAMES;
	if (rc == 0 && ioctl(fd, SIOCSIFTXQLEN, &request) < 0)
		rc = fail(why, why_size, "set queue length of", tap->spec);
	if (rc == 0 && ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		rc = fail(why, why_size, "read flags of", tap->spec);
	request.ifr_flags |= IFF_UP;
	if (rc == 0 && ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		rc = fail(why, why_size, "bring up", tap->spec);
	close(fd);
	return rc;
}

int link_tap_open(struct link_tap *tap, const char *spec, unsigned mtu_bytes, char *why, size_t why_size)
{
	const char *at = strchr(spec, '@');
	size_t name_len = at ? (size_t)(at - spec) : strlen(spec);
	int home_fd = -1, rc, back;

	memset(tap, 0, sizeof(*tap));
	tap->fd = -1;
	if (name_len == 0 || name_len >= IFNAMSIZ || strlen(spec) >= sizeof(tap->spec) || (at && at[1] == '\0')) {
		snprintf(why, why_size, "%s: expected NAME or NAME@NETNS, NAME of 1 to %d bytes", spec, IFNAMSIZ - 1);
		return -EINVAL;
	}
	memcpy(tap->name, spec, name_len);
	memcpy(tap->spec, spec, strlen(spec) + 1);
	if (at) {
		home_fd = netns_enter(at + 1, why, why_size);
		if (home_fd < 0)
			return home_fd;
	}
	rc = tap_create(tap, why, why_size);
	if (rc == 0)
		rc = tap_configure(tap, mtu_bytes, why, why_size);
	if (home_fd >= 0) {
		back = netns_leave(home_fd, why, why_size);
		rc = rc < 0 ? rc : back;
	}
	if (rc < 0)
		link_tap_close(tap);
	return rc;
}

void link_tap_close(struct link_tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -1;
}
