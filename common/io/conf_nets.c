#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"
#include "sockaddr.h"

static unsigned addr_bits(const struct addr *addr)
{
	return addr->family == ADDR_IPV4 ? 32 : 128;
}

/* `addr` with every bit from `prefix_len` on cleared. */
static struct addr addr_masked(const struct addr *addr, unsigned prefix_len)
{
	struct addr masked = *addr;

	for (unsigned i = 0; i < sizeof masked.ip; i++) {
		unsigned kept = prefix_len > 8 * i ? prefix_len - 8 * i : 0;

		if (kept < 8)
			masked.ip[i] &= (uint8_t)(0xff00 >> kept);
	}
	masked.port = 0;
	return masked;
}

static bool net_contains(const struct conf_net *net, const struct addr *addr)
{
	struct addr masked = addr_masked(addr, net->prefix_len);

	return addr_equal(&masked, &net->addr);
}

int conf_nets_longest_match(const struct conf_nets *nets, const struct addr *addr)
{
	int longest = -1;

	for (size_t i = 0; i < nets->count; i++)
		if (nets->items[i].prefix_len > longest && net_contains(&nets->items[i], addr))
			longest = nets->items[i].prefix_len;
	return longest;
}

bool conf_nets_contain(const struct conf_nets *nets, const struct addr *addr)
{
	return conf_nets_longest_match(nets, addr) >= 0;
}

int conf_net_parse(struct conf_reader *reader, struct conf_place at, const char *text, struct conf_net *net)
{
	const char *slash = strchr(text, '/');
	char ip[SOCKADDR_TEXT_MAX], masked_text[SOCKADDR_TEXT_MAX];
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	struct addr addr, masked;
	unsigned long prefix_len;

	snprintf(ip, sizeof ip, "%.*s", (int)(len < sizeof ip ? len : sizeof ip - 1), text);
	if (sockaddr_parse(&addr, ip) < 0)
		return conf_fail(reader, at, "\"%.80s\" is not a network; expected ADDRESS or ADDRESS/PREFIX", text);
	prefix_len = addr_bits(&addr);
	if (slash) {
		/* One to three digits and nothing else. */
		size_t digits = strspn(slash + 1, "0123456789");
		unsigned long given = digits && digits <= 3 && !slash[1 + digits] ? strtoul(slash + 1, NULL, 10) : 999;

		if (given > prefix_len)
			return conf_fail(reader, at, "\"%.80s\" has no valid prefix length; expected 0..%lu", text,
			                 prefix_len);
		prefix_len = given;
	}
	masked = addr_masked(&addr, (unsigned)prefix_len);
	if (!addr_equal(&addr, &masked))
		return conf_fail(
		        reader, at,
		        "\"%.80s\" has bits beyond its prefix; expected %s/%lu, or the host alone without /%lu", text,
		        sockaddr_text(masked_text, &masked), prefix_len, prefix_len);
	net->addr = masked;
	net->prefix_len = (uint8_t)prefix_len;
	return 0;
}
