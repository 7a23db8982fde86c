#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "../core/memory.h"
#include "psk.h"
#include "transport_tls.h"

/* Of hash SHA-256, which is that of an external PSK that says no other (RFC 8446, 4.2.11). */
static const char cipher_suites[] = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
static const unsigned char psk_cipher_id[2] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256, for its hash */
static const char groups[] = "X25519:P-256";

struct entry {
	char identity[CONF_NAME_MAX];
	struct psk psk;
};

struct transport_security {
	SSL_CTX *ctx;
	/* In locked memory. Entry 0 of a server is nobody's: random, for identities that are not known. */
	struct entry *entries;
	size_t count;
};

/* A session object that OpenSSL takes for the key, or NULL. It wipes its copy when it is freed. */
static SSL_SESSION *session_of(SSL *ssl, const struct psk *psk)
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, psk_cipher_id);
	SSL_SESSION *session = cipher ? SSL_SESSION_new() : NULL;

	if (session && SSL_SESSION_set1_master_key(session, psk->bytes, psk->len_bytes) &&
	    SSL_SESSION_set_cipher(session, cipher) && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static struct transport_security *security_of(SSL *ssl)
{
	return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

static int on_use(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *len, SSL_SESSION **session)
{
	const struct entry *entry = security_of(ssl)->entries;

	*session = NULL;
	/* Asked for another hash, of a suite that was not offered: none. */
	if (md && !EVP_MD_is_a(md, "SHA256"))
		return 1;
	*session = session_of(ssl, &entry->psk);
	*identity = (const unsigned char *)entry->identity;
	*len = strlen(entry->identity);
	return *session != NULL;
}

static int on_find(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **session)
{
	const struct transport_security *security = security_of(ssl);
	const char **found = SSL_get_app_data(ssl);
	size_t match = 0;

	/* Every entry is looked at, whatever was found. */
	for (size_t i = 1; i < security->count; i++)
		if (strlen(security->entries[i].identity) == len &&
		    memcmp(security->entries[i].identity, identity, len) == 0)
			match = i;
	*found = match ? security->entries[match].identity : NULL;
	*session = session_of(ssl, &security->entries[match].psk);
	return *session != NULL;
}

static bool set_up(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
	                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
	                                 SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) && SSL_CTX_set_ciphersuites(ctx, cipher_suites) &&
	       SSL_CTX_set1_groups_list(ctx, groups) && SSL_CTX_set_num_tickets(ctx, 0) &&
	       SSL_CTX_set_max_early_data(ctx, 0) && SSL_CTX_set_recv_max_early_data(ctx, 0);
}

/* The library shares in the reserve; what comes in is for it to say where. */
static void *allocate(size_t bytes, const char *file, int line)
{
	return bytes ? memory_new_raw(bytes) : NULL;
}

static void *resize(void *old, size_t bytes, const char *file, int line)
{
	if (bytes)
		return memory_resize(old, 1, bytes);
	memory_free(old);
	return NULL;
}

static void release(void *block, const char *file, int line)
{
	memory_free(block);
}

static struct transport_security *make(const SSL_METHOD *method, size_t count, char error[TRANSPORT_ERROR_MAX])
{
	struct transport_security *security = calloc(1, sizeof *security);

	/* Heeded before the library's first allocation alone. */
	CRYPTO_set_mem_functions(allocate, resize, release);
	if (security) {
		security->count = count;
		security->entries = psk_memory_new(count * sizeof *security->entries);
		security->ctx = SSL_CTX_new(method);
	}
	if (security && security->entries && security->ctx && set_up(security->ctx)) {
		SSL_CTX_set_app_data(security->ctx, security);
		return security;
	}
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	snprintf(error, TRANSPORT_ERROR_MAX, "TLS is not to be had: %s", reason ? reason : "out of memory");
	transport_security_free(security);
	return NULL;
}

static bool read_key(struct entry *entry, const struct conf_key *key, char error[TRANSPORT_ERROR_MAX])
{
	memcpy(entry->identity, key->identity, sizeof entry->identity);
	return psk_read(&entry->psk, key->key_file, error) == 0;
}

struct transport_security *transport_security_client(const struct conf_key *key, char error[TRANSPORT_ERROR_MAX])
{
	struct transport_security *security = make(TLS_client_method(), 1, error);

	if (!security)
		return NULL;
	/* There is no authority to believe in: a server that offers a certificate is refused. */
	SSL_CTX_set_verify(security->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_psk_use_session_callback(security->ctx, on_use);
	if (read_key(&security->entries[0], key, error))
		return security;
	transport_security_free(security);
	return NULL;
}

struct transport_security *transport_security_server(const struct conf_key *keys, size_t count,
                                                     char error[TRANSPORT_ERROR_MAX])
{
	struct transport_security *security = make(TLS_server_method(), count + 1, error);
	bool read = true;

	if (!security)
		return NULL;
	SSL_CTX_set_psk_find_session_callback(security->ctx, on_find);
	security->entries[0].psk.len_bytes = PSK_BYTES_MIN;
	if (RAND_priv_bytes(security->entries[0].psk.bytes, PSK_BYTES_MIN) != 1) {
		snprintf(error, TRANSPORT_ERROR_MAX, "no random numbers");
		read = false;
	}
	for (size_t i = 0; i < count && read; i++)
		read = read_key(&security->entries[i + 1], &keys[i], error);
	if (read)
		return security;
	transport_security_free(security);
	return NULL;
}

void transport_security_free(struct transport_security *security)
{
	if (!security)
		return;
	psk_memory_free(security->entries, security->count * sizeof *security->entries);
	SSL_CTX_free(security->ctx);
	free(security);
}

SSL *transport_security_connection(struct transport_security *security, const char **identity)
{
	SSL *ssl = SSL_new(security->ctx);

	if (!ssl)
		return NULL;
	if (SSL_is_server(ssl))
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	SSL_set_app_data(ssl, (char *)(uintptr_t)identity);
	return ssl;
}
