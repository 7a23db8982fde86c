/* access: which destinations rx_proxy connects to. Pure: no state, no I/O but the question whether an address is this
 * machine's. */
#ifndef RX_PROXY_ACCESS_H
#define RX_PROXY_ACCESS_H

#include "../common/io/conf.h"

/* The longest prefix of allow and deny that contains `dst` decides, and deny on a tie. Where neither has one,
 * everything is allowed if allow is empty, else nothing. Loopback, link-local, multicast and other addresses that mean
 * this machine or its link, and rx_proxy's own port on this machine, are denied unless allow names them with a prefix
 * at least as long as theirs: who can reach tx_proxy has no business there. */
bool access_allows(const struct conf_rx *conf, const struct addr *dst);

#endif
