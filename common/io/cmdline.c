#include "cmdline.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf_table.h"
#include "log.h"

enum { EXIT_DONE = 0, EXIT_USAGE = 2 };

/* What the arguments said. */
struct arguments {
	const char *file; /* NULL: the default places */
	bool check;
	struct conf_override *overrides; /* keys are owned, values point into argv */
	size_t override_count;
};

__attribute__((format(printf, 2, 3), noreturn)) static void fail(const struct cmdline *cl, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", cl->program);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}

static void print_switch(const char *name, const char *help)
{
	printf("  %-26s %s\n", name, help);
}

static void print_help(const struct cmdline *cl, enum conf_group group, const struct cmdline_switch *switches,
                       size_t count)
{
	char name[64];

	printf("Usage: %s [-c FILE] [--key=value …]\n%s\n\nOptions:\n", cl->program, cl->summary);
	print_switch("-c FILE, --config=FILE",
	             "configuration; default ./network.conf, then /etc/pair_proxy/network.conf");
	print_switch("--check",
	             "read and validate the configuration, then exit: 0, or 2 if it would not start with it");
	print_switch("--log-level=LEVEL", "error, warn, info or debug; default info");
	print_switch("--help", "this text");
	print_switch("--version", "the version");
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof name, "--%s%s%s", switches[i].name, switches[i].value_name ? "=" : "",
		         switches[i].value_name ? switches[i].value_name : "");
		print_switch(name, switches[i].help);
	}
	putchar('\n');
	conf_help(stdout, group);
	printf("\nExit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration.\n");
}

/* What follows the two dashes, or "". */
static const char *after_dashes(const char *arg)
{
	return arg[0] == '-' && arg[1] == '-' ? arg + 2 : "";
}

/* The value of --NAME=VALUE where `arg` begins so, else NULL. */
static const char *value_of(const char *arg, const char *name)
{
	const char *option = after_dashes(arg);
	size_t len = strlen(name);

	return strncmp(option, name, len) == 0 && option[len] == '=' ? option + len + 1 : NULL;
}

static bool is_option(const char *arg, const char *name)
{
	return strcmp(after_dashes(arg), name) == 0;
}

/* Whether the argument is one of the binary's own; then it is done. */
static bool take_switch(const struct cmdline *cl, const char *arg, const struct cmdline_switch *switches, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct cmdline_switch *sw = &switches[i];
		const char *value = value_of(arg, sw->name);

		if (!value && !is_option(arg, sw->name))
			continue;
		if (sw->value_name && (!value || !*value))
			fail(cl, "--%s needs a value: --%s=%s", sw->name, sw->name, sw->value_name);
		if (!sw->value_name && value)
			fail(cl, "--%s takes no value", sw->name);
		if (sw->act)
			exit(sw->act(cl->program, value));
		if (sw->value_name)
			*sw->value = value;
		else
			*sw->flag = true;
		return true;
	}
	return false;
}

static void take_log_level(const struct cmdline *cl, const char *value)
{
	enum log_level level;

	if (log_level_parse(&level, value) < 0)
		fail(cl, "--log-level=%s: expected error, warn, info or debug", value);
	log_set_level(level);
}

/* Whether --config or -c stands at argv[*i]; *i moves on to its value. */
static bool take_file(const struct cmdline *cl, int argc, char **argv, int *i, struct arguments *args)
{
	const char *value = value_of(argv[*i], "config");

	if (!value && strcmp(argv[*i], "-c") != 0 && !is_option(argv[*i], "config"))
		return false;
	if (!value && *i + 1 < argc)
		value = argv[++*i];
	if (!value || !*value)
		fail(cl, "%s needs the name of a file", argv[*i]);
	args->file = value;
	return true;
}

/* --key=value, or else nothing that we know. */
static void take_override(const struct cmdline *cl, enum conf_group group, const char *arg, struct arguments *args)
{
	const char *equals = strchr(arg, '=');
	const char *name = after_dashes(arg);
	char *key;

	if (!*name)
		fail(cl, "unexpected argument \"%s\"; --help lists what is possible", arg);
	if (!equals && conf_table_find(conf_table_of(group), name, strcspn(name, ".")))
		fail(cl, "%s needs a value: %s=…", arg, arg);
	if (!equals)
		fail(cl, "unknown option %s; --help lists what is possible", arg);
	key = strndup(name, (size_t)(equals - name));
	if (!key)
		fail(cl, "out of memory");
	args->overrides[args->override_count++] = (struct conf_override){.key = key, .value = equals + 1};
}

static void read_arguments(const struct cmdline *cl, int argc, char **argv, enum conf_group group,
                           const struct cmdline_switch *switches, size_t count, struct arguments *args)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		const char *level = value_of(arg, "log-level");

		if (take_switch(cl, arg, switches, count))
			continue;
		if (is_option(arg, "help") || strcmp(arg, "-h") == 0) {
			print_help(cl, group, switches, count);
			exit(EXIT_DONE);
		}
		if (is_option(arg, "version")) {
			printf("%s %s\n", cl->program, PAIR_VERSION);
			exit(EXIT_DONE);
		}
		if (level)
			take_log_level(cl, level);
		else if (is_option(arg, "log-level"))
			fail(cl, "--log-level needs a value: --log-level=info");
		else if (is_option(arg, "check"))
			args->check = true;
		else if (!take_file(cl, argc, argv, &i, args))
			take_override(cl, group, arg, args);
	}
}

/* Where one of the three standard descriptors is closed, the next file or socket would get its number, and with it what
 * is printed and logged. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static _Noreturn void report_check(const struct cmdline *cl, enum conf_group group, struct conf *conf)
{
	const char *why = cl->objection ? cl->objection(conf) : NULL;

	if (why)
		fail(cl, "%s: would not start: %s", conf->file, why);
	printf("%s: the configuration of %s is valid\n", conf->file, conf_group_name(group));
	conf_free(conf);
	exit(EXIT_DONE);
}

struct conf *cmdline_load(const struct cmdline *cl, int argc, char **argv, enum conf_group group,
                          const struct cmdline_switch *switches, size_t switch_count)
{
	struct arguments args = {.overrides = calloc((size_t)argc + 1, sizeof *args.overrides)};
	char error[CONF_ERROR_MAX];
	struct conf *conf;

	fill_standard_descriptors();
	if (!args.overrides)
		fail(cl, "out of memory");
	read_arguments(cl, argc, argv, group, switches, switch_count, &args);
	if (conf_load(&conf, group, args.file, args.overrides, args.override_count, error) < 0)
		fail(cl, "%s", error);
	for (size_t i = 0; i < args.override_count; i++)
		free((char *)args.overrides[i].key);
	free(args.overrides);
	if (args.check)
		report_check(cl, group, conf);
	return conf;
}
