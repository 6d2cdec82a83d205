/*
 * envelope.h
 *		The stored form of an encrypted value: docs/format.md.
 *
 * Plain C over the crypto room; returns status codes.
 */
#ifndef PHI_ENVELOPE_H
#define PHI_ENVELOPE_H

#include "crypto/crypto.h"

#define PHI_FORMAT 1
#define PHI_HEADER_SIZE 7		/* format 1, suite 1, type 1, key id 4 */

/* A parsed envelope; the spans point into it. */
typedef struct PhiEnvelope
{
	const PhiSuite *suite;
	uint8_t		type;
	uint32_t	key_id;
	PhiSpan		header;			/* the associated data */
	PhiSpan		nonce;
	PhiSpan		body;			/* encrypted: flags, payload, padding */
	PhiSpan		tag;
} PhiEnvelope;

/* What a decrypted body holds; "data" points into it. */
typedef struct PhiPayload
{
	PhiSpan		data;
	size_t		expanded;		/* bytes when decompressed; 0: not compressed */
} PhiPayload;

/* PHI_MALFORMED unless lengths and identifiers make sense. */
extern PhiStatus phi_envelope_parse(const uint8_t *data, size_t len,
									PhiEnvelope *envelope);

/* Bytes of a parsed envelope, which begin with its header. */
static inline size_t
phi_envelope_bytes(const PhiEnvelope *envelope)
{
	return envelope->tag.ptr + envelope->tag.len - envelope->header.ptr;
}

/* Bytes of the envelope of a payload that is not compressed: the most it takes. */
extern size_t phi_envelope_size(const PhiSuite *suite, size_t payload);

/*
 * Writes the envelope of "payload" to "out", which has room for
 * phi_envelope_size() bytes, and its length to *len.  Payloads longer than
 * compress_above bytes are compressed if that shortens them; negative: never.
 */
extern PhiStatus phi_envelope_seal(const PhiSuite *suite, PhiSecret *secret,
								   uint32_t key_id, uint8_t type, PhiSpan payload,
								   long compress_above, uint8_t *out, size_t *len);

/*
 * Decrypts into "body", which has room for envelope->body.len bytes.
 * PHI_AUTH when anything was altered or the key is another.
 */
extern PhiStatus phi_envelope_open(const PhiEnvelope *envelope, PhiSecret *secret,
								   uint8_t *body, PhiPayload *payload);

/*
 * The same body under another key, and perhaps suite: written to "out", which
 * has room for phi_envelope_resealed_size() bytes, that are its length.
 */
extern size_t phi_envelope_resealed_size(const PhiEnvelope *envelope, const PhiSuite *suite);
extern PhiStatus phi_envelope_reseal(const PhiEnvelope *envelope, PhiSecret *from,
									 const PhiSuite *suite, PhiSecret *to,
									 uint32_t key_id, uint8_t *out);

/* Decompresses into "out", which has room for payload->expanded bytes. */
extern PhiStatus phi_payload_expand(const PhiPayload *payload, uint8_t *out);

#endif							/* PHI_ENVELOPE_H */
