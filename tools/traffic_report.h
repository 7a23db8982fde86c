/* traffic_report: numbers for people and for programs: rates, quantiles, JSON values, the progress line. */
#ifndef PAIR_TOOLS_TRAFFIC_REPORT_H
#define PAIR_TOOLS_TRAFFIC_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "traffic_header.h"

enum { TRAFFIC_SHA256_TEXT_MAX = TRAFFIC_SHA256_SIZE * 2 + 1, TRAFFIC_OFFSET_TEXT_MAX = 24 };

/* 10^6 bits per second; 0 where no time has passed. */
double traffic_report_mbit_s(uint64_t bytes, uint64_t duration_us);

/* From one moment to a later one, in ms; 0 if one of them has not been. */
double traffic_report_ms(uint64_t from_us, uint64_t until_us);

/* Lower-case hexadecimal. Returns text. */
const char *traffic_report_sha256(char text[TRAFFIC_SHA256_TEXT_MAX], const uint8_t sha256[TRAFFIC_SHA256_SIZE]);

/* The number, or "none" for TRAFFIC_NO_OFFSET. Returns text. */
const char *traffic_report_offset(char text[TRAFFIC_OFFSET_TEXT_MAX], uint64_t offset);

/* JSON values: "text" quoted and escaped, or null; a hexadecimal string, or null; a number, or null. */
void traffic_report_json_string(FILE *to, const char *text);
void traffic_report_json_sha256(FILE *to, const uint8_t *sha256);
void traffic_report_json_offset(FILE *to, uint64_t offset);

/* What went wrong, for people: strerror of a negative errno, or NULL for 0. */
const char *traffic_report_error(int error);

/* Durations, to ask for quantiles when all are there. Zero-initialised; freed by traffic_samples_free. */
struct traffic_samples {
	uint64_t *us;
	size_t count, capacity;
};

/* 0 or -ENOMEM. */
int traffic_samples_add(struct traffic_samples *samples, uint64_t us);
void traffic_samples_free(struct traffic_samples *samples);

/* To be called once after the last add, before asking for quantiles. */
void traffic_samples_sort(struct traffic_samples *samples);

/* The smallest sample that is ≥ a share `quantile` (0..1) of all, in ms; 0 where there are none. */
double traffic_samples_ms(const struct traffic_samples *samples, double quantile);

/* One line that overwrites itself on a terminal, standard error; nothing where that is not a terminal. */
struct traffic_progress {
	bool shown; /* is one to be shown at all */
	uint64_t started_us, last_us, last_sent_bytes, last_received_bytes;
};

void traffic_progress_init(struct traffic_progress *progress, bool quiet, uint64_t now_us);
void traffic_progress_show(struct traffic_progress *progress, uint64_t now_us, unsigned flows, uint64_t sent_bytes,
                           uint64_t received_bytes);
void traffic_progress_clear(const struct traffic_progress *progress);

#endif
