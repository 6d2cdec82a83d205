/*
 * merkle.c
 *		The Merkle tree of RFC 6962, section 2.1, over SHA-256.
 */
#include "audit/merkle.h"

PhiStatus
phi_merkle_leaf(PhiSpan data, PhiHash *out)
{
	static const uint8_t prefix = 0x00;
	PhiSpan		parts[] = {{&prefix, 1}, data};

	return phi_sha256(parts, 2, out->byte);
}
