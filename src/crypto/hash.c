/*
 * hash.c
 *		Digests.
 */
#include <sodium.h>

#include "crypto.h"

PhiStatus
phi_sha256(const PhiSpan *parts, int n, uint8_t *out)
{
	crypto_hash_sha256_state state;

	crypto_hash_sha256_init(&state);
	for (int i = 0; i < n; i++)
		crypto_hash_sha256_update(&state, parts[i].ptr, parts[i].len);
	crypto_hash_sha256_final(&state, out);
	return PHI_OK;
}
