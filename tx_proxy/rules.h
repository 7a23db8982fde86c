/* rules: the netfilter rules that tx_proxy needs, generated from its configuration.
 *
 * One nftables table, "inet pair_proxy", holds them all: put up and taken down in one transaction, so both are
 * idempotent and leave every other rule of the machine alone. Its chains, for IPv4 and IPv6, bridged or routed:
 *   select_syn  SYNs that come in on capture.interfaces from capture.sources → NFQUEUE with bypass. Left alone:
 *               destinations in capture.bypass, the remote of each path (a stripe is never captured, not even that of
 *               another tx_proxy), this machine's own addresses, link-local, multicast and broadcast; connections that
 *               conntrack has let go already, which a verdict could not change; clients to which this machine has no
 *               route, since nobody could answer them from here.
 *   deliver     what has the mark goes to local_port (REDIRECT or TPROXY).
 *   refuse      what has the mark + 1 is answered with a RST.
 * Marks are compared as a whole: a packet's mark while it is in the node's netfilter is tx_proxy's to set. The method
 * tproxy also uses the connection mark, needs two policy routes (named in the printed script and in a log line), and
 * works on a router, not on a bridge. The interface's first address of the family receives what REDIRECT captures.
 *
 * A kernel without nft_queue (CONFIG_NFT_QUEUE) cannot queue from an nft table, of whatever family. There rules_apply
 * lets the table select SYNs as above, but set the topmost bit of the mark, and one rule in a chain pair_proxy of
 * `iptables -t mangle` and of ip6tables puts these into the queue; the table clears the bit again. Configured marks
 * leave that bit free.
 */
#ifndef TX_PROXY_RULES_H
#define TX_PROXY_RULES_H

#include <stdio.h>

#include "../common/io/conf.h"

/* Writes an `nft -f` script. `up` false, or the method "none": the one that removes the table. 0, -EINVAL (an
 * interface's name cannot stand in a script) or -EIO. */
int rules_print(FILE *out, const struct conf_tx *conf, bool up);

/* Runs `nft -f -` on that script, as root; nft's own message goes to standard error, and what is wrong to the log. With
 * `up` it also switches bridge-nf-call-iptables and -ip6tables on for capture interfaces that are bridges (`up` false
 * leaves them). 0, -ENOENT (nft or iptables is missing), -EINVAL (as above), -EIO (the tool failed) or another negative
 * errno. */
int rules_apply(const struct conf_tx *conf, bool up);

#endif
