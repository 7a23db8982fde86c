/* Writes the first inputs of each fuzz target into tests/fuzz/corpus: one of each frame, and typical schedules. What
 * fuzzing found beyond these was added by libFuzzer's -merge=1.
 *
 *   cc -o /tmp/make_corpus tests/fuzz/make_corpus.c common/core/frame.c && /tmp/make_corpus tests/fuzz/corpus
 */
#include <stdio.h>
#include <string.h>

#include "../../common/core/frame.h"
#include "../../common/core/parity.h"

static const char *folder;

static void save(const char *target, const char *name, const uint8_t *bytes, size_t len)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
	file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, len, file) != len)
		perror(path);
	if (file)
		fclose(file);
}

static size_t put(uint8_t *to, struct frame f)
{
	size_t len = frame_encode_head(to, &f);

	memset(to + len, 'x', f.payload_len);
	return len + f.payload_len;
}

static void frames(void)
{
	static const struct addr ipv4 = {.family = ADDR_IPV4, .ip = {192, 0, 2, 1}, .port = 80};
	static const struct addr ipv6 = {.family = ADDR_IPV6, .ip = {0x20, 1, 0x0d, 0xb8}, .port = 443};
	const struct frame all[] = {
	        {.type = FRAME_HELLO, .hello = {.stripes = 8, .reinject_percent = 100, .congestion = "bbr"}},
	        {.type = FRAME_WELCOME, .welcome = {.status = WELCOME_BUSY}},
	        {.type = FRAME_PING, .token = 1},
	        {.type = FRAME_PONG, .token = 2},
	        {.type = FRAME_GOAWAY},
	        {.type = FRAME_OPEN, .flow = 1, .open.syn = {.src = ipv4, .dst = ipv4}, .payload_len = 20},
	        {.type = FRAME_OPEN, .flow = 2, .open.syn = {.src = ipv6, .dst = ipv6}, .flags = FRAME_FLAG_COPY},
	        {.type = FRAME_OPEN_RESULT, .flow = 1, .result = {.status = OPEN_REFUSED, .window_edge = 65536}},
	        {.type = FRAME_DATA, .flow = 1, .offset = 7, .payload_len = 100, .flags = FRAME_FLAG_FIN},
	        {.type = FRAME_DATA, .flow = 1, .offset = FRAME_OFFSET_MAX},
	        {.type = FRAME_BLOCK, .flow = 1, .offset = 9, .block = {.start = 7, .rows = 3}, .payload_len = 100},
	        {.type = FRAME_PARITY,
	         .flow = 1,
	         .block = {.start = 7, .len = 102, .rows = 3, .row = 2},
	         .payload_len = PARITY_SYMBOL_BYTES},
	        {.type = FRAME_ACK, .flow = 1, .ack = {.offset = 9, .edge = 99}},
	        {.type = FRAME_RESET, .flow = 1, .reason = RESET_TIMED_OUT},
	        {.type = FRAME_GONE, .flow = 1},
	};
	uint8_t stream[4096], one[2048];
	size_t len = 1;

	stream[0] = 1;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		char name[32];
		one[0] = (uint8_t)i;
		snprintf(name, sizeof name, "frame_%02zu", i);
		save("fuzz_frame_reader", name, one, 1 + put(one + 1, all[i]));
		len += put(stream + len, all[i]);
	}
	save("fuzz_frame_reader", "all", stream, len);
}

/* Operations of fuzz_session.c, written as their bytes. */
static void schedules(void)
{
	static const uint8_t client[] = {
	        0,                                                   /* client */
	        0,  0, 0,  1,   1,                                   /* a stripe, welcomed */
	        0,  1, 1,  1,   1,                                   /* another on path 1 */
	        1,                                                   /* a flow */
	        10, 0, 3,  232, 1,  3,                               /* writes 1000 bytes */
	        18, 0, 10,                                           /* runs */
	        23, 4, 0,  1,   0,  2,   0,   100, 1,   1,           /* OPEN_RESULT, connected */
	        18, 0, 10, 10,  0,  255, 255, 1,   7,   18,  0,  10, /* writes more */
	        8,  0, 1,  0,   1,  0,   0,   1,   255, 255,         /* the kernel's figures */
	        23, 6, 0,  5,   0,  0,   7,   255, 255, 1,           /* ACK of what was sent */
	        23, 5, 0,  1,   1,  0,   0,   0,   100, 1,   1,      /* DATA at `next`, FIN */
	        18, 0, 10, 11,  0,  1,   12,  0,   18,  0,   10,     /* reads, ends */
	        9,  1, 18, 0,   10,                                  /* the first stripe dies */
	        3,  1, 3,  2,
	};
	static const uint8_t server[] = {
	        1,                                            /* server */
	        0,  0,  0,  0,  1, 1,                         /* two stripes */
	        23, 3,  0,  0,  0, 0,   0,   0,   1,   1,     /* OPEN */
	        18, 0,  10, 14, 0, 1,   18,  0,   10,         /* connected */
	        23, 5,  0,  0,  1, 0,   0,   0,   100, 1,  1, /* DATA */
	        18, 0,  10, 10, 0, 255, 255, 1,   7,   18, 0, 10, 23, 5, 0, 1, 1, 0,  0, 0,  100, 1, 1, /* DATA, FIN */
	        23, 9,  0,  0,  1, 100, 1,   144, 2,   1,  3, 1,                                        /* BLOCK */
	        23, 10, 0,  1,  1, 1,   10,  2,   1,   1,                                               /* PARITY */
	        11, 0,  1,  12, 0, 18,  0,   10,  23,  7,  0, 0,  1,                                    /* RESET */
	        18, 0,  10, 4,  1, 23,  3,   1,   0,   0,  0, 0,  0,  1, 1, 5, 2, 18, 0, 10,
	};

	save("fuzz_session", "client", client, sizeof client);
	save("fuzz_session", "server", server, sizeof server);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	folder = argv[1];
	frames();
	schedules();
	return 0;
}
