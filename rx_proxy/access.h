/* access: which destinations rx_proxy connects to. Pure: no state, no I/O but the question whether an address is this
 * machine's. */
#ifndef RX_PROXY_ACCESS_H
#define RX_PROXY_ACCESS_H

#include "../common/io/conf.h"

/* The longest prefix of allow and deny that contains `dst` decides, and deny on a tie. Where neither has one,
 * everything is allowed if allow is empty, else nothing. Who can reach tx_proxy has no business on this machine: so
 * loopback, link-local, multicast and other addresses that mean this machine or its link are denied unless allow names
 * them with a prefix at least as long as theirs, and every other address that this machine has at the time, whatever
 * the port (of loopback: our own port), unless allow names that one address. IPv4 addresses in the clothes of IPv6 ones
 * are always denied. */
bool access_allows(const struct conf_rx *conf, const struct addr *dst);

#endif
