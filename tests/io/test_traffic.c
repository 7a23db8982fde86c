/* What stream and receive are made of: pattern, header and trailer, source and sink, quantiles, names of output files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../tools/traffic_data.h"
#include "../../tools/traffic_out.h"
#include "../../tools/traffic_report.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"

enum { SPAN = 1200, ROOM = TRAFFIC_TRAILER_SIZE };

static void test_pattern(void)
{
	struct traffic_pattern pattern = traffic_pattern_make(1, 0, TRAFFIC_FORTH);
	uint8_t whole[SPAN], part[SPAN];

	traffic_pattern_fill(&pattern, 0, whole, SPAN);
	UNIT_CASE("pattern: every range of offsets is made as in one go") {
		for (size_t from = 0; from < 40; from++)
			for (size_t len = 0; len < 600; len++) {
				traffic_pattern_fill(&pattern, from, part, len);
				if (memcmp(part, whole + from, len) != 0)
					UNIT_FAIL("from %zu, %zu bytes", from, len);
			}
	}
	UNIT_CASE("pattern: the first wrong byte is found wherever it stands") {
		for (size_t from = 0; from < 9; from++)
			for (size_t wrong = from; wrong < SPAN; wrong++) {
				memcpy(part, whole, SPAN);
				part[wrong] ^= 1;
				part[SPAN - 1] ^= 0x80;
				if (traffic_pattern_check(&pattern, from, part + from, SPAN - from) != wrong - from)
					UNIT_FAIL("from %zu, byte %zu", from, wrong);
			}
	}
	UNIT_CASE("pattern: right data is right, far from the start too") {
		uint64_t far = (UINT64_C(1) << 40) - 11;

		traffic_pattern_fill(&pattern, far, part, SPAN);
		UNIT_EQ(traffic_pattern_check(&pattern, far, part, SPAN), SPAN);
		UNIT_EQ(traffic_pattern_check(&pattern, 0, whole, SPAN), SPAN);
	}
	UNIT_CASE("pattern: a shift shows within the first word") {
		for (uint64_t shift = 1; shift < 5000; shift++)
			UNIT_TRUE(traffic_pattern_check(&pattern, shift, whole, 8) < 8);
	}
	UNIT_CASE("pattern: seeds, flows and directions differ") {
		struct traffic_pattern others[] = {
		        traffic_pattern_make(2, 0, TRAFFIC_FORTH),
		        traffic_pattern_make(1, 1, TRAFFIC_FORTH),
		        traffic_pattern_make(1, 0, TRAFFIC_BACK),
		        traffic_pattern_make(0, 0, TRAFFIC_FORTH),
		};

		for (size_t i = 0; i < sizeof others / sizeof *others; i++)
			UNIT_TRUE(traffic_pattern_check(&others[i], 0, whole, 8) < 8);
	}
}

static const struct traffic_header good_header = {
        .mode = TRAFFIC_TRANSFER,
        .flags = TRAFFIC_HAS_FORTH | TRAFFIC_VERIFY,
        .flow = 9999,
        .seed = UINT64_MAX,
        .forth_bytes = TRAFFIC_BYTES_MAX,
        .back_bytes = 12,
        .duration_ms = TRAFFIC_DURATION_MAX_MS,
};

static void test_header(void)
{
	uint8_t buf[TRAFFIC_HEADER_SIZE];
	struct traffic_header got;

	UNIT_CASE("header: what is encoded is decoded") {
		traffic_header_encode(buf, &good_header);
		UNIT_EQ(traffic_header_decode(&got, buf), 0);
		UNIT_EQ(got.mode, good_header.mode);
		UNIT_EQ(got.flags, good_header.flags);
		UNIT_EQ(got.flow, good_header.flow);
		UNIT_EQ(got.seed, good_header.seed);
		UNIT_EQ(got.forth_bytes, good_header.forth_bytes);
		UNIT_EQ(got.back_bytes, good_header.back_bytes);
		UNIT_EQ(got.duration_ms, good_header.duration_ms);
	}
	UNIT_CASE("header: every single wrong bit is refused") {
		for (unsigned bit = 0; bit < TRAFFIC_HEADER_SIZE * 8; bit++) {
			traffic_header_encode(buf, &good_header);
			buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (traffic_header_decode(&got, buf) != -EPROTO)
				UNIT_FAIL("bit %u", bit);
		}
	}
	UNIT_CASE("header: what passes the limits is refused") {
		struct traffic_header wrong[6];

		for (size_t i = 0; i < 6; i++)
			wrong[i] = good_header;
		wrong[0].flow = TRAFFIC_FLOWS_MAX;
		wrong[1].forth_bytes = TRAFFIC_BYTES_MAX + 1;
		wrong[2].back_bytes = UINT64_MAX;
		wrong[3].duration_ms = TRAFFIC_DURATION_MAX_MS + 1;
		wrong[4].flags = TRAFFIC_FLAGS + 1;
		wrong[5].mode = TRAFFIC_REQUEST + 1;
		for (size_t i = 0; i < 6; i++) {
			traffic_header_encode(buf, &wrong[i]);
			UNIT_EQ(traffic_header_decode(&got, buf), -ERANGE);
		}
	}
	UNIT_CASE("header: its start is told from raw bytes with the first byte that differs") {
		traffic_header_encode(buf, &good_header);
		for (size_t len = 0; len <= TRAFFIC_HEADER_SIZE; len++)
			UNIT_TRUE(traffic_header_may_start(buf, len));
		UNIT_TRUE(!traffic_header_may_start((const uint8_t *)"G", 1));
		buf[7] ^= 1;
		UNIT_TRUE(traffic_header_may_start(buf, 7));
		UNIT_TRUE(!traffic_header_may_start(buf, 8));
	}
}

static const struct traffic_trailer good_trailer = {
        .sent_bytes = 1,
        .received_bytes = UINT64_MAX - 1,
        .first_wrong = TRAFFIC_NO_OFFSET,
        .receive_us = 7,
        .status = TRAFFIC_INTERRUPTED,
        .has_received_sha256 = true,
        .received_sha256 = {1, 2, 3, [31] = 32},
};

static void test_trailer(void)
{
	uint8_t buf[TRAFFIC_TRAILER_SIZE];
	struct traffic_trailer got;

	UNIT_CASE("trailer: what is encoded is decoded") {
		traffic_trailer_encode(buf, &good_trailer);
		UNIT_EQ(traffic_trailer_decode(&got, buf), 0);
		UNIT_EQ(got.sent_bytes, good_trailer.sent_bytes);
		UNIT_EQ(got.received_bytes, good_trailer.received_bytes);
		UNIT_EQ(got.first_wrong, good_trailer.first_wrong);
		UNIT_EQ(got.receive_us, good_trailer.receive_us);
		UNIT_EQ(got.status, good_trailer.status);
		UNIT_EQ(got.has_sent_sha256, false);
		UNIT_EQ(got.has_received_sha256, true);
		UNIT_MEM(got.received_sha256, good_trailer.received_sha256, TRAFFIC_SHA256_SIZE);
	}
	UNIT_CASE("trailer: every single wrong bit is refused") {
		for (unsigned bit = 0; bit < TRAFFIC_TRAILER_SIZE * 8; bit++) {
			traffic_trailer_encode(buf, &good_trailer);
			buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (traffic_trailer_decode(&got, buf) != -EPROTO)
				UNIT_FAIL("bit %u", bit);
		}
	}
	UNIT_CASE("trailer: an unknown status is refused") {
		struct traffic_trailer wrong = good_trailer;

		wrong.status = TRAFFIC_STATUS_COUNT;
		traffic_trailer_encode(buf, &wrong);
		UNIT_EQ(traffic_trailer_decode(&got, buf), -EPROTO);
	}
}

/* Gives `len` bytes to the sink in pieces of at most `piece`. */
static void feed(struct traffic_sink *sink, const uint8_t *data, size_t len, size_t piece)
{
	uint8_t buf[ROOM + SPAN];

	while (len > 0) {
		size_t now = len < piece ? len : piece;

		memcpy(buf + ROOM, data, now);
		traffic_sink_take(sink, buf + ROOM, now);
		data += now;
		len -= now;
	}
}

static void test_sink(void)
{
	struct traffic_pattern pattern = traffic_pattern_make(5, 3, TRAFFIC_FORTH);
	uint8_t data[SPAN];
	struct traffic_trailer got;
	struct traffic_sink sink;

	UNIT_CASE("sink: data and trailer are told apart in pieces of any size") {
		for (size_t len = 0; len <= 300; len += 1 + len / 50)
			for (size_t piece = 1; piece <= len + TRAFFIC_TRAILER_SIZE; piece++) {
				traffic_pattern_fill(&pattern, 0, data, len);
				traffic_trailer_encode(data + len, &good_trailer);
				traffic_sink_init(&sink);
				sink.kind = TRAFFIC_SINK_PATTERN;
				sink.pattern = pattern;
				sink.expects_trailer = true;
				feed(&sink, data, len + TRAFFIC_TRAILER_SIZE, piece);
				if (traffic_sink_end(&sink, &got) != 0 || sink.bytes != len ||
				    sink.first_wrong != TRAFFIC_NO_OFFSET || got.receive_us != good_trailer.receive_us)
					UNIT_FAIL("%zu bytes in pieces of %zu", len, piece);
				traffic_sink_free(&sink);
			}
	}
	UNIT_CASE("sink: without a trailer all of it is data") {
		for (size_t len = 0; len <= 300; len++) {
			traffic_pattern_fill(&pattern, 0, data, len);
			traffic_sink_init(&sink);
			sink.kind = TRAFFIC_SINK_PATTERN;
			sink.pattern = pattern;
			sink.expects_trailer = true;
			feed(&sink, data, len, 77);
			UNIT_EQ(traffic_sink_end(&sink, &got), -EPROTO);
			UNIT_EQ(sink.bytes, len);
			UNIT_EQ(sink.first_wrong, TRAFFIC_NO_OFFSET);
			traffic_sink_free(&sink);
		}
	}
	UNIT_CASE("sink: wrong, swapped, missing and doubled data show at their offset") {
		uint64_t seed = 11;

		for (int i = 0; i < 400; i++) {
			size_t at = unit_below(&seed, SPAN - 64), len = 1 + unit_below(&seed, 32);
			size_t total = SPAN;
			uint8_t other[32];

			traffic_pattern_fill(&pattern, 0, data, SPAN);
			switch (i % 4) {
			case 0:
				data[at] ^= (uint8_t)(1 + unit_below(&seed, 255));
				break;
			case 1:
				memcpy(other, data + at, len);
				memcpy(data + at, data + at + 32, len);
				memcpy(data + at + 32, other, len);
				break;
			case 2:
				memmove(data + at, data + at + len, SPAN - at - len);
				total = SPAN - len;
				break;
			case 3:
				memmove(data + at + len, data + at, SPAN - at - len);
				break;
			}
			traffic_sink_init(&sink);
			sink.kind = TRAFFIC_SINK_PATTERN;
			sink.pattern = pattern;
			feed(&sink, data, total, 1 + unit_below(&seed, SPAN - 1));
			/* By chance a moved byte may equal the one that belongs there: then it shows a little later. */
			if (sink.first_wrong < at || sink.first_wrong > at + len + 4)
				UNIT_FAIL("kind %d at %zu, %zu bytes: %llu", i % 4, at, len,
				          (unsigned long long)sink.first_wrong);
			traffic_sink_free(&sink);
		}
	}
}

static void test_source(void)
{
	struct traffic_pattern pattern = traffic_pattern_make(6, 0, TRAFFIC_BACK);
	uint8_t chunk[100], want[SPAN];
	struct traffic_source source;

	UNIT_CASE("source: what was not sent is made again") {
		uint64_t seed = 3;

		traffic_pattern_fill(&pattern, 0, want, SPAN);
		UNIT_EQ(traffic_source_init(&source, -1, pattern, SPAN, false), 0);
		while (!source.ended) {
			long filled = traffic_source_fill(&source, chunk, sizeof chunk);

			if (!UNIT_TRUE(filled > 0 && source.offset + (uint64_t)filled <= SPAN))
				break;
			UNIT_MEM(chunk, want + source.offset, (size_t)filled);
			traffic_source_sent(&source, chunk, unit_below(&seed, (uint64_t)filled + 1));
		}
		UNIT_EQ(source.offset, SPAN);
		UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), 0);
		traffic_source_free(&source);
	}
	UNIT_CASE("source: nothing to send, and stopped early") {
		UNIT_EQ(traffic_source_init(&source, -1, pattern, 0, false), 0);
		UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), 0);
		UNIT_TRUE(source.ended);
		UNIT_EQ(traffic_source_init(&source, -1, pattern, SPAN, false), 0);
		traffic_source_stop(&source);
		UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), 0);
	}
	UNIT_CASE("source: a file with its SHA-256, a file that cannot be read") {
		/* FIPS 180-2, appendix B.1: "abc" */
		static const char want_text[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
		char name[] = "/tmp/test_traffic.XXXXXX", text[TRAFFIC_SHA256_TEXT_MAX];
		uint8_t sha256[TRAFFIC_SHA256_SIZE];
		int fd = mkstemp(name);

		if (!UNIT_TRUE(fd >= 0))
			break;
		UNIT_EQ(write(fd, "abc", 3), 3);
		UNIT_EQ(traffic_source_init(&source, fd, pattern, TRAFFIC_BYTES_MAX, true), 0);
		for (int i = 0; i < 3; i++) {
			UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), 3 - i);
			traffic_source_sent(&source, chunk, 1);
		}
		UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), 0);
		UNIT_TRUE(source.ended && traffic_source_sha256(&source, sha256));
		UNIT_STR(traffic_report_sha256(text, sha256), want_text);
		traffic_source_free(&source);
		close(fd);
		unlink(name);
		fd = open("/", O_RDONLY | O_DIRECTORY);
		UNIT_EQ(traffic_source_init(&source, fd, pattern, TRAFFIC_BYTES_MAX, false), 0);
		UNIT_EQ(traffic_source_fill(&source, chunk, sizeof chunk), -EISDIR);
		close(fd);
	}
}

static void test_report(void)
{
	UNIT_CASE("samples: quantiles by nearest rank") {
		struct traffic_samples samples = {0};

		UNIT_EQ(traffic_samples_ms(&samples, 0.5), 0);
		for (uint64_t us = 100; us > 0; us--)
			UNIT_EQ(traffic_samples_add(&samples, us * 1000), 0);
		traffic_samples_sort(&samples);
		UNIT_EQ(traffic_samples_ms(&samples, 0), 1);
		UNIT_EQ(traffic_samples_ms(&samples, 0.5), 50);
		UNIT_EQ(traffic_samples_ms(&samples, 0.9), 90);
		UNIT_EQ(traffic_samples_ms(&samples, 0.99), 99);
		UNIT_EQ(traffic_samples_ms(&samples, 1), 100);
		traffic_samples_free(&samples);
	}
	UNIT_CASE("rates: 10^6 bits per second, none in no time") {
		UNIT_EQ(traffic_report_mbit_s(125000, 1000000), 1);
		UNIT_EQ(traffic_report_mbit_s(125000, 0), 0);
		UNIT_EQ(traffic_report_ms(1000, 3000), 2);
		UNIT_EQ(traffic_report_ms(0, 3000), 0);
	}
}

static void test_out(void)
{
	char dir[] = "/tmp/test_traffic.XXXXXX", name[64], path[96], want[96];
	struct traffic_out out = {.name = name};
	int error, fd;

	if (!mkdtemp(dir))
		abort();
	UNIT_CASE("out: the first file has the name itself, those after it a number") {
		snprintf(name, sizeof name, "%s/out", dir);
		for (unsigned i = 0; i < 3; i++) {
			snprintf(want, sizeof want, i ? "%s.%u" : "%s", name, i);
			fd = traffic_out_open(&out, path, sizeof path, &error);
			UNIT_TRUE(fd >= 0 && error == 0);
			UNIT_STR(path, want);
			UNIT_EQ(close(fd), 0);
			UNIT_EQ(unlink(path), 0);
		}
	}
	UNIT_CASE("out: %%d is the number") {
		snprintf(name, sizeof name, "%s/o%%d%%s.bin", dir);
		out.opened = 7;
		snprintf(want, sizeof want, "%s/o7%%s.bin", dir);
		fd = traffic_out_open(&out, path, sizeof path, &error);
		UNIT_STR(path, want);
		UNIT_EQ(close(fd), 0);
		UNIT_EQ(unlink(path), 0);
	}
	UNIT_CASE("out: a device is shared, no name writes nothing, a wrong name fails") {
		snprintf(name, sizeof name, "/dev/null");
		UNIT_EQ(close(traffic_out_open(&out, path, sizeof path, &error)), 0);
		UNIT_STR(path, "/dev/null");
		snprintf(name, sizeof name, "%s/none/out", dir);
		UNIT_EQ(traffic_out_open(&out, path, sizeof path, &error), -1);
		UNIT_EQ(error, -ENOENT);
		name[0] = '\0';
		UNIT_EQ(traffic_out_open(&out, path, sizeof path, &error), -1);
		UNIT_EQ(error, 0);
	}
	UNIT_CASE("out: strangers cannot fill the directory") {
		snprintf(name, sizeof name, "%s/out", dir);
		out.opened = TRAFFIC_OUT_FILES_MAX;
		UNIT_EQ(traffic_out_open(&out, path, sizeof path, &error), -1);
		UNIT_EQ(error, -EMFILE);
	}
	rmdir(dir);
}

int main(void)
{
	test_pattern();
	test_header();
	test_trailer();
	test_sink();
	test_source();
	test_report();
	test_out();
	return unit_exit();
}
