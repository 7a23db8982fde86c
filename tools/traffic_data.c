#include "traffic_data.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct traffic_digest {
	EVP_MD_CTX *evp;
};

static void digest_free(struct traffic_digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->evp);
	free(digest);
}

static struct traffic_digest *digest_new(void)
{
	struct traffic_digest *digest = calloc(1, sizeof *digest);

	if (!digest)
		return NULL;
	digest->evp = EVP_MD_CTX_new();
	if (!digest->evp || !EVP_DigestInit_ex(digest->evp, EVP_sha256(), NULL)) {
		digest_free(digest);
		return NULL;
	}
	return digest;
}

/* Of a copy, so that it may be asked for at any time. */
static bool digest_value(const struct traffic_digest *digest, uint8_t sha256[TRAFFIC_SHA256_SIZE])
{
	EVP_MD_CTX *copy;
	bool done;

	if (!digest)
		return false;
	copy = EVP_MD_CTX_new();
	done = copy && EVP_MD_CTX_copy_ex(copy, digest->evp) && EVP_DigestFinal_ex(copy, sha256, NULL);
	EVP_MD_CTX_free(copy);
	return done;
}

int traffic_source_init(struct traffic_source *source, int file_fd, struct traffic_pattern pattern,
                        uint64_t limit_bytes, bool with_digest)
{
	*source = (struct traffic_source){.file_fd = file_fd, .pattern = pattern, .limit_bytes = limit_bytes};
	if (!with_digest)
		return 0;
	source->digest = digest_new();
	return source->digest ? 0 : -ENOMEM;
}

void traffic_source_free(struct traffic_source *source)
{
	digest_free(source->digest);
	source->digest = NULL;
}

long traffic_source_fill(struct traffic_source *source, uint8_t *buf, size_t size)
{
	uint64_t left = source->limit_bytes - source->offset;
	ssize_t got;

	if (source->ended || left == 0) {
		source->ended = true;
		return 0;
	}
	if (size > left)
		size = left;
	if (source->file_fd < 0) {
		traffic_pattern_fill(&source->pattern, source->offset, buf, size);
		return (long)size;
	}
	do
		got = pread(source->file_fd, buf, size, (off_t)source->offset);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got == 0)
		source->ended = true;
	return got;
}

void traffic_source_sent(struct traffic_source *source, const uint8_t *buf, size_t len_bytes)
{
	source->offset += len_bytes;
	if (source->offset == source->limit_bytes)
		source->ended = true;
	if (source->digest)
		EVP_DigestUpdate(source->digest->evp, buf, len_bytes);
}

void traffic_source_stop(struct traffic_source *source)
{
	source->ended = true;
}

bool traffic_source_sha256(struct traffic_source *source, uint8_t sha256[TRAFFIC_SHA256_SIZE])
{
	return digest_value(source->digest, sha256);
}

void traffic_sink_init(struct traffic_sink *sink)
{
	*sink = (struct traffic_sink){.kind = TRAFFIC_SINK_COUNT, .file_fd = -1, .first_wrong = TRAFFIC_NO_OFFSET};
}

void traffic_sink_free(struct traffic_sink *sink)
{
	digest_free(sink->digest);
	sink->digest = NULL;
	if (sink->file_fd >= 0)
		close(sink->file_fd);
	sink->file_fd = -1;
}

int traffic_sink_add_digest(struct traffic_sink *sink)
{
	sink->digest = digest_new();
	return sink->digest ? 0 : -ENOMEM;
}

static void sink_write(struct traffic_sink *sink, const uint8_t *data, size_t len_bytes)
{
	while (len_bytes > 0 && !sink->error) {
		ssize_t put = write(sink->file_fd, data, len_bytes);

		if (put >= 0) {
			data += put;
			len_bytes -= (size_t)put;
		} else if (errno != EINTR) {
			sink->error = -errno;
		}
	}
}

static void sink_consume(struct traffic_sink *sink, const uint8_t *data, size_t len_bytes)
{
	switch (sink->kind) {
	case TRAFFIC_SINK_COUNT:
		break;
	case TRAFFIC_SINK_PATTERN:
		if (sink->first_wrong == TRAFFIC_NO_OFFSET) {
			size_t right = traffic_pattern_check(&sink->pattern, sink->bytes, data, len_bytes);

			if (right < len_bytes)
				sink->first_wrong = sink->bytes + right;
		}
		break;
	case TRAFFIC_SINK_BYTES:
		if (sink->file_fd >= 0)
			sink_write(sink, data, len_bytes);
		if (sink->digest)
			EVP_DigestUpdate(sink->digest->evp, data, len_bytes);
		break;
	}
	sink->bytes += len_bytes;
}

void traffic_sink_take(struct traffic_sink *sink, uint8_t *data, size_t len_bytes)
{
	size_t total_bytes = sink->held_bytes + len_bytes;
	size_t hold_bytes;

	if (!sink->expects_trailer) {
		sink_consume(sink, data, len_bytes);
		return;
	}
	data -= sink->held_bytes;
	memcpy(data, sink->held, sink->held_bytes);
	hold_bytes = total_bytes < TRAFFIC_TRAILER_SIZE ? total_bytes : TRAFFIC_TRAILER_SIZE;
	if (total_bytes > hold_bytes)
		sink_consume(sink, data, total_bytes - hold_bytes);
	memcpy(sink->held, data + total_bytes - hold_bytes, hold_bytes);
	sink->held_bytes = hold_bytes;
}

int traffic_sink_end(struct traffic_sink *sink, struct traffic_trailer *trailer)
{
	size_t held_bytes = sink->held_bytes;

	sink->held_bytes = 0;
	if (!sink->expects_trailer)
		return 0;
	if (held_bytes == TRAFFIC_TRAILER_SIZE && traffic_trailer_decode(trailer, sink->held) == 0)
		return 0;
	sink_consume(sink, sink->held, held_bytes);
	return -EPROTO;
}

bool traffic_sink_sha256(struct traffic_sink *sink, uint8_t sha256[TRAFFIC_SHA256_SIZE])
{
	return digest_value(sink->digest, sha256);
}
