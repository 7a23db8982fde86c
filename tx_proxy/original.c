#include "original.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "syn_parse.h"

/* linux/netfilter_ipv4.h and …/netfilter_ipv6/ip6_tables.h, which do not go together with netinet/in.h everywhere. */
enum { OPTION_ORIGINAL_DST = 80 };

static int ask_conntrack(int fd, uint8_t family, struct addr *dst)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof sa;

	if (getsockopt(fd, family == ADDR_IPV4 ? IPPROTO_IP : IPPROTO_IPV6, OPTION_ORIGINAL_DST, &sa, &len) < 0)
		return -errno;
	*dst = sockaddr_to_addr(&sa);
	return dst->family == ADDR_NONE ? -EAFNOSUPPORT : 0;
}

int original_destination(int fd, enum conf_capture_method method, uint16_t local_port, struct addr *dst)
{
	struct addr local = sock_local(fd);
	int err;

	if (local.family == ADDR_NONE)
		return -ENOTCONN;
	if (method == CONF_CAPTURE_TPROXY) {
		*dst = local;
		return local.port == local_port && sock_is_local(&local) ? -ENOENT : 0;
	}
	err = ask_conntrack(fd, local.family, dst);
	if (!err && !addr_equal(dst, &local))
		return 0;
	if (method != CONF_CAPTURE_NONE)
		return err && err != -ENOPROTOOPT ? err : -ENOENT;
	*dst = local;
	return 0;
}

void original_keep_syn(int listener_fd)
{
	sock_set(listener_fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
}

int original_isn(int fd, uint32_t *isn)
{
	uint8_t headers[SYN_PARSE_BYTES];
	socklen_t len = sizeof headers;
	struct syn syn;

	if (getsockopt(fd, IPPROTO_TCP, TCP_SAVED_SYN, headers, &len) < 0 || syn_parse(&syn, headers, len) < 0)
		return -ENOENT;
	*isn = syn.isn;
	return 0;
}
