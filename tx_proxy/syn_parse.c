#include "syn_parse.h"

#include <errno.h>

enum {
	IPV4_HEADER_BYTES = 20,
	IPV6_HEADER_BYTES = 40,
	TCP_HEADER_BYTES = 20,
	PROTOCOL_TCP = 6,
	WINDOW_SCALE_MAX = 14, /* RFC 7323, section 2.3: a larger shift counts as 14 */
	WINDOW_SCALE_NONE = 255
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20 /* 0x40 and 0x80 are ECE and CWR */
};

enum tcp_option {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WINDOW_SCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_TIMESTAMPS = 8,
	OPTION_MD5 = 19,
	OPTION_AO = 29,
	OPTION_MPTCP = 30
};

enum { MPTCP_MP_JOIN = 1 };

static uint16_t read_16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t read_32(const uint8_t *at)
{
	return (uint32_t)read_16(at) << 16 | read_16(at + 2);
}

/* What a client on the network may have as its address, or ask for. Networks that are not forwarded (link-local,
 * loopback) are the business of the rules. */
static bool is_unicast(const struct addr *addr)
{
	static const uint8_t zero_or_mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *ip = addr->ip;

	if (addr->family == ADDR_IPV4)
		return ip[0] != 0 && ip[0] < 224; /* 224/4 multicast, 240/4 reserved and broadcast */
	if (ip[0] == 0xff || memcmp(ip, zero_or_mapped, sizeof zero_or_mapped) == 0)
		return false;
	for (size_t i = 0; i < 16; i++) {
		if (ip[i] != 0)
			return true;
	}
	return false;
}

static int parse_option(struct syn *syn, uint8_t kind, const uint8_t *value, size_t value_bytes)
{
	switch (kind) {
	case OPTION_MSS:
		if (value_bytes != 2)
			return -EINVAL;
		syn->mss = read_16(value);
		return 0;
	case OPTION_WINDOW_SCALE:
		if (value_bytes != 1)
			return -EINVAL;
		syn->window_scale = value[0] > WINDOW_SCALE_MAX ? WINDOW_SCALE_MAX : value[0];
		return 0;
	case OPTION_SACK_PERMITTED:
		if (value_bytes != 0)
			return -EINVAL;
		syn->sack_permitted = true;
		return 0;
	case OPTION_TIMESTAMPS:
		if (value_bytes != 8)
			return -EINVAL;
		syn->timestamps = true;
		return 0;
	case OPTION_MD5:
	case OPTION_AO:
		return -EINVAL;
	case OPTION_MPTCP:
		return value_bytes < 1 || value[0] >> 4 == MPTCP_MP_JOIN ? -EINVAL : 0;
	default:
		return 0;
	}
}

static int parse_options(struct syn *syn, const uint8_t *at, const uint8_t *end)
{
	while (at < end && at[0] != OPTION_END) {
		size_t option_bytes;
		int err;

		if (at[0] == OPTION_NOP) {
			at++;
			continue;
		}
		if (end - at < 2)
			return -EINVAL;
		option_bytes = at[1];
		if (option_bytes < 2 || option_bytes > (size_t)(end - at))
			return -EINVAL;
		err = parse_option(syn, at[0], at + 2, option_bytes - 2);
		if (err)
			return err;
		at += option_bytes;
	}
	return 0;
}

static int parse_tcp(struct syn *syn, const uint8_t *tcp, size_t len_bytes)
{
	const unsigned must_be_clear = TCP_FIN | TCP_RST | TCP_PSH | TCP_ACK | TCP_URG;
	size_t header_bytes;

	if (len_bytes < TCP_HEADER_BYTES)
		return -EINVAL;
	header_bytes = (size_t)(tcp[12] >> 4) * 4;
	if (header_bytes < TCP_HEADER_BYTES || header_bytes > len_bytes)
		return -EINVAL;
	if (!(tcp[13] & TCP_SYN) || (tcp[13] & must_be_clear))
		return -EINVAL;
	syn->src.port = read_16(tcp);
	syn->dst.port = read_16(tcp + 2);
	syn->isn = read_32(tcp + 4);
	if (syn->src.port == 0 || syn->dst.port == 0)
		return -EINVAL;
	return parse_options(syn, tcp + TCP_HEADER_BYTES, tcp + header_bytes);
}

/* Cuts *len_bytes to what belongs to the packet, and gives the size of its IP header. */
static int parse_ipv4(struct syn *syn, const uint8_t *ip, size_t *len_bytes)
{
	size_t total_bytes;

	if (*len_bytes < IPV4_HEADER_BYTES || (ip[0] & 0x0f) * 4 != IPV4_HEADER_BYTES)
		return -EINVAL;
	total_bytes = read_16(ip + 2);
	if (total_bytes < IPV4_HEADER_BYTES)
		return -EINVAL;
	if (total_bytes < *len_bytes)
		*len_bytes = total_bytes;
	if ((read_16(ip + 6) & 0x3fff) != 0) /* "more fragments" or an offset */
		return -EINVAL;
	if (ip[9] != PROTOCOL_TCP)
		return -EINVAL;
	syn->dscp = ip[1] >> 2;
	syn->src.family = ADDR_IPV4;
	memcpy(syn->src.ip, ip + 12, 4);
	syn->dst.family = ADDR_IPV4;
	memcpy(syn->dst.ip, ip + 16, 4);
	return IPV4_HEADER_BYTES;
}

static int parse_ipv6(struct syn *syn, const uint8_t *ip, size_t *len_bytes)
{
	size_t total_bytes;

	if (*len_bytes < IPV6_HEADER_BYTES)
		return -EINVAL;
	total_bytes = IPV6_HEADER_BYTES + (size_t)read_16(ip + 4);
	if (total_bytes < *len_bytes)
		*len_bytes = total_bytes;
	if (ip[6] != PROTOCOL_TCP)
		return -EINVAL;
	syn->dscp = (uint8_t)(read_16(ip) >> 6 & 0x3f);
	syn->src.family = ADDR_IPV6;
	memcpy(syn->src.ip, ip + 8, 16);
	syn->dst.family = ADDR_IPV6;
	memcpy(syn->dst.ip, ip + 24, 16);
	return IPV6_HEADER_BYTES;
}

int syn_parse(struct syn *syn, const uint8_t *bytes, size_t len_bytes)
{
	struct syn parsed;
	int header_bytes;
	int err;

	memset(&parsed, 0, sizeof parsed);
	parsed.window_scale = WINDOW_SCALE_NONE;
	if (len_bytes < 1)
		return -EINVAL;
	switch (bytes[0] >> 4) {
	case 4:
		header_bytes = parse_ipv4(&parsed, bytes, &len_bytes);
		break;
	case 6:
		header_bytes = parse_ipv6(&parsed, bytes, &len_bytes);
		break;
	default:
		return -EINVAL;
	}
	if (header_bytes < 0)
		return header_bytes;
	if (!is_unicast(&parsed.src) || !is_unicast(&parsed.dst))
		return -EINVAL;
	err = parse_tcp(&parsed, bytes + header_bytes, len_bytes - (size_t)header_bytes);
	if (err)
		return err;
	*syn = parsed;
	return 0;
}
