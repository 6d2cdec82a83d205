/*
 * sign_check.c
 *		Checking Ed25519 signatures: needs no secret, and nothing of this folder.
 */
#include "crypto.h"

#include <sodium.h>

PhiStatus
phi_sign_check(const uint8_t *public_key, PhiSpan data, const uint8_t *signature)
{
	return crypto_sign_verify_detached(signature, data.ptr, data.len, public_key) == 0 ?
		PHI_OK : PHI_AUTH;
}
