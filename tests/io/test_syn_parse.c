#include <errno.h>
#include <stdlib.h>

#include "../../tx_proxy/syn_parse.h"
#include "../unit/unit.h"

enum { PACKET_MAX = 256, IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20 };

/* What a packet is built from; then single bytes are changed. */
struct packet {
	uint8_t bytes[PACKET_MAX];
	size_t len_bytes;
	size_t tcp_at; /* where the TCP header begins */
};

/* Linux's options: MSS 1460, SACK permitted, timestamps, NOP, window scale 7. */
static const uint8_t linux_options[20] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7};

static void append_tcp(struct packet *p, const uint8_t *options, size_t option_bytes)
{
	size_t padded_bytes = (option_bytes + 3) / 4 * 4;
	uint8_t *tcp = p->bytes + p->tcp_at;

	tcp[0] = 0x9c, tcp[1] = 0x40; /* 40000 */
	tcp[2] = 0x01, tcp[3] = 0xbb; /* 443 */
	tcp[4] = 0xfe, tcp[5] = 0xdc, tcp[6] = 0xba, tcp[7] = 0x98;
	tcp[12] = (uint8_t)((TCP_BYTES + padded_bytes) / 4 << 4);
	tcp[13] = 0x02;
	if (option_bytes)
		memcpy(tcp + TCP_BYTES, options, option_bytes);
	p->len_bytes = p->tcp_at + TCP_BYTES + padded_bytes;
}

static struct packet make_ipv4(const uint8_t *options, size_t option_bytes)
{
	static const uint8_t header[IPV4_BYTES] = {0x45, 0xb8, 0,   0,   0x12, 0x34, 0x40, 0, 64, 6,
	                                           0,    0,    192, 168, 2,    11,   192,  0, 2,  1};
	struct packet p = {.tcp_at = IPV4_BYTES};

	memcpy(p.bytes, header, sizeof header);
	append_tcp(&p, options, option_bytes);
	p.bytes[3] = (uint8_t)p.len_bytes;
	return p;
}

static struct packet make_ipv6(const uint8_t *options, size_t option_bytes)
{
	static const uint8_t header[IPV6_BYTES] = {
	        0x6b, 0x80, 0,    0,           0,           0,           6,           64,          0x20,
	        0x01, 0x0d, 0xb8, [23] = 0x11, [24] = 0x20, [25] = 0x01, [26] = 0x0d, [27] = 0xb8, [39] = 0x01};
	struct packet p = {.tcp_at = IPV6_BYTES};

	memcpy(p.bytes, header, sizeof header);
	append_tcp(&p, options, option_bytes);
	p.bytes[5] = (uint8_t)(p.len_bytes - IPV6_BYTES);
	return p;
}

/* Parses a copy that ends where the packet ends, so that a memory checker sees a read behind it. */
static int parse_exactly(struct syn *syn, const uint8_t *bytes, size_t len_bytes)
{
	uint8_t *copy = malloc(len_bytes ? len_bytes : 1);
	int err;

	if (!copy)
		abort();
	if (len_bytes)
		memcpy(copy, bytes, len_bytes);
	err = syn_parse(syn, copy, len_bytes);
	free(copy);
	return err;
}

static int parse_packet(struct syn *syn, const struct packet *p)
{
	return parse_exactly(syn, p->bytes, p->len_bytes);
}

static void test_plain(void)
{
	struct packet p = make_ipv4(linux_options, sizeof linux_options);
	struct syn syn;

	UNIT_CASE("an IPv4 SYN of Linux is read in full") {
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.src.family, ADDR_IPV4);
		UNIT_EQ(syn.src.port, 40000);
		UNIT_MEM(syn.src.ip, ((uint8_t[16]){192, 168, 2, 11}), 16);
		UNIT_EQ(syn.dst.family, ADDR_IPV4);
		UNIT_EQ(syn.dst.port, 443);
		UNIT_MEM(syn.dst.ip, ((uint8_t[16]){192, 0, 2, 1}), 16);
		UNIT_EQ(syn.mss, 1460);
		UNIT_EQ(syn.window_scale, 7);
		UNIT_EQ(syn.dscp, 46);
		UNIT_EQ(syn.isn, 0xfedcba98);
		UNIT_TRUE(syn.sack_permitted);
		UNIT_TRUE(syn.timestamps);
	}
	UNIT_CASE("an IPv6 SYN of Linux is read in full") {
		p = make_ipv6(linux_options, sizeof linux_options);
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.src.family, ADDR_IPV6);
		UNIT_EQ(syn.src.port, 40000);
		UNIT_MEM(syn.src.ip, ((uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, [15] = 0x11}), 16);
		UNIT_EQ(syn.dst.family, ADDR_IPV6);
		UNIT_EQ(syn.dst.port, 443);
		UNIT_MEM(syn.dst.ip, ((uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, [15] = 0x01}), 16);
		UNIT_EQ(syn.mss, 1460);
		UNIT_EQ(syn.window_scale, 7);
		UNIT_EQ(syn.dscp, 46);
		UNIT_EQ(syn.isn, 0xfedcba98);
		UNIT_TRUE(syn.sack_permitted && syn.timestamps);
	}
	UNIT_CASE("a SYN without options has none") {
		p = make_ipv4(NULL, 0);
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.mss, 0);
		UNIT_EQ(syn.window_scale, 255);
		UNIT_TRUE(!syn.sack_permitted && !syn.timestamps);
	}
	UNIT_CASE("a packet that is refused leaves the result alone") {
		memset(&syn, 0x5a, sizeof syn);
		p = make_ipv4(linux_options, sizeof linux_options);
		p.bytes[p.tcp_at + 13] = 0x12;
		UNIT_EQ(parse_packet(&syn, &p), -EINVAL);
		for (size_t i = 0; i < sizeof syn; i++)
			UNIT_EQ(((uint8_t *)&syn)[i], 0x5a);
	}
}

/* Options: bytes on the wire and what must come of them. */
static void test_options(void)
{
	static const struct {
		const char *name;
		uint8_t options[40];
		size_t option_bytes;
		int want;
	} cases[] = {
	        {"forty bytes of NOP",
	         {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	         40,
	         0},
	        {"what follows the end of the list is not read", {0, 2, 0, 255}, 4, 0},
	        {"an unknown option is skipped", {254, 4, 9, 9, 2, 4, 2, 24}, 8, 0},
	        {"an unknown option without a value", {253, 2, 1, 1}, 4, 0},
	        {"TCP Fast Open, an empty cookie", {34, 2, 1, 1}, 4, 0},
	        {"MPTCP: MP_CAPABLE", {30, 4, 0x01, 0x81}, 4, 0},
	        {"MPTCP: MP_JOIN", {30, 12, 0x10, 1, 1, 2, 3, 4, 5, 6, 7, 8}, 12, -EINVAL},
	        {"MPTCP without a subtype", {30, 2, 1, 1}, 4, -EINVAL},
	        {"TCP-MD5", {19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 18, -EINVAL},
	        {"TCP-AO", {29, 4, 1, 2}, 4, -EINVAL},
	        {"a kind without a length, as the last byte", {1, 1, 1, 2}, 4, -EINVAL},
	        {"length 0 (would not advance)", {2, 0, 5, 180}, 4, -EINVAL},
	        {"length 1 (shorter than itself)", {254, 1, 5, 180}, 4, -EINVAL},
	        {"one byte longer than the header", {2, 5, 5, 180}, 4, -EINVAL},
	        {"length 255", {254, 255, 1, 1}, 4, -EINVAL},
	        {"MSS of three bytes", {2, 3, 5, 1}, 4, -EINVAL},
	        {"MSS of five bytes", {2, 5, 5, 180, 0, 1, 1, 1}, 8, -EINVAL},
	        {"window scale without a value", {3, 2, 1, 1}, 4, -EINVAL},
	        {"window scale of four bytes", {3, 4, 7, 7}, 4, -EINVAL},
	        {"SACK permitted with a value", {4, 3, 1, 1}, 4, -EINVAL},
	        {"timestamps cut short", {8, 8, 1, 2, 3, 4, 5, 6}, 8, -EINVAL},
	};
	struct packet p;
	struct syn syn;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		UNIT_CASE("option: %s", cases[i].name) {
			p = make_ipv4(cases[i].options, cases[i].option_bytes);
			UNIT_EQ(parse_packet(&syn, &p), cases[i].want);
			p = make_ipv6(cases[i].options, cases[i].option_bytes);
			UNIT_EQ(parse_packet(&syn, &p), cases[i].want);
		}
	}
	UNIT_CASE("option: what an unknown one hides is not taken for an option") {
		p = make_ipv4((const uint8_t[]){254, 8, 2, 4, 1, 1, 1, 1}, 8);
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.mss, 0);
	}
	UNIT_CASE("option: a window scale above 14 counts as 14") {
		p = make_ipv4((const uint8_t[]){3, 3, 15, 1}, 4);
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.window_scale, 14);
	}
	UNIT_CASE("option: a window scale of 0 is not the same as none") {
		p = make_ipv4((const uint8_t[]){3, 3, 0, 1}, 4);
		UNIT_EQ(parse_packet(&syn, &p), 0);
		UNIT_EQ(syn.window_scale, 0);
	}
}

/* One byte of an IPv4 SYN (or IPv6, with six) is set; what must come of it. */
static void test_headers(void)
{
	static const struct {
		const char *name;
		bool six;
		size_t at;
		uint8_t value;
		int want;
	} cases[] = {
	        {"version 0", false, 0, 0x05, -EINVAL},
	        {"version 5", false, 0, 0x55, -EINVAL},
	        {"version 6 over IPv4 bytes", false, 0, 0x65, -EINVAL},
	        {"header of 0 bytes", false, 0, 0x40, -EINVAL},
	        {"header of 16 bytes", false, 0, 0x44, -EINVAL},
	        {"IPv4 options", false, 0, 0x46, -EINVAL},
	        {"header of 60 bytes", false, 0, 0x4f, -EINVAL},
	        {"total length 0", false, 3, 0, -EINVAL},
	        {"total length of the IP header alone", false, 3, 20, -EINVAL},
	        {"total length inside the TCP header", false, 3, 39, -EINVAL},
	        {"total length inside the options", false, 3, 59, -EINVAL},
	        {"total length beyond the bytes (cut off)", false, 2, 5, 0},
	        {"don't fragment is clear", false, 6, 0, 0},
	        {"more fragments", false, 6, 0x20, -EINVAL},
	        {"a fragment's offset", false, 7, 1, -EINVAL},
	        {"a fragment's offset, high bits", false, 6, 0x10, -EINVAL},
	        {"UDP", false, 9, 17, -EINVAL},
	        {"source 0.x", false, 12, 0, -EINVAL},
	        {"multicast source", false, 12, 224, -EINVAL},
	        {"multicast destination", false, 16, 239, -EINVAL},
	        {"reserved destination", false, 16, 240, -EINVAL},
	        {"broadcast destination", false, 16, 255, -EINVAL},
	        {"TCP header of 0 bytes", false, 32, 0x00, -EINVAL},
	        {"TCP header of 16 bytes", false, 32, 0x40, -EINVAL},
	        {"TCP header beyond the packet", false, 32, 0xb0, -EINVAL},
	        {"TCP header of 20 bytes: the rest is payload", false, 32, 0x50, 0},
	        {"no flag", false, 33, 0x00, -EINVAL},
	        {"FIN", false, 33, 0x01, -EINVAL},
	        {"SYN FIN", false, 33, 0x03, -EINVAL},
	        {"SYN RST", false, 33, 0x06, -EINVAL},
	        {"SYN PSH", false, 33, 0x0a, -EINVAL},
	        {"SYN ACK", false, 33, 0x12, -EINVAL},
	        {"SYN URG", false, 33, 0x22, -EINVAL},
	        {"SYN ECE", false, 33, 0x42, 0},
	        {"SYN ECE CWR", false, 33, 0xc2, 0},
	        {"ACK", false, 33, 0x10, -EINVAL},
	        {"every flag", false, 33, 0xff, -EINVAL},
	        {"version 4 over IPv6 bytes", true, 0, 0x45, -EINVAL},
	        {"payload length 0 (jumbo)", true, 5, 0, -EINVAL},
	        {"payload length inside the TCP header", true, 5, 19, -EINVAL},
	        {"payload length inside the options", true, 5, 39, -EINVAL},
	        {"payload length beyond the bytes (cut off)", true, 4, 5, 0},
	        {"hop-by-hop options", true, 6, 0, -EINVAL},
	        {"a routing header", true, 6, 43, -EINVAL},
	        {"a fragment header", true, 6, 44, -EINVAL},
	        {"ESP", true, 6, 50, -EINVAL},
	        {"destination options", true, 6, 60, -EINVAL},
	        {"no next header", true, 6, 59, -EINVAL},
	        {"multicast source, IPv6", true, 8, 0xff, -EINVAL},
	        {"multicast destination, IPv6", true, 24, 0xff, -EINVAL},
	        {"SYN ACK, IPv6", true, 53, 0x12, -EINVAL},
	};
	struct packet p;
	struct syn syn;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		UNIT_CASE("header: %s", cases[i].name) {
			p = cases[i].six ? make_ipv6(linux_options, sizeof linux_options)
			                 : make_ipv4(linux_options, sizeof linux_options);
			p.bytes[cases[i].at] = cases[i].value;
			UNIT_EQ(parse_packet(&syn, &p), cases[i].want);
		}
	}
	for (unsigned port_at = 0; port_at < 4; port_at += 2) {
		UNIT_CASE("header: %s port 0", port_at ? "destination" : "source") {
			p = make_ipv4(linux_options, sizeof linux_options);
			memset(p.bytes + p.tcp_at + port_at, 0, 2);
			UNIT_EQ(parse_packet(&syn, &p), -EINVAL);
		}
	}
	UNIT_CASE("header: the unspecified IPv6 address") {
		p = make_ipv6(linux_options, sizeof linux_options);
		memset(p.bytes + 8, 0, 16);
		UNIT_EQ(parse_packet(&syn, &p), -EINVAL);
	}
	UNIT_CASE("header: an IPv4 address in an IPv6 packet") {
		p = make_ipv6(linux_options, sizeof linux_options);
		memcpy(p.bytes + 24, (const uint8_t[16]){[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, 16);
		UNIT_EQ(parse_packet(&syn, &p), -EINVAL);
	}
	UNIT_CASE("header: the longest packet that is taken fits what is copied") {
		static const uint8_t nops[40] = {1, 1, 1, 1};

		p = make_ipv6(nops, sizeof nops);
		UNIT_EQ(p.len_bytes, SYN_PARSE_BYTES);
		UNIT_EQ(parse_packet(&syn, &p), 0);
	}
	UNIT_CASE("header: padding behind the packet is not read") {
		p = make_ipv4(NULL, 0);
		p.bytes[32] = 0x60; /* claims four bytes of options, which would lie in the padding */
		p.len_bytes += 6;
		UNIT_EQ(parse_packet(&syn, &p), -EINVAL);
	}
}

static bool is_sound(const struct syn *syn)
{
	return (syn->window_scale <= 14 || syn->window_scale == 255) && syn->dscp < 64 && syn->src.port &&
	       syn->dst.port && syn->src.family == syn->dst.family &&
	       (syn->src.family == ADDR_IPV4 || syn->src.family == ADDR_IPV6);
}

/* Every length and every value of every byte: nothing is read outside, and what is taken is in range. */
static void test_sweeps(void)
{
	const struct packet packets[] = {make_ipv4(linux_options, sizeof linux_options),
	                                 make_ipv6(linux_options, sizeof linux_options)};
	struct syn syn;

	for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
		UNIT_CASE("sweep: an IPv%d SYN cut off anywhere is refused", i ? 6 : 4) {
			for (size_t len_bytes = 0; len_bytes < packets[i].len_bytes; len_bytes++)
				UNIT_EQ(parse_exactly(&syn, packets[i].bytes, len_bytes), -EINVAL);
		}
		UNIT_CASE("sweep: every value of every byte of an IPv%d SYN", i ? 6 : 4) {
			unsigned taken = 0;

			for (size_t at = 0; at < packets[i].len_bytes; at++) {
				for (unsigned value = 0; value < 256; value++) {
					struct packet p = packets[i];
					int err;

					p.bytes[at] = (uint8_t)value;
					err = parse_packet(&syn, &p);
					if (err != -EINVAL && (err != 0 || !is_sound(&syn)))
						UNIT_FAIL("byte %zu = %u: %d", at, value, err);
					taken += err == 0;
				}
			}
			UNIT_TRUE(taken > 256);
		}
	}
}

int main(void)
{
	test_plain();
	test_options();
	test_headers();
	test_sweeps();
	return unit_exit();
}
