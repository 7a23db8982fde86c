#include <inttypes.h>

#include "traffic_transfer.h"

/* So many lines for flows that are well; those that failed are all told. JSON tells all. */
enum { FLOW_LINES_MAX = 16 };

/* What of the sent data is known to have arrived. A raw sink confirms by its FIN. */
static uint64_t confirmed_bytes(const struct traffic_client *client, const struct traffic_flow *flow)
{
	if (client->options->raw)
		return flow->status == TRAFFIC_OK ? flow->source.offset : 0;
	return flow->has_theirs ? flow->theirs.received_bytes : 0;
}

static uint64_t flow_duration_us(const struct traffic_flow *flow)
{
	return flow->ended_us > flow->started_us ? flow->ended_us - flow->started_us : 0;
}

static uint64_t sent_first_wrong(const struct traffic_flow *flow)
{
	return flow->has_theirs ? flow->theirs.first_wrong : TRAFFIC_NO_OFFSET;
}

static void json_send(const struct traffic_client *client, struct traffic_flow *flow)
{
	uint64_t confirmed = confirmed_bytes(client, flow);
	uint8_t sha256[TRAFFIC_SHA256_SIZE];
	bool has_sha256 = traffic_source_sha256(&flow->source, sha256);

	printf(",\"send\":{\"bytes\":%" PRIu64 ",\"confirmed_bytes\":%" PRIu64 ",\"mbit_s\":%.3f,\"receive_ms\":%.3f",
	       flow->source.offset, confirmed, traffic_report_mbit_s(confirmed, flow_duration_us(flow)),
	       flow->has_theirs ? (double)flow->theirs.receive_us / 1e3 : 0);
	fputs(",\"first_wrong_offset\":", stdout);
	traffic_report_json_offset(stdout, sent_first_wrong(flow));
	fputs(",\"sha256\":", stdout);
	traffic_report_json_sha256(stdout, has_sha256 ? sha256 : NULL);
	fputs(",\"received_sha256\":", stdout);
	traffic_report_json_sha256(
	        stdout, flow->has_theirs && flow->theirs.has_received_sha256 ? flow->theirs.received_sha256 : NULL);
	putchar('}');
}

static void json_flow(const struct traffic_client *client, struct traffic_flow *flow, unsigned index)
{
	const struct traffic_transfer *transfer = client->state;

	printf("{\"flow\":%u,\"status\":\"%s\",\"error\":", index, traffic_status_name(flow->status));
	traffic_report_json_string(stdout, traffic_report_error(flow->error));
	printf(",\"connect_ms\":%.3f,\"completion_ms\":%.3f", traffic_report_ms(flow->started_us, flow->connected_us),
	       traffic_report_ms(flow->started_us, flow->ended_us));
	if (transfer->sends)
		json_send(client, flow);
	else
		fputs(",\"send\":null", stdout);
	if (transfer->receives) {
		printf(",\"receive\":{\"bytes\":%" PRIu64
		       ",\"mbit_s\":%.3f,\"first_byte_ms\":%.3f,\"longest_gap_ms\":%.3f"
		       ",\"first_wrong_offset\":",
		       flow->sink.bytes, traffic_report_mbit_s(flow->sink.bytes, flow_duration_us(flow)),
		       traffic_report_ms(flow->started_us, flow->first_us),
		       (double)traffic_flow_longest_gap_us(flow) / 1e3);
		traffic_report_json_offset(stdout, flow->sink.first_wrong);
		fputs("}}", stdout);
	} else {
		fputs(",\"receive\":null}", stdout);
	}
}

struct total {
	uint64_t sent_bytes, confirmed_bytes, received_bytes, duration_us;
	bool intact; /* no wrong byte and no wrong count was seen */
};

static struct total add_up(const struct traffic_client *client)
{
	const struct traffic_transfer *transfer = client->state;
	struct total total = {.duration_us = client->ended_us - client->started_us, .intact = true};

	for (unsigned i = 0; i < transfer->count; i++) {
		const struct traffic_flow *flow = &transfer->flows[i];

		total.sent_bytes += flow->source.offset;
		total.confirmed_bytes += confirmed_bytes(client, flow);
		total.received_bytes += flow->sink.bytes;
		total.intact &= flow->status != TRAFFIC_WRONG_DATA;
	}
	return total;
}

static const char *direction_name(const struct traffic_transfer *transfer)
{
	if (transfer->sends && transfer->receives)
		return "both";
	return transfer->sends ? "send" : "receive";
}

static void report_json(const struct traffic_client *client, const struct total *total)
{
	const struct traffic_transfer *transfer = client->state;

	traffic_client_json_head(client, client->options->raw ? "raw" : "transfer");
	printf("\"direction\":\"%s\",\"flows\":[", direction_name(transfer));
	for (unsigned i = 0; i < transfer->count; i++) {
		if (i)
			putchar(',');
		json_flow(client, &transfer->flows[i], i);
	}
	printf("],\"total\":{\"status\":\"%s\",\"flows\":%u,\"failed\":%u,\"completion_ms\":%.3f",
	       transfer->failed ? "failed" : "ok", transfer->count, transfer->failed, (double)total->duration_us / 1e3);
	printf(",\"send\":{\"bytes\":%" PRIu64 ",\"confirmed_bytes\":%" PRIu64 ",\"mbit_s\":%.3f}", total->sent_bytes,
	       total->confirmed_bytes, traffic_report_mbit_s(total->confirmed_bytes, total->duration_us));
	printf(",\"receive\":{\"bytes\":%" PRIu64 ",\"mbit_s\":%.3f}}}\n", total->received_bytes,
	       traffic_report_mbit_s(total->received_bytes, total->duration_us));
}

static void text_integrity(const struct traffic_client *client, struct traffic_flow *flow)
{
	uint8_t sha256[TRAFFIC_SHA256_SIZE];
	char text[TRAFFIC_SHA256_TEXT_MAX];

	if (flow->status != TRAFFIC_OK)
		printf(", FAILED: %s", traffic_status_name(flow->status));
	else
		fputs(client->options->conf->verify && !client->options->raw ? ", intact" : ", complete", stdout);
	if (flow->error)
		printf(" (%s)", traffic_report_error(flow->error));
	if (sent_first_wrong(flow) != TRAFFIC_NO_OFFSET)
		printf(", first wrong byte sent at offset %" PRIu64, sent_first_wrong(flow));
	if (flow->sink.first_wrong != TRAFFIC_NO_OFFSET)
		printf(", first wrong byte received at offset %" PRIu64, flow->sink.first_wrong);
	if (traffic_source_sha256(&flow->source, sha256))
		printf("\n        sha256 %s sent", traffic_report_sha256(text, sha256));
	if (flow->has_theirs && flow->theirs.has_received_sha256)
		printf("\n        sha256 %s received", traffic_report_sha256(text, flow->theirs.received_sha256));
}

static void text_flow(const struct traffic_client *client, struct traffic_flow *flow, unsigned index)
{
	const struct traffic_transfer *transfer = client->state;
	uint64_t duration_us = flow_duration_us(flow);

	printf("flow %u: connected in %.3f ms, complete in %.3f ms", index,
	       traffic_report_ms(flow->started_us, flow->connected_us),
	       traffic_report_ms(flow->started_us, flow->ended_us));
	if (transfer->sends)
		printf(", sent %" PRIu64 " bytes, %" PRIu64 " confirmed, %.1f Mbit/s", flow->source.offset,
		       confirmed_bytes(client, flow),
		       traffic_report_mbit_s(confirmed_bytes(client, flow), duration_us));
	if (transfer->receives)
		printf(", received %" PRIu64 " bytes, %.1f Mbit/s", flow->sink.bytes,
		       traffic_report_mbit_s(flow->sink.bytes, duration_us));
	text_integrity(client, flow);
	putchar('\n');
}

static void report_text(const struct traffic_client *client, const struct total *total)
{
	const struct traffic_transfer *transfer = client->state;

	for (unsigned i = 0; i < transfer->count; i++)
		if (transfer->count <= FLOW_LINES_MAX || transfer->flows[i].status != TRAFFIC_OK)
			text_flow(client, &transfer->flows[i], i);
	printf("total: %u flow%s, %u failed, %.3f ms", transfer->count, transfer->count == 1 ? "" : "s",
	       transfer->failed, (double)total->duration_us / 1e3);
	if (transfer->sends)
		printf(", sent %" PRIu64 " bytes, %" PRIu64 " confirmed, %.1f Mbit/s", total->sent_bytes,
		       total->confirmed_bytes, traffic_report_mbit_s(total->confirmed_bytes, total->duration_us));
	if (transfer->receives)
		printf(", received %" PRIu64 " bytes, %.1f Mbit/s", total->received_bytes,
		       traffic_report_mbit_s(total->received_bytes, total->duration_us));
	puts(total->intact ? "" : ", WRONG DATA");
}

bool traffic_transfer_report(struct traffic_client *client)
{
	const struct traffic_transfer *transfer = client->state;
	struct total total = add_up(client);

	if (client->options->json)
		report_json(client, &total);
	else
		report_text(client, &total);
	return transfer->failed == 0;
}
