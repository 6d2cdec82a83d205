/*
 * xaes.c
 *		Suite 1: XAES-256-GCM (C2SP, XAES-256-GCM.md).
 *
 * AES-256-GCM with a 192-bit nonce: the first half of the nonce and the key
 * make the key of the message by a CMAC in counter mode (NIST SP 800-108), the
 * second half is GCM's nonce.  The derivation is two AES blocks under the long
 * key, whose key schedule and CMAC subkey stay in a slot.  OpenSSL's KBKDF is
 * no alternative: that of 3.0 ignores the counter's width and derives another
 * key.
 */
#include "internal.h"

#include <sodium.h>

#define XAES_KEY	32
#define XAES_NONCE	24
#define BLOCK		16

static PhiStatus xaes_load(PhiSlot *slot, const uint8_t *key);

static EVP_CIPHER *ecb_cipher;
static PhiSlots xaes_slots = {.load = xaes_load};

PhiStatus
phi_xaes_init(void)
{
	PhiStatus	status = phi_gcm_init();

	if (status == PHI_OK)
		status = phi_cipher_fetch(&ecb_cipher, "AES-256-ECB");
	return status;
}

void
phi_xaes_forget(uint64_t serial)
{
	phi_slots_forget(&xaes_slots, serial);
	phi_gcm_forget();
}

/* Doubles the block in GF(2^128), without a branch on it. */
static void
cmac_double(uint8_t *block)
{
	uint8_t		carry = (uint8_t) (-(block[0] >> 7) & 0x87);

	for (int i = 0; i < BLOCK - 1; i++)
		block[i] = (uint8_t) (block[i] << 1 | block[i + 1] >> 7);
	block[BLOCK - 1] = (uint8_t) (block[BLOCK - 1] << 1) ^ carry;
}

static PhiStatus
xaes_load(PhiSlot *slot, const uint8_t *key)
{
	int			n;

	if (phi_xaes_init() != PHI_OK)
		return PHI_UNSUPPORTED;
	slot->cipher = EVP_CIPHER_CTX_new();
	if (slot->cipher == NULL)
		return PHI_MEMORY;

	/* k1 is zero as yet: L is the zero block encrypted, K1 is L doubled */
	if (EVP_EncryptInit_ex2(slot->cipher, ecb_cipher, key, NULL, NULL) != 1 ||
		EVP_CIPHER_CTX_set_padding(slot->cipher, 0) != 1 ||
		EVP_EncryptUpdate(slot->cipher, slot->k1, &n, slot->k1, BLOCK) != 1 ||
		n != BLOCK)
		return PHI_LIBRARY;
	cmac_double(slot->k1);
	return PHI_OK;
}

/*
 * The block of counter "i" (two bytes, the label "X", a zero, the nonce's first
 * half) XORed with K1.
 */
static void
derivation_block(uint8_t i, const uint8_t *nonce, const uint8_t *k1,
				 uint8_t *block)
{
	block[0] = k1[0];
	block[1] = k1[1] ^ i;
	block[2] = k1[2] ^ 'X';
	block[3] = k1[3];
	for (int j = 0; j < XAES_NONCE / 2; j++)
		block[4 + j] = k1[4 + j] ^ nonce[j];
}

PhiStatus
phi_xaes_subkey(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
				uint8_t *subkey)
{
	uint8_t		blocks[2 * BLOCK];
	PhiSlot    *slot;
	PhiStatus	status = phi_slot_get(&xaes_slots, key, serial, &slot);
	int			n;

	if (status != PHI_OK)
		return status;
	derivation_block(1, nonce, slot->k1, blocks);
	derivation_block(2, nonce, slot->k1, blocks + BLOCK);
	if (EVP_EncryptUpdate(slot->cipher, subkey, &n, blocks, sizeof(blocks)) != 1 ||
		n != sizeof(blocks))
		status = PHI_LIBRARY;
	sodium_memzero(blocks, sizeof(blocks));
	phi_slot_done(slot);
	return status;
}

static void
xaes_done(uint8_t *subkey, uint64_t serial)
{
	sodium_memzero(subkey, XAES_KEY);
	if (serial == 0)
		phi_gcm_forget();
}

static PhiStatus
xaes_seal(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
		  PhiSpan aad, uint8_t *buf, size_t len, uint8_t *tag)
{
	uint8_t		subkey[XAES_KEY];
	PhiStatus	status = phi_xaes_subkey(key, serial, nonce, subkey);

	if (status == PHI_OK)
		status = phi_gcm_seal(subkey, nonce + XAES_NONCE / 2, aad, buf, len, tag);
	xaes_done(subkey, serial);
	return status;
}

static PhiStatus
xaes_open(const uint8_t *key, uint64_t serial, const uint8_t *nonce,
		  PhiSpan aad, const uint8_t *cipher, size_t len, const uint8_t *tag,
		  uint8_t *plain)
{
	uint8_t		subkey[XAES_KEY];
	PhiStatus	status = phi_xaes_subkey(key, serial, nonce, subkey);

	if (status == PHI_OK)
		status = phi_gcm_open(subkey, nonce + XAES_NONCE / 2, aad, cipher, len,
							  tag, plain);
	xaes_done(subkey, serial);
	return status;
}

const PhiSuite phi_xaes_suite = {
	.id = 1,
	.name = "xaes-256-gcm",
	.key_size = XAES_KEY,
	.nonce_size = XAES_NONCE,
	.tag_size = PHI_GCM_TAG,
	.seal = xaes_seal,
	.open = xaes_open,
};
