#define _GNU_SOURCE /* strerrordesc_np */
#include "transport_tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

#include "../core/memory.h"

enum {
	RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH,
	RECORD_MORE_BYTES = 64, /* of header, tag and padding, rounded up */
	/* Encrypted at once, and so the most that is taken and not with the kernel. */
	BATCH_RECORDS = 4,
	BATCH_BYTES = BATCH_RECORDS * (RECORD_BYTES + RECORD_MORE_BYTES),
	/* A handshake's flight, an alert. */
	OUT_MIN_BYTES = 1024,
	/* Answers to requests for new keys that are not even read: nobody who means well sends so many. */
	OUT_MAX_BYTES = 2 * BATCH_BYTES,
	/* Read ahead, once the other side is known. */
	READ_BYTES = 64 * 1024,
	/* What is at least this long is encrypted where it lies; shorter pieces are first put together. */
	ALONE_BYTES = 4096,
	/* The command with which OpenSSL hands a key for sending to the kernel: bio.h names the number, and no more. */
	COMMAND_KERNEL_SEND = 72
};

struct transport_tls {
	SSL *ssl;
	BIO *socket; /* ours */
	int fd;
	const char *identity;
	const char *reason; /* static text of the first failure */
	int error;          /* negative errno of the first failure; 1: the end has come; 0: none */
	int io_errno;       /* of the last system call that failed */
	bool done;          /* the handshake */
	bool held;
	bool in_kernel;
	uint64_t records; /* written under the present key */
	uint64_t key_records;
	uint8_t *out; /* encrypted: what is in [out_at, out_end) is to be sent */
	size_t out_at, out_end, out_size;
};

/* --- The BIO ------------------------------------------------------------------------------------------------------ */

static bool make_room(struct transport_tls *tls, size_t len)
{
	size_t size = tls->out_end + len;
	uint8_t *out;

	if (size <= tls->out_size)
		return true;
	if (size > OUT_MAX_BYTES)
		return false;
	if (size < OUT_MIN_BYTES)
		size = OUT_MIN_BYTES;
	out = memory_resize(tls->out, 1, size);
	if (!out)
		return false;
	tls->out = out;
	tls->out_size = size;
	return true;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct transport_tls *tls = BIO_get_data(bio);
	int put;

	BIO_clear_retry_flags(bio);
	if (BIO_get_ktls_send(tls->socket)) {
		put = BIO_write(tls->socket, bytes, len);
		BIO_set_flags(bio, BIO_get_retry_flags(tls->socket));
		return put;
	}
	if (!make_room(tls, (size_t)len)) {
		tls->io_errno = ENOBUFS;
		return -1;
	}
	memcpy(tls->out + tls->out_end, bytes, (size_t)len);
	tls->out_end += (size_t)len;
	return len;
}

static int bio_read(BIO *bio, char *bytes, int size)
{
	struct transport_tls *tls = BIO_get_data(bio);
	int got;

	BIO_clear_retry_flags(bio);
	if (tls->held) {
		BIO_set_retry_read(bio);
		return -1;
	}
	errno = 0;
	got = BIO_read(tls->socket, bytes, size);
	if (got < 0)
		tls->io_errno = errno;
	BIO_set_flags(bio, BIO_get_retry_flags(tls->socket));
	return got;
}

static int send_out(struct transport_tls *tls)
{
	ssize_t put;

	while (tls->out_at < tls->out_end) {
		put = send(tls->fd, tls->out + tls->out_at, tls->out_end - tls->out_at, MSG_NOSIGNAL);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		tls->out_at += (size_t)put;
	}
	memory_free(tls->out);
	tls->out = NULL;
	tls->out_at = tls->out_end = tls->out_size = 0;
	return 0;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	struct transport_tls *tls = BIO_get_data(bio);

	/* Each call of ours sends when it is done. */
	if (command == BIO_CTRL_FLUSH)
		return 1;
	/* What was encrypted here must be gone before the kernel encrypts; else OpenSSL goes on by itself. */
	if (command == COMMAND_KERNEL_SEND && send_out(tls) < 0)
		return 0;
	return BIO_ctrl(tls->socket, command, number, pointer);
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* One for the process; OpenSSL counts its kinds of BIO and never forgets one. */
static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;

	if (method)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "transport");
	if (method && BIO_meth_set_write(method, bio_write) && BIO_meth_set_read(method, bio_read) &&
	    BIO_meth_set_ctrl(method, bio_ctrl) && BIO_meth_set_create(method, bio_create))
		return method;
	BIO_meth_free(method);
	method = NULL;
	return NULL;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

struct transport_tls *transport_tls_new(struct transport_security *security, int fd)
{
	struct transport_tls *tls = memory_new(1, sizeof *tls);
	BIO *bio = NULL;

	if (!tls)
		return NULL;
	tls->fd = fd;
	tls->key_records = TRANSPORT_KEY_RECORDS;
	tls->ssl = transport_security_connection(security, &tls->identity);
	tls->socket = BIO_new_socket(fd, BIO_NOCLOSE);
	if (bio_method())
		bio = BIO_new(bio_method());
	if (!tls->ssl || !tls->socket || !bio) {
		ERR_clear_error();
		SSL_free(tls->ssl);
		BIO_free(tls->socket);
		BIO_free(bio);
		memory_free(tls);
		return NULL;
	}
	BIO_set_data(bio, tls);
	SSL_set_bio(tls->ssl, bio, bio);
	return tls;
}

void transport_tls_free(struct transport_tls *tls, bool quietly)
{
	if (!quietly && tls->done && tls->error >= 0) {
		ERR_clear_error();
		SSL_shutdown(tls->ssl);
		send_out(tls);
	}
	/* No last words of the library's own. */
	SSL_set_quiet_shutdown(tls->ssl, 1);
	SSL_free(tls->ssl);
	BIO_free(tls->socket);
	ERR_clear_error();
	memory_free(tls->out);
	memory_free(tls);
}

/* --- Failure ------------------------------------------------------------------------------------------------------ */

/* What OpenSSL calls it, in the words of a pair. */
static const char *reason_of(const struct transport_tls *tls, int reason)
{
	switch (reason) {
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return tls->done ? "closed without close_notify" : "closed during the TLS handshake";
	case SSL_R_BINDER_DOES_NOT_VERIFY:
		return "unknown identity or wrong key";
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_CERTIFICATE_SET:
		return "TLS without a key";
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_BAD_LENGTH:
	case SSL_R_RECORD_LENGTH_MISMATCH:
		return "not TLS";
	case SSL_R_UNSUPPORTED_PROTOCOL:
		return "not TLS 1.3";
	/* What a server that does not know us says. */
	case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
	case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
		return tls->done ? NULL : "the other side refuses our identity or key";
	default:
		return NULL;
	}
}

/* After a call of OpenSSL's that gave `result`: 0: the end; -EAGAIN, or a negative errno, which is remembered. */
static int failure(struct transport_tls *tls, int result)
{
	unsigned long error = ERR_peek_error();
	int kind = SSL_get_error(tls->ssl, result);
	const char *reason = NULL;
	int err = -EPROTO;

	if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	if (kind == SSL_ERROR_ZERO_RETURN) {
		tls->error = 1;
		return 0;
	}
	if (kind == SSL_ERROR_SYSCALL && tls->io_errno) {
		err = -tls->io_errno;
		reason = strerrordesc_np(tls->io_errno);
	} else if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
		reason = reason_of(tls, ERR_GET_REASON(error));
		if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			err = -ECONNABORTED;
	}
	if (!reason)
		reason = ERR_reason_error_string(error);
	tls->reason = reason ? reason : "TLS failed";
	tls->error = err;
	ERR_clear_error();
	return err;
}

static int fail(struct transport_tls *tls, int err, const char *reason)
{
	tls->error = err;
	tls->reason = reason ? reason : strerrordesc_np(-err);
	return err;
}

const char *transport_tls_reason(const struct transport_tls *tls)
{
	return tls->reason;
}

/* --- Handshake ---------------------------------------------------------------------------------------------------- */

int transport_tls_handshake(struct transport_tls *tls)
{
	int result, err;

	if (tls->error)
		return tls->error;
	ERR_clear_error();
	tls->io_errno = 0;
	result = SSL_do_handshake(tls->ssl);
	err = result == 1 ? 0 : failure(tls, result);
	/* The flight, or the alert. */
	int sent = send_out(tls);
	if (err)
		return err;
	/* The end came before: nobody has proved anything. */
	if (result != 1)
		return fail(tls, -ECONNABORTED, "closed during the TLS handshake");
	if (sent < 0 && sent != -EAGAIN)
		return fail(tls, sent, NULL);
	/* OpenSSL has no other way to come here; this is the one line that all depends on. */
	if (!SSL_session_reused(tls->ssl) || (SSL_is_server(tls->ssl) && !tls->identity))
		return fail(tls, -EPROTO, "TLS without a key");
	tls->done = true;
	tls->in_kernel = BIO_get_ktls_send(tls->socket);
	SSL_set_default_read_buffer_len(tls->ssl, READ_BYTES);
	return 0;
}

/* The identity is set when it is known, and OpenSSL verifies the binder before it asks for more. */
bool transport_tls_shown_key(const struct transport_tls *tls)
{
	return tls->identity && tls->error >= 0;
}

const char *transport_tls_identity(const struct transport_tls *tls)
{
	return tls->done ? tls->identity : NULL;
}

bool transport_tls_in_kernel(const struct transport_tls *tls)
{
	return tls->in_kernel;
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

ssize_t transport_tls_read(struct transport_tls *tls, const struct iovec *slices, unsigned count)
{
	size_t total = 0;
	int err = 0;

	if (tls->error)
		return tls->error > 0 ? 0 : tls->error;
	ERR_clear_error();
	tls->io_errno = 0;
	for (unsigned i = 0; i < count && !err; i++)
		for (size_t at = 0, got; at < slices[i].iov_len; at += got, total += got)
			if (!SSL_read_ex(tls->ssl, (uint8_t *)slices[i].iov_base + at, slices[i].iov_len - at, &got)) {
				err = failure(tls, 0);
				/* Nothing more, but the loops must end. */
				if (!err)
					err = -EAGAIN;
				break;
			}
	/* What the library answers by itself. */
	int sent = send_out(tls);
	if (sent < 0 && sent != -EAGAIN && !tls->error)
		err = fail(tls, sent, NULL);
	if (total)
		return (ssize_t)total;
	return tls->error > 0 ? 0 : err;
}

bool transport_tls_has_more(const struct transport_tls *tls)
{
	return tls->error != 0;
}

void transport_tls_hold(struct transport_tls *tls, bool held)
{
	tls->held = held;
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

/* Copies up to `size` bytes from the slices on, `skip` bytes into the first one. */
static size_t gather(uint8_t *bytes, size_t size, const struct iovec *slices, unsigned count, size_t skip)
{
	size_t len = 0;

	for (unsigned i = 0; i < count && len < size; i++, skip = 0) {
		size_t piece = slices[i].iov_len - skip;
		if (piece > size - len)
			piece = size - len;
		memcpy(bytes + len, (const uint8_t *)slices[i].iov_base + skip, piece);
		len += piece;
	}
	return len;
}

/* One record; `gathered` has room for it. Bytes of it, or a negative errno. */
static int put_record(struct transport_tls *tls, const struct iovec *slices, unsigned count, size_t skip,
                      uint8_t *gathered)
{
	const uint8_t *bytes = (const uint8_t *)slices->iov_base + skip;
	size_t len = slices->iov_len - skip;
	size_t put;

	if (len > RECORD_BYTES)
		len = RECORD_BYTES;
	if (len < ALONE_BYTES && count > 1) {
		len = gather(gathered, RECORD_BYTES, slices, count, skip);
		bytes = gathered;
	}
	if (!SSL_write_ex(tls->ssl, bytes, len, &put)) {
		int err = failure(tls, 0);
		/* A part of a handshake message came, and nothing may be written before the rest, or there is none
		 * before the end: it would be tried for as long as the socket is writable. */
		bool part = !err || (err == -EAGAIN && SSL_want_read(tls->ssl));
		return part ? fail(tls, -EPROTO, "part of a handshake message") : err;
	}
	tls->records++;
	return (int)put;
}

/* A key wears out with what it encrypts. 0, or a negative errno. */
static int renew_key(struct transport_tls *tls)
{
	if (tls->records < tls->key_records)
		return 0;
	if (tls->in_kernel)
		return fail(tls, -EKEYEXPIRED, NULL);
	if (!SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
		return failure(tls, 0);
	tls->records = 0;
	return 0;
}

static ssize_t write_in_kernel(struct transport_tls *tls, const struct iovec *slices, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
	ssize_t put;

	do
		put = sendmsg(tls->fd, &message, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put < 0)
		return errno == EAGAIN ? -EAGAIN : fail(tls, -errno, NULL);
	tls->records += (uint64_t)put / RECORD_BYTES + 1;
	return put;
}

ssize_t transport_tls_write(struct transport_tls *tls, const struct iovec *slices, unsigned count)
{
	size_t total = 0, skip = 0;
	int err = tls->error < 0 ? tls->error : send_out(tls);

	if (!err)
		err = renew_key(tls);
	if (err)
		return err;
	if (tls->in_kernel)
		return write_in_kernel(tls, slices, count);
	/* Behind the records there is a place to put the next one's pieces together. */
	if (!make_room(tls, BATCH_BYTES + RECORD_BYTES))
		return fail(tls, -ENOMEM, NULL);
	ERR_clear_error();
	for (unsigned batch = 0; batch < BATCH_RECORDS && count; batch++) {
		int put = put_record(tls, slices, count, skip, tls->out + BATCH_BYTES);
		if (put < 0)
			return put;
		total += (size_t)put;
		skip += (size_t)put;
		for (; count && skip >= slices->iov_len; slices++, count--)
			skip -= slices->iov_len;
	}
	err = send_out(tls);
	return err && err != -EAGAIN ? fail(tls, err, NULL) : (ssize_t)total;
}

int transport_tls_flush(struct transport_tls *tls)
{
	return tls->error < 0 ? tls->error : send_out(tls);
}

size_t transport_tls_unsent_bytes(const struct transport_tls *tls)
{
	return tls->out_end - tls->out_at;
}

void transport_tls_set_key_records(struct transport_tls *tls, uint64_t records)
{
	tls->key_records = records;
}
