/* soak_flows: the flows of the soak. See client.h, server.h, plan.h; flow_end.h tells what a verdict means.
 *
 *   soak_flows server PORT LOG
 *   soak_flows client ADDRESS PORT CLOSED_PORT SEED FIRST_ID SECONDS DRAIN_S RATE IDLE_MAX_MS LIVE_MAX LOG STATUS
 *   soak_flows content KEY BYTES         writes that content
 *   soak_flows plan SEED COUNT RATE IDLE_MAX_MS      writes what the first flows are
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "content.h"
#include "plan.h"
#include "server.h"

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

static int run_client(char **args)
{
	const struct client_options options = {
	        .address = args[0],
	        .port = (uint16_t)number(args[1]),
	        .closed_port = (uint16_t)number(args[2]),
	        .seed = number(args[3]),
	        .first_id = (uint32_t)number(args[4]),
	        .seconds = atof(args[5]),
	        .drain_s = atof(args[6]),
	        .rate = atof(args[7]),
	        .idle_max_ms = (uint32_t)number(args[8]),
	        .live_max = (unsigned)number(args[9]),
	        .log = args[10],
	        .status = args[11],
	};

	return client_run(&options);
}

static int write_content(uint64_t key, uint64_t bytes)
{
	uint8_t piece[65536];

	for (uint64_t offset = 0; offset < bytes;) {
		size_t len = bytes - offset < sizeof piece ? (size_t)(bytes - offset) : sizeof piece;

		content_fill(key, offset, piece, len);
		if (fwrite(piece, 1, len, stdout) != len)
			return 1;
		offset += len;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

static int write_plan(uint64_t seed, uint32_t count, double rate, uint32_t idle_max_ms)
{
	struct plan_flow flow;

	for (uint32_t i = 0; i < count; i++) {
		plan_make(&flow, seed, i, rate, idle_max_ms);
		printf("index=%" PRIu32 " after_ms=%" PRIu32 " kind=%s up=%" PRIu64 " down=%" PRIu64 "\n", i,
		       flow.pause_ms, plan_kind_name(flow.kind), flow.client.send_bytes, flow.client.receive_bytes);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "server") == 0)
		return server_run((uint16_t)number(argv[2]), argv[3]);
	if (argc == 14 && strcmp(argv[1], "client") == 0)
		return run_client(argv + 2);
	if (argc == 4 && strcmp(argv[1], "content") == 0)
		return write_content(number(argv[2]), number(argv[3]));
	if (argc == 6 && strcmp(argv[1], "plan") == 0)
		return write_plan(number(argv[2]), (uint32_t)number(argv[3]), atof(argv[4]), (uint32_t)number(argv[5]));
	fputs("soak_flows: see tests/soak/main.c\n", stderr);
	return 2;
}
