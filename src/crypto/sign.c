/*
 * sign.c
 *		Signing: Ed25519 with a key pair derived from a secret.
 */
#include "internal.h"

#include <sodium.h>

_Static_assert(PHI_SIGN_KEY == crypto_sign_PUBLICKEYBYTES &&
			   PHI_SIGNATURE == crypto_sign_BYTES, "the sizes are Ed25519's");

/* "secret_key" is the caller's to wipe, also after a failure. */
static PhiStatus
key_pair(const PhiSecret *secret, uint8_t *public_key, uint8_t *secret_key)
{
	uint8_t		seed[crypto_sign_SEEDBYTES];
	PhiStatus	status = phi_subkey(secret, PHI_SUBKEY_SIGN, seed, sizeof(seed));

	if (status == PHI_OK && crypto_sign_seed_keypair(public_key, secret_key, seed) != 0)
		status = PHI_LIBRARY;
	sodium_memzero(seed, sizeof(seed));
	return status;
}

PhiStatus
phi_sign_key(const PhiSecret *secret, uint8_t *public_key)
{
	uint8_t		secret_key[crypto_sign_SECRETKEYBYTES];
	PhiStatus	status = key_pair(secret, public_key, secret_key);

	sodium_memzero(secret_key, sizeof(secret_key));
	return status;
}

PhiStatus
phi_sign(const PhiSecret *secret, PhiSpan data, uint8_t *signature)
{
	uint8_t		public_key[PHI_SIGN_KEY];
	uint8_t		secret_key[crypto_sign_SECRETKEYBYTES];
	PhiStatus	status = key_pair(secret, public_key, secret_key);

	if (status == PHI_OK &&
		crypto_sign_detached(signature, NULL, data.ptr, data.len, secret_key) != 0)
		status = PHI_LIBRARY;
	sodium_memzero(secret_key, sizeof(secret_key));
	return status;
}
