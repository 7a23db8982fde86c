/* cmdline: the command line that all binaries share: -c/--config FILE, --check, --help, --version, --key=value.
 *
 *   struct cmdline cl;
 *   struct conf *conf = cmdline_load(&cl, argc, argv, CONF_TX_PROXY, extra, extra_count);
 *
 * It prints what the user asked for or did wrong and exits (0: done; 2: wrong usage or configuration), so the
 * caller goes on only with a valid configuration. A binary's own switches come in as a table. `--help` lists
 * the shared switches, the binary's own and every --key of its group, with default and meaning, generated from
 * the same table that validates them.
 */
#ifndef PAIR_IO_CMDLINE_H
#define PAIR_IO_CMDLINE_H

#include "conf.h"

struct cmdline_switch {
	const char *name;       /* "json" for --json; "rules" for --rules=VALUE */
	const char *value_name; /* NULL: takes no value; else shown in --help as --name=VALUE */
	const char *help;       /* one line */
	bool *flag;             /* set when value_name is NULL */
	const char **value;     /* set otherwise; points into argv */
};

struct cmdline {
	const char *program; /* "tx_proxy" */
	const char *summary; /* one sentence for --help */
};

struct conf *cmdline_load(const struct cmdline *cl, int argc, char **argv, enum conf_group group,
                          const struct cmdline_switch *switches, size_t switch_count);

#endif
