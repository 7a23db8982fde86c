#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"
#include "sockaddr.h"

enum { ANSWER_BYTES = 4096 };

/* RTM_GETROUTE (rtnetlink(7)): how the kernel would send to one address. */
struct question {
	struct nlmsghdr head;
	struct rtmsg route;
	struct rtattr attribute;
	uint8_t ip[16];
};

static socklen_t ip_bytes(const struct addr *addr)
{
	return addr->family == ADDR_IPV4 ? 4 : 16;
}

/* RTN_LOCAL, RTN_UNICAST …, or a negative errno; -ENETUNREACH: there is no route. */
static int route_type(int fd, const struct addr *addr)
{
	struct question question = {
	        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(ip_bytes(addr)),
	                 .nlmsg_type = RTM_GETROUTE,
	                 .nlmsg_flags = NLM_F_REQUEST},
	        .route = {.rtm_family = addr->family == ADDR_IPV4 ? AF_INET : AF_INET6,
	                  .rtm_dst_len = (uint8_t)(8 * ip_bytes(addr))},
	        .attribute = {.rta_len = RTA_LENGTH(ip_bytes(addr)), .rta_type = RTA_DST},
	};
	union {
		struct nlmsghdr head;
		uint8_t bytes[ANSWER_BYTES];
	} answer;
	ssize_t got;

	memcpy(question.ip, addr->ip, ip_bytes(addr));
	if (send(fd, &question, question.head.nlmsg_len, 0) < 0)
		return -errno;
	do
		got = recv(fd, &answer, sizeof answer, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (!NLMSG_OK(&answer.head, (size_t)got))
		return -EPROTO;
	if (answer.head.nlmsg_type == NLMSG_ERROR && got >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)))
		return ((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
	if (answer.head.nlmsg_type != RTM_NEWROUTE || got < (ssize_t)NLMSG_LENGTH(sizeof(struct rtmsg)))
		return -EPROTO;
	return ((struct rtmsg *)NLMSG_DATA(&answer.head))->rtm_type;
}

/* Says yes to every address where ip_nonlocal_bind is set. */
static bool takes_bind(const struct addr *addr)
{
	struct addr any_port = *addr;
	struct sockaddr_storage sa;

	any_port.port = 0;
	socklen_t len = sockaddr_from_addr(&sa, &any_port);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno != EAFNOSUPPORT;
	bool local = bind(fd, (struct sockaddr *)&sa, len) == 0;
	close(fd);
	return local;
}

bool sock_is_local(const struct addr *addr)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int type;

	/* A service manager may keep such sockets from us. */
	if (fd < 0)
		return takes_bind(addr);
	type = route_type(fd, addr);
	close(fd);
	switch (type) {
	case RTN_LOCAL:
	case RTN_ANYCAST:
	case RTN_BROADCAST:
	case RTN_MULTICAST:
		return true;
	case -ENETUNREACH:
	case -EHOSTUNREACH:
		return false;
	default:
		/* Without an answer (no memory, no permission to ask) it is tried. */
		return type < 0 && takes_bind(addr);
	}
}
