#include "link_figures.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct suffix {
	const char *text;
	double factor;
};

static const struct suffix size_suffixes[] = {
        {"k", 1e3},          {"K", 1e3}, {"M", 1e6},         {"G", 1e9}, {"Ki", 1024},
        {"Mi", 1024 * 1024}, {"", 1},    {"Gi", 1073741824}, {NULL, 0},
};
static const struct suffix time_suffixes[] = {
        {"", 1e6}, {"ms", 1e6}, {"us", 1e3}, {"s", 1e9}, {NULL, 0},
};
static const struct suffix share_suffixes[] = {{"", 1}, {"%", 0.01}, {NULL, 0}};

/* A decimal number with one of `suffixes`, and then `unit` if that is there. -EINVAL outside 0..max. */
static int scaled_parse(const char *text, const struct suffix *suffixes, const char *unit, double max, double *value)
{
	char *end;
	double number;

	/* strtod would also take spaces, signs, hexadecimal, "inf" and "nan". */
	if (text[0] < '0' || text[0] > '9' || text[1] == 'x' || text[1] == 'X')
		return -EINVAL;
	number = strtod(text, &end);
	for (const struct suffix *s = suffixes; s->text; s++) {
		size_t n = strlen(s->text);

		if (strncmp(end, s->text, n) != 0 || (end[n] != '\0' && strcmp(end + n, unit) != 0))
			continue;
		number *= s->factor;
		if (!(number >= 0 && number <= max))
			return -EINVAL;
		*value = number;
		return 0;
	}
	return -EINVAL;
}

int link_number_parse(const char *text, const char *unit, uint64_t max, uint64_t *value)
{
	double number;

	if (scaled_parse(text, size_suffixes, unit, (double)max, &number) < 0)
		return -EINVAL;
	*value = (uint64_t)llround(number);
	return 0;
}

static int share_parse(const char *text, double *share)
{
	return scaled_parse(text, share_suffixes, "", 1.0, share);
}

static int switch_parse(const char *text, bool *on)
{
	if (strcmp(text, "on") == 0)
		*on = true;
	else if (strcmp(text, "off") == 0)
		*on = false;
	else
		return -EINVAL;
	return 0;
}

__attribute__((format(printf, 3, 4))) static int refuse(char *why, size_t why_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_size, format, args);
	va_end(args);
	return -EINVAL;
}

/* One `key=value` for one direction. */
static int figure_set(struct link_figures *f, const char *word, char *why, size_t why_size)
{
	const char *value = strchr(word, '=') + 1;
	size_t key_len = (size_t)(value - 1 - word);
	double number;

#define KEY_IS(name) (key_len == sizeof(name) - 1 && memcmp(word, name, key_len) == 0)
	if (KEY_IS("rate")) {
		if (link_number_parse(value, "bit", LINK_RATE_MAX_BPS, &f->rate_bps) < 0)
			return refuse(why, why_size,
			              "%s: expected bits per second up to 100G, such as 100M (0: no limit)", word);
	} else if (KEY_IS("delay")) {
		if (scaled_parse(value, time_suffixes, "", LINK_DELAY_MAX_NS, &number) < 0)
			return refuse(why, why_size, "%s: expected a time up to 10s, such as 25ms or 300us", word);
		f->delay_ns = (uint64_t)llround(number);
	} else if (KEY_IS("queue")) {
		if (link_number_parse(value, "", LINK_QUEUE_MAX_BYTES, &f->queue_bytes) < 0)
			return refuse(why, why_size, "%s: expected bytes up to 1G, such as 625000 (0: no limit)", word);
	} else if (KEY_IS("loss")) {
		if (share_parse(value, &f->loss) < 0)
			return refuse(why, why_size, "%s: expected 0%% to 100%%, or 0 to 1", word);
	} else if (KEY_IS("burst")) {
		if (scaled_parse(value, size_suffixes, "", LINK_BURST_MAX_FRAMES, &number) < 0 ||
		    (number > 0 && number < 1))
			return refuse(why, why_size, "%s: expected frames, 1 to 100000 (0: independent losses)", word);
		f->burst_frames = number;
	} else if (KEY_IS("loss_bad")) {
		if (share_parse(value, &number) < 0 || number <= 0)
			return refuse(why, why_size, "%s: expected more than 0%%, up to 100%%", word);
		f->loss_bad = number;
	} else if (KEY_IS("blackhole")) {
		if (switch_parse(value, &f->blackhole) < 0)
			return refuse(why, why_size, "%s: expected on or off", word);
	} else {
		return refuse(why, why_size,
		              "%s: unknown key; expected rate, delay, queue, loss, burst, loss_bad, blackhole or seed",
		              word);
	}
#undef KEY_IS
	return 0;
}

/* Bursts of that length need good frames between them: with mean burst B and share L of the time in the bad state,
 * the good state is left with probability L / (1 - L) / B, which cannot be above 1. */
static int figures_check(const struct link_figures *f, char *why, size_t why_size)
{
	double bad_share;

	if (f->burst_frames == 0 || f->loss == 0)
		return 0;
	bad_share = f->loss / f->loss_bad;
	if (bad_share > f->burst_frames / (1 + f->burst_frames))
		return refuse(why, why_size, "loss=%g is more than burst=%g loss_bad=%g can give: at most %g", f->loss,
		              f->burst_frames, f->loss_bad, f->loss_bad * f->burst_frames / (1 + f->burst_frames));
	return 0;
}

void link_figures_init(struct link_figures *figures)
{
	*figures = (struct link_figures){.loss_bad = 1.0};
}

int link_figures_parse(struct link_figures *both, char *const *words, size_t count, uint64_t *seed, bool *has_seed,
                       char *why, size_t why_size)
{
	struct link_figures next[LINK_SIDES];
	unsigned chosen = 3; /* bit per side */
	uint64_t new_seed = 0;
	bool seeded = false;

	memcpy(next, both, sizeof(next));
	for (size_t i = 0; i < count; i++) {
		const char *word = words[i];

		if (strcmp(word, "ab") == 0) {
			chosen = 1U << LINK_A_TO_B;
		} else if (strcmp(word, "ba") == 0) {
			chosen = 1U << LINK_B_TO_A;
		} else if (strcmp(word, "both") == 0) {
			chosen = 3;
		} else if (strncmp(word, "seed=", 5) == 0) {
			if (link_number_parse(word + 5, "", 1ULL << 53, &new_seed) < 0)
				return refuse(why, why_size, "%s: expected a whole number up to 2^53", word);
			seeded = true;
		} else if (!strchr(word, '=')) {
			return refuse(why, why_size, "%s: expected key=value, ab, ba or both", word);
		} else {
			for (int side = 0; side < LINK_SIDES; side++)
				if ((chosen & (1U << side)) && figure_set(&next[side], word, why, why_size) < 0)
					return -EINVAL;
		}
	}
	for (int side = 0; side < LINK_SIDES; side++)
		if (figures_check(&next[side], why, why_size) < 0)
			return -EINVAL;
	memcpy(both, next, sizeof(next));
	if (seeded) {
		*seed = new_seed;
		*has_seed = true;
	}
	return 0;
}
