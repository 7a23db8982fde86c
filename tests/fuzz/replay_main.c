/* Runs files through a fuzz target: those named, or every one of tests/fuzz/corpus/TARGET, where TARGET is the
 * program's name. One case a file; the name of the file that is running is known when the target crashes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { INPUT_MAX = 1 << 20 };

static int replay(const char *path)
{
	static uint8_t input[INPUT_MAX];
	const char *name = strrchr(path, '/');
	FILE *file = fopen(path, "rb");

	name = name ? name + 1 : path;
	if (!file) {
		printf("not ok - %s: cannot be read\n", name);
		return 1;
	}
	size_t len = fread(input, 1, sizeof input, file);
	fclose(file);
	fprintf(stderr, "# %s\n", path);
	/* An input of its own size, so that a sanitizer sees reads past its end. */
	uint8_t *exact = malloc(len ? len : 1);
	if (!exact)
		return 1;
	memcpy(exact, input, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	return 0;
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	const char *target = strrchr(argv[0], '/');
	struct dirent **entries;
	char path[1024];
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	if (argc > 1)
		return failed;
	target = target ? target + 1 : argv[0];
	snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target);
	int count = scandir(path, &entries, is_input, alphasort);
	if (count <= 0) {
		printf("not ok - corpus: nothing in %s\n", path);
		return 1;
	}
	for (int i = 0; i < count; i++) {
		char file[2048];
		snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
		failed |= replay(file);
		free(entries[i]);
	}
	free(entries);
	if (!failed)
		printf("ok - %d inputs of %s\n", count, target);
	return failed;
}
