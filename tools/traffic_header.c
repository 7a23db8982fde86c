#include "traffic_header.h"

#include <errno.h>
#include <string.h>

#include "../common/core/bytes.h"
#include "traffic_pattern.h"

enum { MAGIC_SIZE = 8, CHECK_SIZE = 8 };

/* A byte above 127 and a line end: no text protocol starts so. */
static const uint8_t header_magic[MAGIC_SIZE] = {0x89, 'P', 'T', 'R', 'A', 'F', '\r', '\n'};
static const uint8_t trailer_magic[MAGIC_SIZE] = {0x89, 'P', 'T', 'E', 'N', 'D', '\r', '\n'};

static const char *const status_names[TRAFFIC_STATUS_COUNT] = {
        [TRAFFIC_OK] = "ok",
        [TRAFFIC_CONNECT_FAILED] = "connect_failed",
        [TRAFFIC_RESET] = "reset",
        [TRAFFIC_SHORT] = "short",
        [TRAFFIC_WRONG_DATA] = "wrong_data",
        [TRAFFIC_NO_REPORT] = "no_report",
        [TRAFFIC_BAD_HEADER] = "bad_header",
        [TRAFFIC_INPUT_FAILED] = "input_failed",
        [TRAFFIC_OUTPUT_FAILED] = "output_failed",
        [TRAFFIC_TIMED_OUT] = "timed_out",
        [TRAFFIC_INTERRUPTED] = "interrupted",
};

const char *traffic_status_name(enum traffic_status status)
{
	return (unsigned)status < TRAFFIC_STATUS_COUNT ? status_names[status] : "unknown";
}

/* The blocks have fixed sizes, and the functions below put and get exactly what fits: no cursor here can fail. */
static struct bytes_reader reader_behind_magic(const uint8_t *buf, size_t size)
{
	return (struct bytes_reader){.at = buf + MAGIC_SIZE, .end = buf + size};
}

static void put_check(struct bytes_writer *writer, const uint8_t *buf)
{
	bytes_put(writer, traffic_pattern_hash(buf, (size_t)(writer->at - buf)), 8);
}

static bool check_is_right(const uint8_t *buf, size_t size)
{
	struct bytes_reader reader = {.at = buf + size - CHECK_SIZE, .end = buf + size};

	return bytes_get_u64(&reader) == traffic_pattern_hash(buf, size - CHECK_SIZE);
}

void traffic_header_encode(uint8_t buf[TRAFFIC_HEADER_SIZE], const struct traffic_header *header)
{
	struct bytes_writer writer = {.at = buf, .end = buf + TRAFFIC_HEADER_SIZE};

	bytes_put_copy(&writer, header_magic, MAGIC_SIZE);
	bytes_put(&writer, TRAFFIC_VERSION, 1);
	bytes_put(&writer, header->mode, 1);
	bytes_put(&writer, header->flags, 2);
	bytes_put(&writer, header->flow, 4);
	bytes_put(&writer, header->seed, 8);
	bytes_put(&writer, header->forth_bytes, 8);
	bytes_put(&writer, header->back_bytes, 8);
	bytes_put(&writer, header->duration_ms, 8);
	put_check(&writer, buf);
}

bool traffic_header_may_start(const uint8_t *buf, size_t len_bytes)
{
	return memcmp(buf, header_magic, len_bytes < MAGIC_SIZE ? len_bytes : MAGIC_SIZE) == 0;
}

int traffic_header_decode(struct traffic_header *header, const uint8_t buf[TRAFFIC_HEADER_SIZE])
{
	struct bytes_reader reader = reader_behind_magic(buf, TRAFFIC_HEADER_SIZE);
	uint64_t duration_ms;
	uint8_t mode;

	if (!traffic_header_may_start(buf, MAGIC_SIZE) || !check_is_right(buf, TRAFFIC_HEADER_SIZE))
		return -EPROTO;
	if (bytes_get_u8(&reader) != TRAFFIC_VERSION)
		return -EPROTO;
	mode = bytes_get_u8(&reader);
	header->flags = bytes_get_u16(&reader);
	header->flow = bytes_get_u32(&reader);
	header->seed = bytes_get_u64(&reader);
	header->forth_bytes = bytes_get_u64(&reader);
	header->back_bytes = bytes_get_u64(&reader);
	duration_ms = bytes_get_u64(&reader);
	if (mode > TRAFFIC_REQUEST || header->flags > TRAFFIC_FLAGS || header->flow >= TRAFFIC_FLOWS_MAX)
		return -ERANGE;
	if (header->forth_bytes > TRAFFIC_BYTES_MAX || header->back_bytes > TRAFFIC_BYTES_MAX)
		return -ERANGE;
	if (duration_ms > TRAFFIC_DURATION_MAX_MS)
		return -ERANGE;
	header->mode = (enum traffic_mode)mode;
	header->duration_ms = (uint32_t)duration_ms;
	return 0;
}

void traffic_trailer_encode(uint8_t buf[TRAFFIC_TRAILER_SIZE], const struct traffic_trailer *trailer)
{
	struct bytes_writer writer = {.at = buf, .end = buf + TRAFFIC_TRAILER_SIZE};

	bytes_put_copy(&writer, trailer_magic, MAGIC_SIZE);
	bytes_put(&writer, trailer->sent_bytes, 8);
	bytes_put(&writer, trailer->received_bytes, 8);
	bytes_put(&writer, trailer->first_wrong, 8);
	bytes_put(&writer, trailer->receive_us, 8);
	bytes_put(&writer, trailer->status, 4);
	bytes_put(&writer, (uint32_t)trailer->has_sent_sha256 | (uint32_t)trailer->has_received_sha256 << 1, 4);
	bytes_put_copy(&writer, trailer->sent_sha256, TRAFFIC_SHA256_SIZE);
	bytes_put_copy(&writer, trailer->received_sha256, TRAFFIC_SHA256_SIZE);
	put_check(&writer, buf);
}

int traffic_trailer_decode(struct traffic_trailer *trailer, const uint8_t buf[TRAFFIC_TRAILER_SIZE])
{
	struct bytes_reader reader = reader_behind_magic(buf, TRAFFIC_TRAILER_SIZE);
	uint32_t status, has;

	if (memcmp(buf, trailer_magic, MAGIC_SIZE) != 0 || !check_is_right(buf, TRAFFIC_TRAILER_SIZE))
		return -EPROTO;
	trailer->sent_bytes = bytes_get_u64(&reader);
	trailer->received_bytes = bytes_get_u64(&reader);
	trailer->first_wrong = bytes_get_u64(&reader);
	trailer->receive_us = bytes_get_u64(&reader);
	status = bytes_get_u32(&reader);
	has = bytes_get_u32(&reader);
	if (status >= TRAFFIC_STATUS_COUNT || has > 3)
		return -EPROTO;
	trailer->status = (enum traffic_status)status;
	trailer->has_sent_sha256 = has & 1;
	trailer->has_received_sha256 = has >> 1;
	bytes_get_copy(&reader, trailer->sent_sha256, TRAFFIC_SHA256_SIZE);
	bytes_get_copy(&reader, trailer->received_sha256, TRAFFIC_SHA256_SIZE);
	return 0;
}
