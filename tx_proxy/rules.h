/* rules: the netfilter rules that tx_proxy needs, generated from its configuration.
 *
 * One nftables table, "inet pair_proxy", holds them all: put up and taken down in one transaction, so both are
 * idempotent and leave every other rule of the machine alone. See doc/architecture.md for why each rule is there.
 */
#ifndef TX_PROXY_RULES_H
#define TX_PROXY_RULES_H

#include <stdio.h>

#include "../common/io/conf.h"

/* Writes an `nft -f` script. `up` false: the one that removes the table. 0 or a negative errno. */
int rules_print(FILE *out, const struct conf_tx *conf, bool up);

/* Runs `nft -f -` on that script; nft's own message goes to standard error. 0 or a negative errno. */
int rules_apply(const struct conf_tx *conf, bool up);

#endif
