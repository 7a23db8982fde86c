#include "psk.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* The longest line there can be, and enough to see that one is longer. */
enum { LINE_MAX_BYTES = 2 * PSK_BYTES_MAX + 16, MADE_BYTES = 32 };

__attribute__((format(printf, 3, 4))) static int fail(char error[PSK_ERROR_MAX], const char *name, const char *format,
                                                      ...)
{
	int used = snprintf(error, PSK_ERROR_MAX, "key file \"%.160s\" ", name);
	va_list args;

	va_start(args, format);
	vsnprintf(error + used, (size_t)(PSK_ERROR_MAX - used), format, args);
	va_end(args);
	return -EINVAL;
}

static bool is_credential(const char *name)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	size_t len = folder ? strlen(folder) : 0;

	return len && strncmp(name, folder, len) == 0 && name[len] == '/' && !strstr(name, "/../");
}

/* The descriptor of a file that may hold a key, or as psk_read. */
static int open_file(const char *name, char error[PSK_ERROR_MAX])
{
	struct stat st;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int err = 0;

	if (fd < 0)
		return fail(error, name, "cannot be read: %s", strerror(errno));
	if (fstat(fd, &st) < 0)
		err = fail(error, name, "cannot be examined: %s", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = fail(error, name, "is not a regular file");
	else if (is_credential(name))
		return fd;
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		err = fail(error, name, "belongs to user %u, who can read and change it; expected root or user %u",
		           (unsigned)st.st_uid, (unsigned)geteuid());
	else if (st.st_mode & 077)
		err = fail(error, name, "has mode %03o, open to others than its owner; expected 600 or 400",
		           (unsigned)st.st_mode & 0777);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* --- Text to bytes ------------------------------------------------------------------------------------------------ */

static int digit_of(char c, const char *digits)
{
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* 4 bits a digit for hexadecimal, 6 for base64. Bytes, or -EINVAL: not that alphabet, or ends amid a byte. */
static int decode(uint8_t *bytes, size_t size, const char *text, size_t len, const char *digits, unsigned bits)
{
	uint32_t held = 0;
	unsigned held_bits = 0;
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		int digit = digit_of(digits[16] ? text[i] : (char)tolower((unsigned char)text[i]), digits);
		if (digit < 0)
			return -EINVAL;
		held = held << bits | (uint32_t)digit;
		held_bits += bits;
		if (held_bits < 8)
			continue;
		held_bits -= 8;
		if (count < size)
			bytes[count] = (uint8_t)(held >> held_bits);
		count++;
	}
	if (held_bits >= bits || held & ((1U << held_bits) - 1))
		return -EINVAL;
	return (int)count;
}

static int parse(struct psk *psk, char *text, size_t len)
{
	static const char hexadecimal[] = "0123456789abcdef";
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	int count;

	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	count = decode(psk->bytes, sizeof psk->bytes, text, len, hexadecimal, 4);
	if (count >= 0)
		return count;
	for (unsigned padding = 0; padding < 2 && len && text[len - 1] == '='; padding++)
		len--;
	return decode(psk->bytes, sizeof psk->bytes, text, len, base64, 6);
}

static int read_text(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t got;

	while (len < size && (got = read(fd, text + len, size - len)) != 0) {
		if (got < 0 && errno != EINTR)
			return -errno;
		len += got > 0 ? (size_t)got : 0;
	}
	return (int)len;
}

int psk_read(struct psk *psk, const char *name, char error[PSK_ERROR_MAX])
{
	char text[LINE_MAX_BYTES];
	int fd = open_file(name, error);
	int len, count, err = 0;

	if (fd < 0)
		return fd;
	len = read_text(fd, text, sizeof text);
	close(fd);
	count = len < 0 ? len : parse(psk, text, (size_t)len);
	explicit_bzero(text, sizeof text);
	if (len < 0)
		err = fail(error, name, "cannot be read: %s", strerror(-len));
	else if (!len)
		err = fail(error, name, "is empty");
	else if (count < 0 || len == LINE_MAX_BYTES)
		err = fail(
		        error, name,
		        "holds no key; expected one line of hexadecimal or base64, as tx_proxy --make-key writes it");
	else if (count < PSK_BYTES_MIN || count > PSK_BYTES_MAX)
		err = fail(error, name, "holds %d bytes; expected %d to %d", count, PSK_BYTES_MIN, PSK_BYTES_MAX);
	psk->len_bytes = err ? 0 : (size_t)count;
	if (err)
		explicit_bzero(psk->bytes, sizeof psk->bytes);
	return err;
}

/* --- Making ------------------------------------------------------------------------------------------------------- */

int psk_make(const char *name)
{
	uint8_t bytes[MADE_BYTES];
	char text[2 * MADE_BYTES + 2];
	int fd, err = 0;

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return -EIO;
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[2 * sizeof bytes] = '\n';
	/* Whatever the umask: the owner must be able to read it. */
	if (fchmod(fd, 0600) < 0)
		err = -errno;
	ssize_t put = err ? 0 : write(fd, text, 2 * sizeof bytes + 1);
	if (!err && put != (ssize_t)(2 * sizeof bytes + 1))
		err = put < 0 ? -errno : -ENOSPC;
	if (!err && fsync(fd) < 0)
		err = -errno;
	explicit_bzero(bytes, sizeof bytes);
	explicit_bzero(text, sizeof text);
	close(fd);
	if (err)
		unlink(name);
	return err;
}

/* --- Memory ------------------------------------------------------------------------------------------------------- */

void *psk_memory_new(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	/* A limit on locked memory is no reason not to serve. */
	(void)mlock(at, size);
	madvise(at, size, MADV_DONTDUMP);
	madvise(at, size, MADV_WIPEONFORK);
	return at;
}

void psk_memory_free(void *at, size_t size)
{
	if (!at)
		return;
	explicit_bzero(at, size);
	munmap(at, size);
}
