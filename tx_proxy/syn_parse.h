/* syn_parse: the bytes of a queued packet → struct syn. Pure: no sockets, no state, no allocation.
 *
 * Whoever can send a packet through this machine writes these bytes, so every length in them is checked against the
 * bytes that are there. What is taken is a plain SYN, one that a proxy can answer in the destination's place without
 * the client noticing. Not taken, so that the caller lets it go to its destination:
 *   - IPv4 with options, IPv6 with extension headers, fragments: a proxy would not carry them on;
 *   - flags other than SYN, with or without ECE and CWR (RFC 3168);
 *   - TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925): the two ends sign what they exchange;
 *   - MP_JOIN (RFC 8684): belongs to a connection that runs elsewhere;
 *   - malformed headers or options, port 0, addresses that are not unicast.
 * Formats: RFC 791, RFC 8200, RFC 9293, RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 2474 (DSCP).
 */
#ifndef TX_PROXY_SYN_PARSE_H
#define TX_PROXY_SYN_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "../common/core/syn.h"

/* Enough for every packet that syn_parse takes: an IPv6 header and the longest TCP header. */
enum { SYN_PARSE_BYTES = 40 + 60 };

/* `bytes` begins with the IP header; `len_bytes` may be less than the packet's length (payload cut off) or more
 * (padding). Returns 0 and fills *syn, or -EINVAL and leaves *syn alone. */
int syn_parse(struct syn *syn, const uint8_t *bytes, size_t len_bytes);

#endif
