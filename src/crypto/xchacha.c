/*
 * xchacha.c
 *		Suite 3: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), by libsodium.
 *
 * It keeps no context, so the serial is of no use here.
 */
#include "internal.h"

#include <sodium.h>

static PhiStatus
xchacha_seal(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
			 PhiSpan aad, uint8_t *buf, size_t len, uint8_t *tag)
{
	(void) serial;
	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	if (len == 0)
		buf = tag;				/* libsodium wants an address even of nothing */
	if (crypto_aead_xchacha20poly1305_ietf_encrypt_detached(buf, tag, NULL,
															buf, len, aad.ptr,
															aad.len, NULL,
															nonce, key) != 0)
		return PHI_LIBRARY;
	return PHI_OK;
}

static PhiStatus
xchacha_open(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
			 PhiSpan aad, const uint8_t *cipher, size_t len,
			 const uint8_t *tag, uint8_t *plain)
{
	(void) serial;
	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	if (len == 0)
		cipher = tag;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(plain, NULL,
															cipher, len, tag,
															aad.ptr, aad.len,
															nonce, key) == 0)
		return PHI_OK;
	if (len > 0)
		sodium_memzero(plain, len);
	return PHI_AUTH;
}

const PhiSuite phi_xchacha_suite = {
	.id = 3,
	.name = "xchacha20-poly1305",
	.key_size = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
	.nonce_size = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	.tag_size = crypto_aead_xchacha20poly1305_ietf_ABYTES,
	.seal = xchacha_seal,
	.open = xchacha_open,
};
