/* Key files: what is taken for a key, whose files are, and how they are made. */
#define _GNU_SOURCE /* setresuid */
#include "../../common/io/psk.h"
#include "../unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_MAX = 256, STRANGER = 54321, OTHER_STRANGER = 54322 };

static const char hex_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
static char dir[] = "/tmp/pair_psk_XXXXXX";

static void file_name(char path[FILE_MAX], const char *name)
{
	snprintf(path, FILE_MAX, "%s/%s", dir, name);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[FILE_MAX];
	file_name(path, name);
	FILE *file = fopen(path, "we");

	if (!file || fputs(text, file) < 0 || fclose(file) != 0 || chmod(path, mode) < 0)
		UNIT_FAIL("%s: %s", path, strerror(errno));
}

static void forget(const char *name)
{
	char path[FILE_MAX];

	file_name(path, name);
	unlink(path);
}

static void test_texts(void)
{
	static const struct {
		const char *name, *text, *error;
		int len;
	} cases[] = {
	        {"hexadecimal", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", NULL, 32},
	        {"hexadecimal, upper case, no newline",
	         "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", NULL, 32},
	        {"base64", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", NULL, 32},
	        {"base64 without padding", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\r\n", NULL, 32},
	        {"31 bytes", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e", "holds 31 bytes", 0},
	        {"half a byte", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f1/=", "holds no key",
	         0},
	        {"words", "correct horse battery staple, and more of them", "holds no key", 0},
	        {"two lines", "000102030405060708090a0b0c0d0e0f\n101112131415161718191a1b1c1d1e1f\n", "holds no key",
	         0},
	        {"nothing", "", "is empty", 0},
	        {"a newline", "\n", "holds 0 bytes", 0},
	};
	char path[FILE_MAX], error[PSK_ERROR_MAX];
	struct psk psk;

	file_name(path, "file");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		UNIT_CASE("key file: %s", cases[i].name) {
			write_file("file", cases[i].text, 0600);
			error[0] = '\0';
			UNIT_EQ(psk_read(&psk, path, error), cases[i].error ? -EINVAL : 0);
			UNIT_EQ(psk.len_bytes, cases[i].len);
			if (cases[i].error)
				UNIT_HAS(error, cases[i].error);
			else
				UNIT_EQ(psk.bytes[31], 31);
		}
}

static int read_named(const char *name, char error[PSK_ERROR_MAX])
{
	char path[FILE_MAX];
	struct psk psk = {0};
	int err;

	error[0] = '\0';
	file_name(path, name);
	err = psk_read(&psk, path, error);
	explicit_bzero(&psk, sizeof psk);
	return err;
}

/* As read_named in a process of another user. */
static int read_as(uid_t uid, const char *name)
{
	char error[PSK_ERROR_MAX];
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(99);
		_exit(read_named(name, error) == 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_rights(void)
{
	static const mode_t open_modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0666, 0777, 0440};
	char error[PSK_ERROR_MAX], path[FILE_MAX], linked[FILE_MAX], text[32];

	file_name(path, "file");
	file_name(linked, "link");
	UNIT_CASE("key file: any right of others or the group is too much") {
		for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
			write_file("file", hex_key, open_modes[i]);
			UNIT_EQ(read_named("file", error), -EINVAL);
			snprintf(text, sizeof text, "has mode %03o", (unsigned)open_modes[i]);
			UNIT_HAS(error, text);
		}
	}
	UNIT_CASE("key file: 600 and 400 are right") {
		write_file("file", hex_key, 0600);
		UNIT_EQ(read_named("file", error), 0);
		chmod(path, 0400);
		UNIT_EQ(read_named("file", error), 0);
	}
	UNIT_CASE("key file: the service manager's may have what mode it gives them") {
		chmod(path, 0440);
		setenv("CREDENTIALS_DIRECTORY", dir, 1);
		UNIT_EQ(read_named("file", error), 0);
		setenv("CREDENTIALS_DIRECTORY", "/tmp/pair_psk", 1);
		UNIT_EQ(read_named("file", error), -EINVAL);
		unsetenv("CREDENTIALS_DIRECTORY");
	}
	UNIT_CASE("key file: of a link the file counts that it leads to") {
		UNIT_EQ(symlink(path, linked), 0);
		chmod(path, 0644);
		UNIT_EQ(read_named("link", error), -EINVAL);
		UNIT_HAS(error, "has mode 644");
		chmod(path, 0600);
		UNIT_EQ(read_named("link", error), 0);
		unlink(linked);
	}
	UNIT_CASE("key file: no pipe, no device, no directory, and nobody waits for one") {
		UNIT_EQ(mkfifo(linked, 0600), 0);
		UNIT_EQ(read_named("link", error), -EINVAL);
		UNIT_HAS(error, "is not a regular file");
		unlink(linked);
		UNIT_EQ(symlink("/dev/zero", linked), 0);
		UNIT_EQ(read_named("link", error), -EINVAL);
		unlink(linked);
		UNIT_EQ(read_named("", error), -EINVAL);
	}
	UNIT_CASE("key file: another user's") {
		if (geteuid() != 0) {
			unit_skip("needs root");
			break;
		}
		UNIT_EQ(chown(path, STRANGER, STRANGER), 0);
		UNIT_EQ(read_named("file", error), -EINVAL);
		UNIT_HAS(error, "belongs to user 54321");
		chmod(dir, 0755);
		UNIT_EQ(read_as(STRANGER, "file"), 0);
		UNIT_EQ(read_as(OTHER_STRANGER, "file"), 1);
	}
	forget("file");
}

static void test_making(void)
{
	char error[PSK_ERROR_MAX], path[FILE_MAX], linked[FILE_MAX];
	struct psk psk = {0}, again = {0};
	struct stat st;

	file_name(path, "file");
	file_name(linked, "link");
	UNIT_CASE("key file: made, with mode 600 whatever the umask, and never overwritten") {
		mode_t mask = umask(0777);
		UNIT_EQ(psk_make(path), 0);
		umask(mask);
		UNIT_EQ(stat(path, &st), 0);
		UNIT_EQ(st.st_mode & 0777, 0600);
		UNIT_EQ(psk_read(&psk, path, error), 0);
		UNIT_EQ(psk.len_bytes, 32);
		UNIT_EQ(psk_make(path), -EEXIST);
		UNIT_EQ(psk_read(&again, path, error), 0);
		UNIT_MEM(&again, &psk, sizeof psk);
	}
	UNIT_CASE("key file: not made where a link leads") {
		forget("file");
		UNIT_EQ(symlink(path, linked), 0);
		UNIT_EQ(psk_make(linked), -EEXIST);
		UNIT_EQ(stat(path, &st), -1);
		unlink(linked);
	}
	UNIT_CASE("key file: no two are equal, and none has a pattern") {
		UNIT_EQ(psk_make(path), 0);
		UNIT_EQ(psk_read(&again, path, error), 0);
		UNIT_TRUE(memcmp(psk.bytes, again.bytes, 32) != 0);
		UNIT_TRUE(memcmp(again.bytes, again.bytes + 16, 16) != 0);
		forget("file");
		UNIT_EQ(psk_make("/nonexistent/file"), -ENOENT);
	}
}

static void test_memory(void)
{
	UNIT_CASE("memory for keys: zeroed") {
		uint8_t *at = psk_memory_new(10000), all = 0;
		if (!UNIT_TRUE(at != NULL))
			break;
		for (size_t i = 0; i < 10000; i++)
			all |= at[i];
		UNIT_EQ(all, 0);
		psk_memory_free(at, 10000);
		psk_memory_free(NULL, 1);
	}
}

int main(void)
{
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	test_texts();
	test_rights();
	test_making();
	test_memory();
	rmdir(dir);
	return unit_exit();
}
