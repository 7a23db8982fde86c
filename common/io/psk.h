/* psk: shared keys in files: made, read, and kept out of swap and core files.
 *
 * A key file is one line: PSK_BYTES_MIN..PSK_BYTES_MAX random bytes in hexadecimal or in base64 (RFC 4648, 4; padding
 * may be missing), with or without a newline. What is all hexadecimal digits is hexadecimal. The file belongs to root
 * or to the user that the process is, and nobody else has any right to it; where the service manager gives it
 * ($CREDENTIALS_DIRECTORY, systemd.exec(5)), that is the manager's business. Of a symbolic link the file it leads to
 * counts.
 */
#ifndef PAIR_IO_PSK_H
#define PAIR_IO_PSK_H

#include <stddef.h>
#include <stdint.h>

enum { PSK_BYTES_MIN = 32, PSK_BYTES_MAX = 64, PSK_ERROR_MAX = 320 };

struct psk {
	size_t len_bytes;
	uint8_t bytes[PSK_BYTES_MAX];
};

/* Reads a key file. 0, or -EINVAL with "key file \"NAME\" …" in error[]. */
int psk_read(struct psk *psk, const char *name, char error[PSK_ERROR_MAX]);

/* Makes a file of mode 600 with a new key of 32 random bytes. What is there already stays. 0, or a negative errno
 * (-EEXIST, …). */
int psk_make(const char *name);

/* Zeroed memory that is not swapped out, as far as RLIMIT_MEMLOCK lets, and not part of a core file; wiped when it is
 * given back. NULL: none. */
void *psk_memory_new(size_t size);
void psk_memory_free(void *at, size_t size);

#endif
