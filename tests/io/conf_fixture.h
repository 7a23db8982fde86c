/* A configuration in a temporary file, loaded and freed; shared by the tests of conf. */
#ifndef TESTS_IO_CONF_FIXTURE_H
#define TESTS_IO_CONF_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../common/io/conf.h"

/* 32 bytes. */
#define KEY_TEXT "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n"

static char fixture_dir[] = "/tmp/pair_conf_XXXXXX";
static char fixture_conf[64]; /* the file that load() writes */
static char fixture_key[64];  /* a good key file */

static struct conf *conf; /* of the last load(), or NULL */
static char error[CONF_ERROR_MAX];

static inline void write_file(const char *name, const char *text, size_t len, mode_t mode)
{
	FILE *file = fopen(name, "we");

	if (!file || fwrite(text, 1, len, file) != len || fclose(file) != 0 || chmod(name, mode) < 0) {
		perror(name);
		exit(1);
	}
}

static inline void fixture_begin(void)
{
	if (!mkdtemp(fixture_dir)) {
		perror(fixture_dir);
		exit(1);
	}
	snprintf(fixture_conf, sizeof fixture_conf, "%s/n.conf", fixture_dir);
	snprintf(fixture_key, sizeof fixture_key, "%s/key", fixture_dir);
	write_file(fixture_key, KEY_TEXT, strlen(KEY_TEXT), 0600);
}

static inline void fixture_end(void)
{
	conf_free(conf);
	conf = NULL;
	unlink(fixture_conf);
	unlink(fixture_key);
	rmdir(fixture_dir);
}

/* `key` NULL: no override. */
static inline int load_with(enum conf_group group, const char *text, const char *key, const char *value)
{
	struct conf_override override = {.key = key, .value = value};
	int err;

	conf_free(conf);
	conf = NULL;
	write_file(fixture_conf, text, strlen(text), 0600);
	err = conf_load(&conf, group, fixture_conf, &override, key ? 1 : 0, error);
	if (err)
		conf = NULL;
	return err;
}

static inline int load(enum conf_group group, const char *text)
{
	return load_with(group, text, NULL, NULL);
}

#endif
