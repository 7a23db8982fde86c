/* cmdline: the command line that all binaries share.
 *
 *   -c FILE, --config=FILE   configuration file; default ./network.conf, then /etc/pair_proxy/network.conf
 *   --check                  read and validate the configuration, say so, exit: 0, or 2 if the program would not start
 *                            with it
 *   --log-level=LEVEL        error, warn, info or debug; set before cmdline_load returns, default info
 *   --help, --version
 *   --KEY=VALUE              any scalar of the binary's own group; nested ones by their dotted name
 *
 *   struct cmdline cl;
 *   struct conf *conf = cmdline_load(&cl, argc, argv, CONF_TX_PROXY, extra, extra_count);
 *
 * It prints what the user asked for (standard output) or did wrong (standard error, "PROGRAM: message") and exits (0:
 * done; 2: wrong usage or configuration), so the caller goes on only with a valid configuration. A binary's own
 * switches come in as a table; one of the same name as a key takes its place.
 * `--help` lists the shared switches, the binary's own and every --key of its group, with default and meaning,
 * generated from the same table that validates them. To be called before anything is opened: standard descriptors that
 * are closed become /dev/null. argv is not changed. The caller frees what it gets with conf_free.
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
	/* Instead of both: needs no configuration, is called with the value at once, and gives the exit code. */
	int (*act)(const char *program, const char *value);
};

struct cmdline {
	const char *program; /* "tx_proxy" */
	const char *summary; /* one sentence for --help */
	/* NULL, or gives why the program would not start with a configuration that is valid (NULL: it would). --check
	 * refuses it then; to heed it otherwise is the program's business. */
	const char *(*objection)(const struct conf *conf);
};

struct conf *cmdline_load(const struct cmdline *cl, int argc, char **argv, enum conf_group group,
                          const struct cmdline_switch *switches, size_t switch_count);

#endif
