/*
 * gcm.c
 *		AES-256-GCM by whichever library is faster for the length at hand.
 *
 * Every XAES message has a key of its own, so what counts for a short value is
 * the cost of a new key: libsodium's AES-NI code needs less than half of what
 * OpenSSL does.  For long values OpenSSL's stitched loop wins.  Both produce
 * the same bytes, so what one machine wrote any other reads.
 */
#include "internal.h"

#include <openssl/err.h>
#include <sodium.h>

/* Where the two lines cross on current x86-64; the minimum is flat. */
size_t		phi_gcm_short = 768;

static EVP_CIPHER *gcm_cipher;

/*
 * One context for all messages.  It holds the key of the last long message,
 * good for that message only, until the next one or phi_gcm_forget.
 */
static EVP_CIPHER_CTX *gcm_context;

PhiStatus
phi_gcm_init(void)
{
	return phi_cipher_fetch(&gcm_cipher, "AES-256-GCM");
}

void
phi_gcm_forget(void)
{
	EVP_CIPHER_CTX_free(gcm_context);
	gcm_context = NULL;
}

/* Naming the cipher again would make OpenSSL allocate anew: once is enough. */
static PhiStatus
gcm_begin(const uint8_t *key, const uint8_t *nonce, bool encrypt)
{
	EVP_CIPHER *first = NULL;

	if (gcm_context == NULL)
	{
		if (phi_gcm_init() != PHI_OK)
			return PHI_UNSUPPORTED;
		gcm_context = EVP_CIPHER_CTX_new();
		if (gcm_context == NULL)
			return PHI_MEMORY;
		first = gcm_cipher;
	}
	if (EVP_CipherInit_ex2(gcm_context, first, key, nonce, encrypt, NULL) != 1)
		return PHI_LIBRARY;
	return PHI_OK;
}

static bool
gcm_update(PhiSpan aad, const uint8_t *in, size_t len, uint8_t *out)
{
	int			n;

	if (aad.len > 0 &&
		EVP_CipherUpdate(gcm_context, NULL, &n, aad.ptr, (int) aad.len) != 1)
		return false;
	if (len > 0 &&
		EVP_CipherUpdate(gcm_context, out, &n, in, (int) len) != 1)
		return false;
	return true;
}

static PhiStatus
openssl_seal(const uint8_t *key, const uint8_t *nonce, PhiSpan aad,
			 uint8_t *buf, size_t len, uint8_t *tag)
{
	PhiStatus	status = gcm_begin(key, nonce, true);
	uint8_t		none[16];
	int			n;

	if (status != PHI_OK)
		return status;
	if (!gcm_update(aad, buf, len, buf) ||
		EVP_CipherFinal_ex(gcm_context, none, &n) != 1 ||
		EVP_CIPHER_CTX_ctrl(gcm_context, EVP_CTRL_AEAD_GET_TAG,
							PHI_GCM_TAG, tag) != 1)
		return PHI_LIBRARY;
	return PHI_OK;
}

static PhiStatus
openssl_open(const uint8_t *key, const uint8_t *nonce, PhiSpan aad,
			 const uint8_t *cipher, size_t len, const uint8_t *tag,
			 uint8_t *plain)
{
	PhiStatus	status = gcm_begin(key, nonce, false);
	uint8_t		none[16];
	int			n;

	if (status != PHI_OK)
		return status;

	/* the tag is only read, whatever the prototype says */
	if (!gcm_update(aad, cipher, len, plain) ||
		EVP_CIPHER_CTX_ctrl(gcm_context, EVP_CTRL_AEAD_SET_TAG,
							PHI_GCM_TAG, (void *) tag) != 1)
		return PHI_LIBRARY;
	if (EVP_CipherFinal_ex(gcm_context, none, &n) != 1)
		return PHI_AUTH;
	return PHI_OK;
}

static inline bool
use_libsodium(size_t len)
{
	return len <= phi_gcm_short && crypto_aead_aes256gcm_is_available();
}

/* A context that failed is not to be trusted with the next message. */
static PhiStatus
gcm_failed(PhiStatus status, uint8_t *wipe, size_t len)
{
	if (len > 0)
		sodium_memzero(wipe, len);
	phi_gcm_forget();
	ERR_clear_error();
	return status;
}

PhiStatus
phi_gcm_seal(const uint8_t *key, const uint8_t *nonce, PhiSpan aad,
			 uint8_t *buf, size_t len, uint8_t *tag)
{
	PhiStatus	status;

	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	if (use_libsodium(len))
	{
		if (len == 0)
			buf = tag;			/* it wants an address even of nothing */
		if (crypto_aead_aes256gcm_encrypt_detached(buf, tag, NULL, buf, len,
												   aad.ptr, aad.len, NULL,
												   nonce, key) == 0)
			return PHI_OK;
		return gcm_failed(PHI_LIBRARY, buf, len);
	}
	status = openssl_seal(key, nonce, aad, buf, len, tag);
	return status == PHI_OK ? PHI_OK : gcm_failed(status, buf, len);
}

PhiStatus
phi_gcm_open(const uint8_t *key, const uint8_t *nonce, PhiSpan aad,
			 const uint8_t *cipher, size_t len, const uint8_t *tag,
			 uint8_t *plain)
{
	PhiStatus	status;

	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	if (use_libsodium(len))
	{
		if (len == 0)
			cipher = tag;
		if (crypto_aead_aes256gcm_decrypt_detached(plain, NULL, cipher, len,
												   tag, aad.ptr, aad.len,
												   nonce, key) == 0)
			return PHI_OK;
		return gcm_failed(PHI_AUTH, plain, len);
	}

	/* OpenSSL writes the plaintext before it knows whether the tag fits */
	status = openssl_open(key, nonce, aad, cipher, len, tag, plain);
	return status == PHI_OK ? PHI_OK : gcm_failed(status, plain, len);
}
