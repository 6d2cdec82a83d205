/*
 * camellia.c
 *		Suite 2: Camellia-256 in counter mode, then HMAC-SHA-256.
 *
 * For the day AES falls: another block cipher of the e-government recommended
 * list, in the composition of RFC 7518 section 5.2.  The key is the cipher's
 * key and the MAC's key, 32 bytes each; the nonce is the first counter block.
 * The MAC covers AAD || nonce || ciphertext || bits of AAD as 64-bit big-endian
 * and is not cut.  Nothing is decrypted before the MAC was found to fit.
 */
#include "internal.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <sodium.h>

#define CAMELLIA_KEY	32		/* followed by as many bytes of MAC key */
#define CAMELLIA_NONCE	16
#define HMAC_KEY		32
#define HMAC_TAG		32

static PhiStatus camellia_load(PhiSlot *slot, const uint8_t *key);

static EVP_CIPHER *ctr_cipher;
static EVP_MAC *hmac;
static PhiSlots camellia_slots = {.load = camellia_load};

PhiStatus
phi_camellia_init(void)
{
	if (hmac == NULL)
		hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
	if (hmac == NULL)
	{
		ERR_clear_error();
		return PHI_UNSUPPORTED;
	}
	return phi_cipher_fetch(&ctr_cipher, "CAMELLIA-256-CTR");
}

void
phi_camellia_forget(uint64_t serial)
{
	phi_slots_forget(&camellia_slots, serial);
}

static PhiStatus
camellia_load(PhiSlot *slot, const uint8_t *key)
{
	OSSL_PARAM	params[2];

	if (phi_camellia_init() != PHI_OK)
		return PHI_UNSUPPORTED;
	slot->cipher = EVP_CIPHER_CTX_new();
	slot->mac = EVP_MAC_CTX_new(hmac);
	if (slot->cipher == NULL || slot->mac == NULL)
		return PHI_MEMORY;

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
												 (char *) "SHA256", 0);
	params[1] = OSSL_PARAM_construct_end();
	if (EVP_EncryptInit_ex2(slot->cipher, ctr_cipher, key, NULL, NULL) != 1 ||
		EVP_MAC_init(slot->mac, key + CAMELLIA_KEY, HMAC_KEY, params) != 1)
		return PHI_LIBRARY;
	return PHI_OK;
}

static bool
camellia_mac(PhiSlot *slot, const uint8_t *nonce, PhiSpan aad,
			 const uint8_t *cipher, size_t len, uint8_t *tag)
{
	uint64_t	bits = (uint64_t) aad.len * 8;
	uint8_t		length[8];
	size_t		size;

	for (int i = 7; i >= 0; i--, bits >>= 8)
		length[i] = (uint8_t) bits;

	/* no key: the context starts again with the one it has */
	return EVP_MAC_init(slot->mac, NULL, 0, NULL) == 1 &&
		EVP_MAC_update(slot->mac, aad.ptr, aad.len) == 1 &&
		EVP_MAC_update(slot->mac, nonce, CAMELLIA_NONCE) == 1 &&
		EVP_MAC_update(slot->mac, cipher, len) == 1 &&
		EVP_MAC_update(slot->mac, length, sizeof(length)) == 1 &&
		EVP_MAC_final(slot->mac, tag, &size, HMAC_TAG) == 1 &&
		size == HMAC_TAG;
}

/* Counter mode: the same both ways. */
static bool
camellia_ctr(PhiSlot *slot, const uint8_t *nonce, const uint8_t *in,
			 size_t len, uint8_t *out)
{
	int			n;

	if (len == 0)
		return true;
	return EVP_EncryptInit_ex2(slot->cipher, NULL, NULL, nonce, NULL) == 1 &&
		EVP_EncryptUpdate(slot->cipher, out, &n, in, (int) len) == 1 &&
		(size_t) n == len;
}

static PhiStatus
camellia_done(PhiSlot *slot, PhiStatus status, uint8_t *wipe, size_t len)
{
	phi_slot_done(slot);
	if (status == PHI_OK)
		return PHI_OK;
	if (len > 0)
		sodium_memzero(wipe, len);
	ERR_clear_error();
	return status;
}

static PhiStatus
camellia_seal(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
			  PhiSpan aad, uint8_t *buf, size_t len, uint8_t *tag)
{
	PhiSlot    *slot;
	PhiStatus	status;

	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	status = phi_slot_get(&camellia_slots, key, serial, &slot);
	if (status != PHI_OK)
		return status;
	if (!camellia_ctr(slot, nonce, buf, len, buf) ||
		!camellia_mac(slot, nonce, aad, buf, len, tag))
		status = PHI_LIBRARY;
	return camellia_done(slot, status, buf, len);
}

static PhiStatus
camellia_open(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
			  PhiSpan aad, const uint8_t *cipher, size_t len,
			  const uint8_t *tag, uint8_t *plain)
{
	uint8_t		expected[HMAC_TAG];
	PhiSlot    *slot;
	PhiStatus	status;

	if (!phi_lengths_fit(aad, len))
		return PHI_MALFORMED;
	status = phi_slot_get(&camellia_slots, key, serial, &slot);
	if (status != PHI_OK)
		return status;
	if (!camellia_mac(slot, nonce, aad, cipher, len, expected))
		status = PHI_LIBRARY;
	else if (sodium_memcmp(expected, tag, HMAC_TAG) != 0)
		status = PHI_AUTH;
	else if (!camellia_ctr(slot, nonce, cipher, len, plain))
		status = PHI_LIBRARY;

	/* the tag that would have been right must not help a forger */
	sodium_memzero(expected, sizeof(expected));
	return camellia_done(slot, status, plain, len);
}

const PhiSuite phi_camellia_suite = {
	.id = 2,
	.name = "camellia-256-ctr-hmac-sha-256",
	.key_size = CAMELLIA_KEY + HMAC_KEY,
	.nonce_size = CAMELLIA_NONCE,
	.tag_size = HMAC_TAG,
	.seal = camellia_seal,
	.open = camellia_open,
};
