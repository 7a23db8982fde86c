/* cmdline: what it prints where, with which exit code, and what it hands to the caller. Each call runs in a child. */
#include <fcntl.h>
#include <sys/wait.h>

#include "../../common/io/cmdline.h"
#include "../../common/io/log.h"
#include "../unit/unit.h"
#include "conf_fixture.h"

enum { ARGS_MAX = 8, LOADED = 7 /* exit code of a child whose cmdline_load came back */ };

static char out[32768], err[4096];

/* What a program would do: its own switches, then its configuration. */
static void child(char **argv, int argc)
{
	static const struct cmdline cl = {.program = "stream", .summary = "Sends."};
	static bool json;
	static const char *rules;
	static const struct cmdline_switch switches[] = {
	        {.name = "json", .help = "print JSON", .flag = &json},
	        {.name = "rules", .value_name = "up|down", .help = "netfilter rules", .value = &rules},
	};
	struct conf *loaded = cmdline_load(&cl, argc, argv, CONF_STREAM, switches, 2);

	log_event(LOG_LEVEL_DEBUG, "debug", "k=1");
	printf("file=%s flows=%u json=%d rules=%s\n", loaded->file, loaded->stream.flows, json, rules ? rules : "-");
	conf_free(loaded);
	exit(LOADED);
}

static void read_back(FILE *file, char *buf, size_t size)
{
	size_t len;

	rewind(file);
	len = fread(buf, 1, size - 1, file);
	buf[len] = '\0';
	fclose(file);
}

/* Runs a child with these arguments; its exit code, its output in out[] and err[]. FILE stands for the good file. */
static int run(const char *const args[ARGS_MAX])
{
	char *argv[ARGS_MAX + 2] = {(char *)"stream"};
	FILE *out_file = tmpfile(), *err_file = tmpfile();
	int argc = 1, status = 0;
	pid_t pid;

	for (; argc <= ARGS_MAX && args[argc - 1]; argc++)
		argv[argc] = strcmp(args[argc - 1], "FILE") == 0 ? fixture_conf : (char *)args[argc - 1];
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(fileno(out_file), STDOUT_FILENO);
		dup2(fileno(err_file), STDERR_FILENO);
		child(argv, argc);
	}
	waitpid(pid, &status, 0);
	read_back(out_file, out, sizeof out);
	read_back(err_file, err, sizeof err);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define RUN(...) run((const char *const[ARGS_MAX]){__VA_ARGS__})

static void test_good(void)
{
	UNIT_CASE("cmdline: -c FILE, --config FILE, --config=FILE") {
		char joined[100];

		snprintf(joined, sizeof joined, "--config=%s", fixture_conf);
		UNIT_EQ(RUN("-c", "FILE"), LOADED);
		UNIT_HAS(out, fixture_conf);
		UNIT_EQ(RUN("--config", "FILE"), LOADED);
		UNIT_EQ(RUN(joined), LOADED);
		UNIT_STR(err, "");
	}
	UNIT_CASE("cmdline: overrides and switches, in any order") {
		UNIT_EQ(RUN("--json", "--flows=7", "-c", "FILE", "--rules=up"), LOADED);
		UNIT_HAS(out, "flows=7 json=1 rules=up");
		UNIT_EQ(RUN("-c", "FILE"), LOADED);
		UNIT_HAS(out, "flows=2 json=0 rules=-");
	}
	UNIT_CASE("cmdline: a value may hold '='") {
		UNIT_EQ(RUN("-c", "FILE", "--rules=a=b"), LOADED);
		UNIT_HAS(out, "rules=a=b");
	}
	UNIT_CASE("cmdline: --log-level") {
		UNIT_EQ(RUN("-c", "FILE", "--log-level=debug"), LOADED);
		UNIT_HAS(err, "debug event=debug");
		UNIT_EQ(RUN("-c", "FILE"), LOADED);
		UNIT_STR(err, "");
	}
	UNIT_CASE("cmdline: --check of a good file") {
		UNIT_EQ(RUN("--check", "-c", "FILE"), 0);
		UNIT_HAS(out, fixture_conf);
		UNIT_HAS(out, "valid");
		UNIT_STR(err, "");
	}
	UNIT_CASE("cmdline: --version needs no file") {
		UNIT_EQ(RUN("--version", "-c", "/nonexistent"), 0);
		UNIT_STR(out, "stream " PAIR_VERSION "\n");
	}
	UNIT_CASE("cmdline: --help lists switches and keys, with ranges and defaults") {
		static const char *const parts[] = {
		        "Usage: stream", "Sends.",          "--check",      "--log-level=",
		        "--json",        "--rules=up|down", "--dest_port=", "1..65535",
		        "default 7000",  "default 64M",     "--direction=", "\"send\", \"receive\" or \"both\"",
		        "Exit codes",
		};

		UNIT_EQ(RUN("--help"), 0);
		for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
			UNIT_HAS(out, parts[i]);
		UNIT_STR(err, "");
	}
}

/* Descriptor 0 of a child that was started without: 0 if it is open after cmdline_load, and stays so across exec. */
static int closed_stdin_is_filled(void)
{
	char *argv[] = {(char *)"stream", (char *)"-c", fixture_conf, NULL};
	static const struct cmdline cl = {.program = "stream", .summary = "Sends."};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		close(STDIN_FILENO);
		conf_free(cmdline_load(&cl, 3, argv, CONF_STREAM, NULL, 0));
		_exit(fcntl(STDIN_FILENO, F_GETFD) == 0 && open("/dev/null", O_RDONLY) > STDERR_FILENO ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void test_descriptors(void)
{
	UNIT_CASE("cmdline: a closed standard descriptor is nobody else's")
		UNIT_EQ(closed_stdin_is_filled(), 0);
}

static void test_wrong(void)
{
	static const struct {
		const char *name;
		const char *args[ARGS_MAX];
		const char *has;
	} cases[] = {
	        {"unknown option", {"-c", "FILE", "--frobnicate"}, "unknown option --frobnicate"},
	        {"unknown short option", {"-x"}, "unexpected argument \"-x\""},
	        {"argument without dashes", {"-c", "FILE", "file"}, "unexpected argument \"file\""},
	        {"two dashes alone", {"--"}, "unexpected argument \"--\""},
	        {"empty argument", {""}, "unexpected argument \"\""},
	        {"-c without a file", {"-c"}, "-c needs the name of a file"},
	        {"--config= without a file", {"--config="}, "needs the name of a file"},
	        {"key without a value", {"-c", "FILE", "--flows"}, "--flows needs a value"},
	        {"switch without its value", {"-c", "FILE", "--rules"}, "--rules needs a value: --rules=up|down"},
	        {"switch with an empty value", {"-c", "FILE", "--rules="}, "--rules needs a value"},
	        {"flag with a value", {"-c", "FILE", "--json=1"}, "--json takes no value"},
	        {"log level",
	         {"-c", "FILE", "--log-level=loud"},
	         "--log-level=loud: expected error, warn, info or debug"},
	        {"log level without a value", {"--log-level"}, "--log-level needs a value"},
	        {"wrong override",
	         {"-c", "FILE", "--flows=0"},
	         "--flows=0: 0 is out of range; expected a number, 1..10000"},
	        {"override of an unknown key", {"-c", "FILE", "--flow=1"}, "--flow=1: unknown key \"flow\""},
	        {"override of an unknown key before a missing file",
	         {"-c", "/nonexistent", "--flow=1"},
	         "unknown key \"flow\""},
	        {"wrong override with --check", {"--check", "-c", "FILE", "--flows=x"}, "\"x\" is not a number"},
	        {"missing file", {"-c", "/nonexistent"}, "/nonexistent: cannot be read: No such file"},
	        {"missing file with --check", {"--check", "-c", "/nonexistent"}, "cannot be read"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		UNIT_CASE("cmdline refuses: %s", cases[i].name) {
			UNIT_EQ(run(cases[i].args), 2);
			UNIT_HAS(err, cases[i].has);
			UNIT_TRUE(strncmp(err, "stream: ", 8) == 0);
			UNIT_STR(out, "");
		}
}

int main(void)
{
	static const char good[] = "stream = { dest_ip = \"192.0.2.1\"; flows = 2; };";

	fixture_begin();
	write_file(fixture_conf, good, sizeof good - 1, 0600);
	test_good();
	test_descriptors();
	test_wrong();
	fixture_end();
	return unit_exit();
}
