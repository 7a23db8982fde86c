#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/io/cmdline.h"
#include "../common/io/log.h"
#include "../common/io/sockaddr.h"
#include "traffic_client.h"

enum { EXIT_USAGE = 2 };

/* A switch with a number: its text as given, its limits. */
struct number {
	const char *name;
	const char *text; /* NULL: not given */
	uint64_t preset, min, max;
	uint64_t *value;
};

static void refuse(const char *what)
{
	fprintf(stderr, "stream: %s\n", what);
	exit(EXIT_USAGE);
}

/* Decimal digits and perhaps k, M or G (powers of 1024). */
static bool parse_number(uint64_t *value, const char *text)
{
	static const char suffixes[] = "kMG";
	const char *suffix;
	uint64_t factor = 1;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno)
		return false;
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		factor = UINT64_C(1) << (10 * (suffix - suffixes + 1));
		end++;
	}
	return *end == '\0' && !__builtin_mul_overflow(*value, factor, value);
}

static void load_number(const struct number *number)
{
	*number->value = number->preset;
	if (!number->text)
		return;
	if (parse_number(number->value, number->text) && *number->value >= number->min && *number->value <= number->max)
		return;
	fprintf(stderr, "stream: --%s=%s: expected %" PRIu64 "..%" PRIu64 ", perhaps with k, M or G\n", number->name,
	        number->text, number->min, number->max);
	exit(EXIT_USAGE);
}

static void check_combination(const struct traffic_options *options)
{
	if (options->echo && options->requests)
		refuse("--echo and --requests exclude each other");
	if (options->raw && (options->echo || options->requests))
		refuse("--raw is for transfers, not for --echo or --requests");
	if (options->raw && options->conf->direction != CONF_SEND)
		refuse("--raw goes with direction=send only: a raw sink sends nothing back");
}

void traffic_options_load(struct traffic_options *options, struct conf **conf, int argc, char **argv)
{
	static const struct cmdline cmdline = {
	        .program = "stream",
	        .summary = "Sends test traffic to receive, or fetches it from there, and reports goodput, times and "
	                   "integrity.",
	};
	struct number timeout = {"timeout", NULL, 0, 0, 1000000, &options->timeout_s};
	struct number count = {"count", NULL, 50, 1, 1000000, &options->echo_count};
	struct number echo_bytes = {"echo-bytes", NULL, 1, 1, 65536, &options->echo_bytes};
	struct number interval = {"interval-ms", NULL, 100, 1, 3600000, &options->interval_ms};
	struct number requests = {"requests", NULL, 0, 1, TRAFFIC_FLOWS_MAX, &options->requests};
	struct number parallel = {"parallel", NULL, 1, 1, 10000, &options->parallel};
	struct number answer = {"answer", NULL, 1024, 1, TRAFFIC_BYTES_MAX, &options->answer_bytes};
	const struct cmdline_switch switches[] = {
	        {.name = "json", .help = "the summary as one JSON object", .flag = &options->json},
	        {.name = "quiet", .help = "no progress line", .flag = &options->quiet},
	        {.name = "raw", .help = "no header, no report: for a sink other than receive", .flag = &options->raw},
	        {.name = "timeout",
	         .value_name = "SECONDS",
	         .help = "give up after so long; default: never",
	         .value = &timeout.text},
	        {.name = "echo", .help = "measure how long receive takes to send bytes back", .flag = &options->echo},
	        {.name = "count", .value_name = "N", .help = "of echoes, default 50", .value = &count.text},
	        {.name = "echo-bytes", .value_name = "N", .help = "in each echo, default 1", .value = &echo_bytes.text},
	        {.name = "interval-ms",
	         .value_name = "MS",
	         .help = "between echoes, default 100",
	         .value = &interval.text},
	        {.name = "requests",
	         .value_name = "N",
	         .help = "connect, ask, take the answer, close: so many times",
	         .value = &requests.text},
	        {.name = "parallel",
	         .value_name = "N",
	         .help = "of the requests at once, default 1",
	         .value = &parallel.text},
	        {.name = "answer",
	         .value_name = "BYTES",
	         .help = "size of each answer, default 1k",
	         .value = &answer.text},
	};
	const struct number *numbers[] = {&timeout, &count, &echo_bytes, &interval, &requests, &parallel, &answer};

	*options = (struct traffic_options){0};
	*conf = cmdline_load(&cmdline, argc, argv, CONF_STREAM, switches, sizeof switches / sizeof *switches);
	options->conf = &(*conf)->stream;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		load_number(numbers[i]);
	check_combination(options);
}

void traffic_client_json_head(const struct traffic_client *client, const char *mode)
{
	const struct conf_stream *conf = client->options->conf;
	char dest[SOCKADDR_TEXT_MAX];

	printf("{\"tool\":\"stream\",\"version\":\"%s\",\"mode\":\"%s\",\"dest\":\"%s\",\"seed\":%" PRIu64
	       ",\"verify\":%s,",
	       PAIR_VERSION, mode, sockaddr_text(dest, &conf->dest), conf->seed, conf->verify ? "true" : "false");
}

void traffic_client_log_failure(const struct traffic_client *client, uint64_t index, enum traffic_status status,
                                int error)
{
	static struct log_limit limit = LOG_LIMIT_DEFAULT;
	char dest[SOCKADDR_TEXT_MAX];

	log_limited(&limit, LOG_LEVEL_ERROR, traffic_status_name(status), "flow=%" PRIu64 " dest=%s%s%s%s", index,
	            sockaddr_text(dest, &client->options->conf->dest), error ? " error=\"" : "",
	            error ? strerror(-error) : "", error ? "\"" : "");
}
