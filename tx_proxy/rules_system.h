/* rules_system: what rules needs of the machine: programs run, the bridge's netfilter switch, addresses. */
#ifndef TX_PROXY_RULES_SYSTEM_H
#define TX_PROXY_RULES_SYSTEM_H

#include <stdbool.h>

#include "../common/io/conf.h"

/* Runs argv[0], found in PATH or in the system folders, without a shell; `input` (or NULL for none) is its standard
 * input. What it prints goes to our standard error, or nowhere with `quiet`. Returns 0 when it ended with status 0;
 * -ENOENT when there is no such program; -EIO when it failed; or another negative errno. */
int rules_run(const char *const argv[], const char *input, bool quiet);

/* Looks at the capture interfaces. Bridges: netfilter must see what they forward, so its switches are set where
 * they are off, which is logged; taking the rules down leaves them, since others may have come to rely on them. An
 * interface without an address of a family is warned of: a redirect has nowhere to go there. */
void rules_check_system(const struct conf_capture *capture);

#endif
