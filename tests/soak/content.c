#include "content.h"

#include <string.h>

static const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);

uint64_t content_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void content_fill(uint64_t key, uint64_t offset, uint8_t *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		uint64_t at = offset + done, word = content_mix(key + (at / 8 + 1) * golden);
		uint8_t piece[8];
		size_t skip = at % 8, count = 8 - skip < len - done ? 8 - skip : len - done;

		for (unsigned i = 0; i < 8; i++)
			piece[i] = (uint8_t)(word >> (8 * i));
		memcpy(bytes + done, piece + skip, count);
		done += count;
	}
}

uint64_t content_check(uint64_t key, uint64_t offset, const uint8_t *bytes, size_t len)
{
	uint8_t right[4096];

	for (size_t done = 0; done < len;) {
		size_t count = len - done < sizeof right ? len - done : sizeof right;

		content_fill(key, offset + done, right, count);
		if (memcmp(right, bytes + done, count) != 0) {
			while (right[0] == bytes[done] && --count) {
				memmove(right, right + 1, count);
				done++;
			}
			return offset + done;
		}
		done += count;
	}
	return CONTENT_RIGHT;
}
