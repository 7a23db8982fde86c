#include "traffic_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* 0 or -ENAMETOOLONG. */
static int make_path(const struct traffic_out *out, char *path, size_t path_size)
{
	const char *place = strstr(out->name, "%d");
	struct stat found;
	int len;

	if (place)
		len = snprintf(path, path_size, "%.*s%u%s", (int)(place - out->name), out->name, out->opened,
		               place + 2);
	else if (out->opened == 0 || (stat(out->name, &found) == 0 && !S_ISREG(found.st_mode)))
		len = snprintf(path, path_size, "%s", out->name);
	else
		len = snprintf(path, path_size, "%s.%u", out->name, out->opened);
	return len < 0 || (size_t)len >= path_size ? -ENAMETOOLONG : 0;
}

int traffic_out_open(struct traffic_out *out, char *path, size_t path_size, int *error)
{
	int fd;

	path[0] = '\0';
	*error = 0;
	if (!out->name[0])
		return -1;
	if (out->opened == TRAFFIC_OUT_FILES_MAX)
		*error = -EMFILE;
	else
		*error = make_path(out, path, path_size);
	if (*error)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		*error = -errno;
	else
		out->opened++;
	return fd;
}
