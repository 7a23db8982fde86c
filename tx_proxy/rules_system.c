#define _GNU_SOURCE /* memfd_create */
#include "rules_system.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/io/log.h"

enum { EXIT_NOT_FOUND = 127 };

/* In the child. A daemon's PATH often lacks the folders of the system's programs. */
static void exec_program(const char *const argv[])
{
	static const char *const folders[] = {"/usr/sbin", "/sbin"};
	char file[256];

	execvp(argv[0], (char *const *)argv);
	for (size_t i = 0; errno == ENOENT && i < sizeof folders / sizeof folders[0]; i++) {
		snprintf(file, sizeof file, "%s/%s", folders[i], argv[0]);
		execv(file, (char *const *)argv);
	}
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND ? -ENOENT : -EIO;
}

/* A file in memory rather than a pipe: no input can be too large for it, and none is left over when the program
 * ends early. */
static int open_input(const char *input)
{
	size_t left_bytes = strlen(input);
	int fd = memfd_create("rules", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (left_bytes > 0) {
		ssize_t written = write(fd, input, left_bytes);

		if (written < 0 && errno != EINTR) {
			int err = -errno;

			close(fd);
			return err;
		}
		if (written > 0) {
			input += written;
			left_bytes -= (size_t)written;
		}
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

int rules_run(const char *const argv[], const char *input, bool quiet)
{
	int input_fd = input ? open_input(input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int err;
	pid_t pid;

	if (input_fd < 0 || null_fd < 0) {
		err = input_fd < 0 && input ? input_fd : -errno;
		goto cleanup;
	}
	pid = fork();
	if (pid == 0) {
		if (dup2(input_fd, 0) == 0 && dup2(quiet ? null_fd : 2, 1) == 1 && (!quiet || dup2(null_fd, 2) == 2))
			exec_program(argv);
		_exit(errno == ENOENT ? EXIT_NOT_FOUND : 126);
	}
	err = pid < 0 ? -errno : wait_for(pid);
cleanup:
	if (input_fd >= 0)
		close(input_fd);
	if (null_fd >= 0)
		close(null_fd);
	return err;
}

static bool is_bridge(int fd, const char *name)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq request;

	memset(&request, 0, sizeof request);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	request.ifr_data = (char *)&info;
	return ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(info.driver, "bridge") == 0;
}

static void enable_switch(const char *name)
{
	char file[64];
	char value = '1';
	int fd;

	snprintf(file, sizeof file, "/proc/sys/net/bridge/%s", name);
	fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOENT)
			log_event(LOG_LEVEL_WARN, "bridge_unfiltered",
			          "why=\"%s is missing: modprobe br_netfilter, and load it at boot\"", file);
		else
			log_event(LOG_LEVEL_WARN, "bridge_unfiltered", "why=\"%s: %s: sysctl -w net.bridge.%s=1\"",
			          file, strerror(errno), name);
		return;
	}
	if (read(fd, &value, 1) == 1 && value == '0') {
		if (pwrite(fd, "1\n", 2, 0) == 2)
			log_event(LOG_LEVEL_INFO, "bridge_filtered", "sysctl=net.bridge.%s value=1", name);
		else
			log_event(LOG_LEVEL_WARN, "bridge_unfiltered", "why=\"sysctl -w net.bridge.%s=1 failed: %s\"",
			          name, strerror(errno));
	}
	close(fd);
}

static bool has_address(const struct ifaddrs *addresses, const char *interface, int family)
{
	for (const struct ifaddrs *a = addresses; a; a = a->ifa_next) {
		if (a->ifa_addr && a->ifa_addr->sa_family == family && strcmp(a->ifa_name, interface) == 0)
			return true;
	}
	return false;
}

static void check_addresses(const struct conf_capture *capture)
{
	struct ifaddrs *addresses;

	if (getifaddrs(&addresses) < 0)
		return;
	for (size_t i = 0; i < capture->interface_count; i++) {
		const char *name = capture->interfaces[i];

		if (if_nametoindex(name) == 0)
			log_event(LOG_LEVEL_WARN, "capture_interface_missing", "interface=%s", name);
		else if (!has_address(addresses, name, AF_INET) && capture->method == CONF_CAPTURE_REDIRECT)
			log_event(LOG_LEVEL_WARN, "capture_interface_without_address",
			          "interface=%s why=\"captured IPv4 connections cannot be redirected\"", name);
	}
	freeifaddrs(addresses);
}

void rules_check_system(const struct conf_capture *capture)
{
	struct if_nameindex *all = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool bridged = false;

	for (const struct if_nameindex *one = all; one && one->if_index != 0 && fd >= 0; one++) {
		bool watched = capture->interface_count == 0;

		for (size_t i = 0; i < capture->interface_count; i++)
			watched |= strcmp(capture->interfaces[i], one->if_name) == 0;
		if (watched && is_bridge(fd, one->if_name))
			bridged = true;
	}
	if (bridged) {
		enable_switch("bridge-nf-call-iptables");
		enable_switch("bridge-nf-call-ip6tables");
		if (capture->method == CONF_CAPTURE_TPROXY)
			log_event(LOG_LEVEL_WARN, "tproxy_on_bridge",
			          "why=\"a bridge forwards what tproxy would deliver\"");
	}
	check_addresses(capture);
	if (all)
		if_freenameindex(all);
	if (fd >= 0)
		close(fd);
}
