/* syn: what a client's SYN said, kept because accept(2) loses most of it.
 *
 * Filled by tx_proxy/intercept from the queued packet, carried to rx_proxy in OPEN (doc/protocol.md),
 * used there for the connection to the destination. A plain value.
 */
#ifndef PAIR_CORE_SYN_H
#define PAIR_CORE_SYN_H

#include "addr.h"

struct syn {
	struct addr src;      /* the client */
	struct addr dst;      /* the destination that the client asked for */
	uint16_t mss;         /* bytes, TCP option 2; 0: the SYN had none */
	uint8_t window_scale; /* shift 0..14, TCP option 3; 255: the SYN had none (RFC 7323) */
	uint8_t dscp;         /* 0..63, RFC 2474 */
	bool sack_permitted;  /* RFC 2018 */
	bool timestamps;      /* RFC 7323 */
	uint32_t isn;         /* initial sequence number; of tx_proxy's own use, OPEN does not carry it */
};

#endif
