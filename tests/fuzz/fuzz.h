/* fuzz: what the fuzz targets share. A target is LLVMFuzzerTestOneInput (libFuzzer's interface), linked with libFuzzer
 * to be fuzzed
 * (`make fuzz`), or with replay_main.c to run its corpus as a test. What must hold is FUZZ_CHECKed.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(held)                                                                                               \
	do {                                                                                                           \
		if (!(held)) {                                                                                         \
			fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #held);                            \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#endif
