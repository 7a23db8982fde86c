#include "failures.h"

#include <stdio.h>
#include <string.h>

static struct failures_kind *find(struct failures *failures, const char *step, const char *reason)
{
	for (unsigned i = 0; i < FAILURES_KINDS; i++) {
		struct failures_kind *kind = &failures->kinds[i];
		if (kind->step && strcmp(kind->step, step) == 0 &&
		    strncmp(kind->reason, reason, FAILURES_REASON_MAX - 1) == 0)
			return kind;
	}
	return NULL;
}

static struct failures_kind *replace(struct failures *failures, const char *step, const char *reason)
{
	struct failures_kind *kind = failures->kinds;

	for (unsigned i = 0; i < FAILURES_KINDS && kind->step; i++)
		if (!failures->kinds[i].step || failures->kinds[i].told_us < kind->told_us)
			kind = &failures->kinds[i];
	*kind = (struct failures_kind){.step = step};
	snprintf(kind->reason, sizeof kind->reason, "%s", reason);
	return kind;
}

bool failures_note(struct failures *failures, const char *step, const char *reason, uint64_t now_us, unsigned *count)
{
	struct failures_kind *kind = find(failures, step, reason);
	bool is_new = !kind;

	if (is_new)
		kind = replace(failures, step, reason);
	kind->count++;
	if (!is_new && now_us - kind->told_us < FAILURES_AGAIN_US)
		return false;
	kind->told_us = now_us;
	*count = kind->count;
	kind->count = 0;
	return true;
}
