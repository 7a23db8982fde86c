#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../common/io/log.h"
#include "../common/io/sockaddr.h"
#include "traffic_serve.h"

static const char *const kind_names[] = {
        [TRAFFIC_KIND_RAW] = "raw",   [TRAFFIC_KIND_PATTERN] = "pattern", [TRAFFIC_KIND_FILE] = "file",
        [TRAFFIC_KIND_ECHO] = "echo", [TRAFFIC_KIND_REQUEST] = "request",
};

enum { LINE_MAX_BYTES = LOG_LINE_MAX - 128 };

/* The lines of a log file look as those on standard error do. */
static void write_log(FILE *log, enum log_level level, const char *event, const char *rest)
{
	struct timespec now;
	struct tm utc;
	char date[32];

	if (!log) {
		log_event(level, event, "%s", rest);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
	fprintf(log, "%s.%03ldZ %s event=%s %s\n", date, now.tv_nsec / 1000000,
	        level == LOG_LEVEL_INFO ? "info" : "warn", event, rest);
	fflush(log);
}

static void report_line(struct traffic_served *served, const char *from, uint64_t receive_us, const uint8_t *sha256)
{
	const struct traffic_flow *flow = &served->flow;
	char line[LINE_MAX_BYTES], first_wrong[TRAFFIC_OFFSET_TEXT_MAX], sha256_text[TRAFFIC_SHA256_TEXT_MAX];
	char out[LINE_MAX_BYTES / 2], error[128];

	snprintf(line, sizeof line,
	         "flow=%" PRIu64 " from=%s kind=%s index=%" PRIu32 " status=%s bytes=%" PRIu64 " sent_bytes=%" PRIu64
	         " ms=%.3f mbit_s=%.1f first_byte_ms=%.3f longest_gap_ms=%.3f first_wrong=%s%s%s%s%s%s%s",
	         served->number, from, kind_names[served->kind], served->index, traffic_status_name(flow->status),
	         flow->sink.bytes, flow->source.offset, traffic_report_ms(flow->started_us, flow->ended_us),
	         traffic_report_mbit_s(flow->sink.bytes, receive_us),
	         traffic_report_ms(flow->started_us, flow->first_us), (double)traffic_flow_longest_gap_us(flow) / 1e3,
	         traffic_report_offset(first_wrong, flow->sink.first_wrong), sha256 ? " sha256=" : "",
	         sha256 ? traffic_report_sha256(sha256_text, sha256) : "", flow->error ? " error=" : "",
	         flow->error ? log_value(error, sizeof error, strerror(-flow->error)) : "",
	         served->out_name ? " out=" : "", served->out_name ? log_value(out, sizeof out, served->out_name) : "");
	write_log(served->server->log, flow->status == TRAFFIC_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "flow_end", line);
}

static void report_json(const struct traffic_served *served, const char *from, uint64_t receive_us,
                        const uint8_t *sha256)
{
	const struct traffic_flow *flow = &served->flow;

	printf("{\"flow\":%" PRIu64 ",\"from\":\"%s\",\"kind\":\"%s\",\"index\":%" PRIu32
	       ",\"status\":\"%s\",\"error\":",
	       served->number, from, kind_names[served->kind], served->index, traffic_status_name(flow->status));
	traffic_report_json_string(stdout, traffic_report_error(flow->error));
	printf(",\"ms\":%.3f,\"received\":{\"bytes\":%" PRIu64
	       ",\"mbit_s\":%.3f,\"first_byte_ms\":%.3f,\"longest_gap_ms\":%.3f"
	       ",\"first_wrong_offset\":",
	       traffic_report_ms(flow->started_us, flow->ended_us), flow->sink.bytes,
	       traffic_report_mbit_s(flow->sink.bytes, receive_us), traffic_report_ms(flow->started_us, flow->first_us),
	       (double)traffic_flow_longest_gap_us(flow) / 1e3);
	traffic_report_json_offset(stdout, flow->sink.first_wrong);
	fputs(",\"sha256\":", stdout);
	traffic_report_json_sha256(stdout, sha256);
	fputs(",\"out\":", stdout);
	traffic_report_json_string(stdout, served->out_name);
	printf("},\"sent\":{\"bytes\":%" PRIu64 "}}\n", flow->source.offset);
	fflush(stdout);
}

void traffic_serve_report(struct traffic_served *served)
{
	const struct traffic_server *server = served->server;
	struct traffic_flow *flow = &served->flow;
	uint64_t receive_us = flow->last_us > flow->started_us ? flow->last_us - flow->started_us : 0;
	uint8_t sha256[TRAFFIC_SHA256_SIZE];
	const uint8_t *digest = traffic_sink_sha256(&flow->sink, sha256) ? sha256 : NULL;
	char from[SOCKADDR_TEXT_MAX];

	sockaddr_text(from, &flow->remote);
	if (server->json)
		report_json(served, from, receive_us, digest);
	if (server->log || !server->quiet)
		report_line(served, from, receive_us, digest);
}

void traffic_serve_summary(const struct traffic_server *server)
{
	char line[LINE_MAX_BYTES];

	snprintf(line, sizeof line, "flows=%" PRIu64 " failed=%" PRIu64 " bytes=%" PRIu64 " sent_bytes=%" PRIu64,
	         server->ended, server->failed, server->received_bytes, server->sent_bytes);
	if (server->log)
		write_log(server->log, LOG_LEVEL_INFO, "summary", line);
	if (!server->quiet)
		log_event(LOG_LEVEL_INFO, "summary", "%s", line);
}
