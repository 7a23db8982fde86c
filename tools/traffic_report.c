#include "traffic_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

double traffic_report_mbit_s(uint64_t bytes, uint64_t duration_us)
{
	return duration_us ? (double)bytes * 8 / (double)duration_us : 0;
}

double traffic_report_ms(uint64_t from_us, uint64_t until_us)
{
	return from_us && until_us > from_us ? (double)(until_us - from_us) / 1e3 : 0;
}

const char *traffic_report_sha256(char text[TRAFFIC_SHA256_TEXT_MAX], const uint8_t sha256[TRAFFIC_SHA256_SIZE])
{
	for (unsigned i = 0; i < TRAFFIC_SHA256_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", sha256[i]);
	return text;
}

const char *traffic_report_offset(char text[TRAFFIC_OFFSET_TEXT_MAX], uint64_t offset)
{
	if (offset == TRAFFIC_NO_OFFSET)
		snprintf(text, TRAFFIC_OFFSET_TEXT_MAX, "none");
	else
		snprintf(text, TRAFFIC_OFFSET_TEXT_MAX, "%" PRIu64, offset);
	return text;
}

void traffic_report_json_string(FILE *to, const char *text)
{
	if (!text) {
		fputs("null", to);
		return;
	}
	putc('"', to);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < ' ')
			fprintf(to, "\\u%04x", c);
		else
			putc(c, to);
	}
	putc('"', to);
}

void traffic_report_json_sha256(FILE *to, const uint8_t *sha256)
{
	char text[TRAFFIC_SHA256_TEXT_MAX];

	traffic_report_json_string(to, sha256 ? traffic_report_sha256(text, sha256) : NULL);
}

void traffic_report_json_offset(FILE *to, uint64_t offset)
{
	if (offset == TRAFFIC_NO_OFFSET)
		fputs("null", to);
	else
		fprintf(to, "%" PRIu64, offset);
}

const char *traffic_report_error(int error)
{
	return error ? strerror(-error) : NULL;
}

int traffic_samples_add(struct traffic_samples *samples, uint64_t us)
{
	if (samples->count == samples->capacity) {
		size_t capacity = samples->capacity ? samples->capacity * 2 : 1024;
		uint64_t *grown = reallocarray(samples->us, capacity, sizeof *grown);

		if (!grown)
			return -ENOMEM;
		samples->us = grown;
		samples->capacity = capacity;
	}
	samples->us[samples->count++] = us;
	return 0;
}

void traffic_samples_free(struct traffic_samples *samples)
{
	free(samples->us);
	*samples = (struct traffic_samples){0};
}

static int compare_us(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

void traffic_samples_sort(struct traffic_samples *samples)
{
	if (samples->count)
		qsort(samples->us, samples->count, sizeof *samples->us, compare_us);
}

double traffic_samples_ms(const struct traffic_samples *samples, double quantile)
{
	size_t rank;

	if (!samples->count)
		return 0;
	/* Nearest rank: ceil(quantile · count), counted from 1. */
	rank = (size_t)(quantile * (double)samples->count);
	if ((double)rank < quantile * (double)samples->count)
		rank++;
	return (double)samples->us[rank ? rank - 1 : 0] / 1e3;
}

void traffic_progress_init(struct traffic_progress *progress, bool quiet, uint64_t now_us)
{
	*progress = (struct traffic_progress){
	        .shown = !quiet && isatty(STDERR_FILENO), .started_us = now_us, .last_us = now_us};
}

void traffic_progress_show(struct traffic_progress *progress, uint64_t now_us, unsigned flows, uint64_t sent_bytes,
                           uint64_t received_bytes)
{
	uint64_t past_us = now_us - progress->last_us;

	if (progress->shown)
		fprintf(stderr, "\r\033[K%.0f s: flows %u, %.1f Mbit/s out, %.1f Mbit/s in",
		        traffic_report_ms(progress->started_us, now_us) / 1e3, flows,
		        traffic_report_mbit_s(sent_bytes - progress->last_sent_bytes, past_us),
		        traffic_report_mbit_s(received_bytes - progress->last_received_bytes, past_us));
	progress->last_us = now_us;
	progress->last_sent_bytes = sent_bytes;
	progress->last_received_bytes = received_bytes;
}

void traffic_progress_clear(const struct traffic_progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
}
