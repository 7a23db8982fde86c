#include "sockaddr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static struct addr addr_from_in6(const struct in6_addr *in6, uint16_t port)
{
	struct addr addr = {.port = port};

	/* A dual-stack socket shows IPv4 as ::ffff:a.b.c.d; one spelling keeps comparisons and prefix lists simple. */
	if (IN6_IS_ADDR_V4MAPPED(in6)) {
		addr.family = ADDR_IPV4;
		memcpy(addr.ip, in6->s6_addr + 12, 4);
	} else {
		addr.family = ADDR_IPV6;
		memcpy(addr.ip, in6->s6_addr, 16);
	}
	return addr;
}

socklen_t sockaddr_from_addr(struct sockaddr_storage *sa, const struct addr *addr)
{
	struct sockaddr_in *in = (struct sockaddr_in *)sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;

	memset(sa, 0, sizeof *sa);
	if (addr->family == ADDR_IPV4) {
		in->sin_family = AF_INET;
		in->sin_port = htons(addr->port);
		memcpy(&in->sin_addr, addr->ip, 4);
		return sizeof *in;
	}
	assert(addr->family == ADDR_IPV6);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(addr->port);
	memcpy(&in6->sin6_addr, addr->ip, 16);
	return sizeof *in6;
}

struct addr sockaddr_to_addr(const struct sockaddr_storage *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
	struct addr addr = {.family = ADDR_NONE};

	if (sa->ss_family == AF_INET6)
		return addr_from_in6(&in6->sin6_addr, ntohs(in6->sin6_port));
	if (sa->ss_family == AF_INET) {
		addr.family = ADDR_IPV4;
		addr.port = ntohs(in->sin_port);
		memcpy(addr.ip, &in->sin_addr, 4);
	}
	return addr;
}

const char *sockaddr_text(char buf[SOCKADDR_TEXT_MAX], const struct addr *addr)
{
	char ip[INET6_ADDRSTRLEN];

	if (addr->family == ADDR_NONE) {
		snprintf(buf, SOCKADDR_TEXT_MAX, "none");
		return buf;
	}
	inet_ntop(addr->family == ADDR_IPV4 ? AF_INET : AF_INET6, addr->ip, ip, sizeof ip);
	if (!addr->port)
		snprintf(buf, SOCKADDR_TEXT_MAX, "%s", ip);
	else if (addr->family == ADDR_IPV4)
		snprintf(buf, SOCKADDR_TEXT_MAX, "%s:%u", ip, addr->port);
	else
		snprintf(buf, SOCKADDR_TEXT_MAX, "[%s]:%u", ip, addr->port);
	return buf;
}

int sockaddr_parse(struct addr *addr, const char *text)
{
	struct in6_addr in6;
	struct in_addr in;

	if (inet_pton(AF_INET, text, &in) == 1) {
		memset(addr, 0, sizeof *addr);
		addr->family = ADDR_IPV4;
		memcpy(addr->ip, &in, 4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &in6) == 1) {
		*addr = addr_from_in6(&in6, 0);
		return 0;
	}
	return -EINVAL;
}
