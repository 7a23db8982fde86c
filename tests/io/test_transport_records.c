/* A client that has the key, and puts its records together by hand: handshake messages in pieces, which no TLS library
 * would send. */
#include "../../common/io/psk.h"
#include "../../common/io/transport.h"
#include "../../common/io/transport_tls.h"
#include "../unit/unit.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEPS_MAX = 100, SECRET_BYTES = 32, NONCE_BYTES = 12, TAG_BYTES = 16, HEAD_BYTES = 5, CONTENT_MAX = 64 };
enum { ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };

static const uint8_t half_key_update[] = {24, 0, 0, 1}, close_notify[] = {1, 0};

static char dir[] = "/tmp/pair_records_XXXXXX";
static uint8_t secret[SECRET_BYTES]; /* client_application_traffic_secret_0 (RFC 8446, 7.1) */

struct forger {
	struct transport_security *keys[2];
	SSL *ssl;
	int fd;
	uint64_t records; /* sent since the handshake */
	struct transport server;
};

/* As the file of SSLKEYLOGFILE has it: LABEL CLIENT_RANDOM SECRET. */
static void on_key(const SSL *ssl, const char *line)
{
	static const char label[] = "CLIENT_TRAFFIC_SECRET_0 ";
	const char *at = strrchr(line, ' ');

	if (strncmp(line, label, sizeof label - 1) != 0)
		return;
	for (unsigned i = 0; i < SECRET_BYTES; i++) {
		char digits[] = {at[1 + 2 * i], at[2 + 2 * i], '\0'};
		secret[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
}

/* HKDF-Expand-Label(secret, label, "", len) */
static void expand(const char *label, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	char digest[] = "SHA256", prefix[] = "tls13 ";
	OSSL_PARAM params[] = {
	        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, sizeof secret),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix, sizeof prefix - 1),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (char *)(uintptr_t)label, strlen(label)),
	        OSSL_PARAM_END,
	};

	UNIT_EQ(EVP_KDF_derive(ctx, out, len, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* Sends it as the next record (RFC 8446, 5.2 and 5.3). */
static void send_record(struct forger *forger, uint8_t type, const uint8_t *content, size_t len)
{
	const EVP_CIPHER *cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(forger->ssl)));
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[EVP_MAX_KEY_LENGTH], nonce[NONCE_BYTES], inner[CONTENT_MAX + 1];
	uint8_t record[HEAD_BYTES + CONTENT_MAX + 1 + TAG_BYTES] = {APPLICATION_DATA, 3, 3, 0,
	                                                            (uint8_t)(len + 1 + TAG_BYTES)};
	int put;

	expand("key", key, (size_t)EVP_CIPHER_get_key_length(cipher));
	expand("iv", nonce, sizeof nonce);
	nonce[NONCE_BYTES - 1] ^= (uint8_t)forger->records++;
	memcpy(inner, content, len);
	inner[len] = type;
	EVP_EncryptInit_ex(ctx, cipher, NULL, key, nonce);
	EVP_EncryptUpdate(ctx, NULL, &put, record, HEAD_BYTES);
	EVP_EncryptUpdate(ctx, record + HEAD_BYTES, &put, inner, (int)len + 1);
	EVP_EncryptFinal_ex(ctx, record + HEAD_BYTES + len + 1, &put);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, record + HEAD_BYTES + len + 1);
	EVP_CIPHER_CTX_free(ctx);
	len += HEAD_BYTES + 1 + TAG_BYTES;
	UNIT_EQ(write(forger->fd, record, len), len);
}

static void meet(struct forger *forger, const struct conf_key *key)
{
	char error[TRANSPORT_ERROR_MAX] = "";
	const char *identity;
	int fds[2], err = -EAGAIN;

	*forger = (struct forger){0};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		UNIT_FAIL("socketpair: %s", strerror(errno));
	forger->keys[0] = transport_security_client(key, error);
	forger->keys[1] = transport_security_server(key, 1, error);
	UNIT_STR(error, "");
	forger->ssl = transport_security_connection(forger->keys[0], &identity);
	forger->fd = fds[0];
	SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(forger->ssl), on_key);
	SSL_set_fd(forger->ssl, fds[0]);
	transport_init(&forger->server, fds[1], forger->keys[1]);
	for (unsigned step = 0; step < STEPS_MAX && err == -EAGAIN; step++) {
		SSL_connect(forger->ssl);
		err = transport_handshake(&forger->server);
	}
	UNIT_EQ(err, 0);
}

static void part(struct forger *forger)
{
	transport_close(&forger->server);
	SSL_free(forger->ssl);
	close(forger->fd);
	for (unsigned i = 0; i < 2; i++)
		transport_security_free(forger->keys[i]);
}

static ssize_t get(struct forger *forger, char text[64])
{
	struct iovec slice = {.iov_base = text, .iov_len = 63};
	ssize_t got = transport_read(&forger->server, &slice, 1);

	text[got > 0 ? got : 0] = '\0';
	return got;
}

static ssize_t put(struct forger *forger)
{
	char text[] = "an answer";
	struct iovec slice = {.iov_base = text, .iov_len = sizeof text - 1};

	return transport_write(&forger->server, &slice, 1);
}

static void test_records(const struct conf_key *key)
{
	struct forger forger;
	char text[64];

	UNIT_CASE("records made by hand arrive") {
		meet(&forger, key);
		send_record(&forger, APPLICATION_DATA, (const uint8_t *)"one", 3);
		UNIT_EQ(get(&forger, text), 3);
		UNIT_STR(text, "one");
		send_record(&forger, APPLICATION_DATA, (const uint8_t *)"two", 3);
		UNIT_EQ(get(&forger, text), 3);
		UNIT_STR(text, "two");
		UNIT_EQ(put(&forger), 9);
		part(&forger);
	}
	UNIT_CASE("half a KeyUpdate: nothing can be written, which is not to be tried for ever") {
		meet(&forger, key);
		send_record(&forger, HANDSHAKE, half_key_update, sizeof half_key_update);
		UNIT_EQ(get(&forger, text), -EAGAIN);
		UNIT_EQ(put(&forger), -EPROTO);
		UNIT_STR(transport_reason(&forger.server), "part of a handshake message");
		part(&forger);
	}
	UNIT_CASE("half a KeyUpdate, and the end") {
		meet(&forger, key);
		send_record(&forger, HANDSHAKE, half_key_update, sizeof half_key_update);
		UNIT_EQ(get(&forger, text), -EAGAIN);
		send_record(&forger, ALERT, close_notify, sizeof close_notify);
		UNIT_EQ(put(&forger), -EPROTO);
		UNIT_STR(transport_reason(&forger.server), "part of a handshake message");
		part(&forger);
	}
}

int main(void)
{
	struct conf_key key = {.identity = "tx1"};

	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	snprintf(key.key_file, sizeof key.key_file, "%s/key", dir);
	psk_make(key.key_file);
	test_records(&key);
	unlink(key.key_file);
	rmdir(dir);
	return unit_exit();
}
