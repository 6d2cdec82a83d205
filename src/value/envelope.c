/*
 * envelope.c
 *		The stored form of an encrypted value: docs/format.md.
 */
#include <lz4.h>
#include <string.h>

#include "value/envelope.h"

/* Flags: the first byte of the body. */
#define FLAG_PADDED 0x01		/* 80 00 ... 00 follows, ISO/IEC 7816-4 */
#define FLAG_LZ4 0x02			/* payload: expanded size 4, LZ4 block */
#define FLAGS_KNOWN (FLAG_PADDED | FLAG_LZ4)

#define LZ4_HEADER 4			/* expanded size, big-endian */
#define SHORT_BODY 256			/* padded to blocks up to here, PADME above */
#define BLOCK 16

static void
put_uint32(uint8_t *out, uint32_t value)
{
	out[0] = value >> 24;
	out[1] = value >> 16;
	out[2] = value >> 8;
	out[3] = value;
}

static uint32_t
get_uint32(const uint8_t *in)
{
	return (uint32_t) in[0] << 24 | (uint32_t) in[1] << 16 |
		(uint32_t) in[2] << 8 | in[3];
}

/*
 * PADME (Nikitin et al., PETS 2019, section 4): the length is rounded so that
 * its lowest log2(length) - log2(log2(length)) bits are zero, at most 12 %.
 */
static size_t
padme(size_t len)
{
	unsigned	exponent = 63 - __builtin_clzll(len);
	unsigned	digits = 64 - __builtin_clzll(exponent);
	size_t		mask = ((size_t) 1 << (exponent - digits)) - 1;

	return (len + mask) & ~mask;
}

/* Length of a body of "len" bytes once it is padded. */
static size_t
padded_size(size_t len)
{
	if (len <= SHORT_BODY)
		return (len + BLOCK - 1) & ~(size_t) (BLOCK - 1);
	return padme(len);
}

PhiStatus
phi_envelope_parse(const uint8_t *data, size_t len, PhiEnvelope *envelope)
{
	const PhiSuite *suite;
	size_t		around;

	if (len < PHI_HEADER_SIZE || data[0] != PHI_FORMAT)
		return PHI_MALFORMED;
	suite = phi_suite_by_id(data[1]);
	if (suite == NULL)
		return PHI_MALFORMED;
	around = PHI_HEADER_SIZE + suite->nonce_size + suite->tag_size;
	if (len <= around)
		return PHI_MALFORMED;
	envelope->suite = suite;
	envelope->type = data[2];
	envelope->key_id = get_uint32(data + 3);
	envelope->header = (PhiSpan) {data, PHI_HEADER_SIZE};
	envelope->nonce = (PhiSpan) {data + PHI_HEADER_SIZE, suite->nonce_size};
	envelope->body = (PhiSpan) {envelope->nonce.ptr + suite->nonce_size, len - around};
	envelope->tag = (PhiSpan) {envelope->body.ptr + envelope->body.len, suite->tag_size};
	return PHI_OK;
}

size_t
phi_envelope_size(const PhiSuite *suite, size_t payload)
{
	return PHI_HEADER_SIZE + suite->nonce_size + padded_size(1 + payload) +
		suite->tag_size;
}

/* Bytes written, 0 when compression does not save at least one in sixteen. */
static size_t
compress_payload(PhiSpan payload, uint8_t *out)
{
	int			room = (int) (payload.len - payload.len / 16);
	int			written;

	if (payload.len > LZ4_MAX_INPUT_SIZE || room <= LZ4_HEADER)
		return 0;
	written = LZ4_compress_default((const char *) payload.ptr,
								   (char *) out + LZ4_HEADER,
								   (int) payload.len, room - LZ4_HEADER);
	if (written <= 0)
		return 0;
	put_uint32(out, (uint32_t) payload.len);
	return LZ4_HEADER + (size_t) written;
}

/* Writes flags, payload and padding; returns their length. */
static size_t
write_body(PhiSpan payload, long compress_above, uint8_t *body)
{
	size_t		used = 0;
	size_t		padded;

	body[0] = 0;
	if (compress_above >= 0 && payload.len > (size_t) compress_above)
		used = compress_payload(payload, body + 1);
	if (used > 0)
		body[0] |= FLAG_LZ4;
	else
	{
		memcpy(body + 1, payload.ptr, payload.len);
		used = payload.len;
	}
	used++;						/* the flags */
	padded = padded_size(used);
	if (padded > used)
	{
		body[0] |= FLAG_PADDED;
		body[used] = 0x80;
		memset(body + used + 1, 0, padded - used - 1);
	}
	return padded;
}

static void
write_header(uint8_t *out, const PhiSuite *suite, uint8_t type, uint32_t key_id)
{
	out[0] = PHI_FORMAT;
	out[1] = suite->id;
	out[2] = type;
	put_uint32(out + 3, key_id);
}

PhiStatus
phi_envelope_seal(const PhiSuite *suite, PhiSecret *secret, uint32_t key_id,
				  uint8_t type, PhiSpan payload, long compress_above,
				  uint8_t *out, size_t *len)
{
	uint8_t    *nonce = out + PHI_HEADER_SIZE;
	uint8_t    *body = nonce + suite->nonce_size;
	size_t		body_len;
	PhiStatus	status;

	write_header(out, suite, type, key_id);
	status = phi_random_nonce(nonce, suite->nonce_size);
	if (status != PHI_OK)
		return status;
	body_len = write_body(payload, compress_above, body);
	*len = PHI_HEADER_SIZE + suite->nonce_size + body_len + suite->tag_size;
	return phi_seal(suite, secret, nonce, (PhiSpan) {out, PHI_HEADER_SIZE},
					body, body_len, body + body_len);
}

/* Finds the payload in a body that has authenticated. */
static PhiStatus
read_body(const uint8_t *body, size_t len, PhiPayload *payload)
{
	uint8_t		flags = body[0];

	if (flags & ~FLAGS_KNOWN)
		return PHI_MALFORMED;
	if (flags & FLAG_PADDED)
	{
		while (len > 1 && body[len - 1] == 0)
			len--;
		if (len < 2 || body[len - 1] != 0x80)
			return PHI_MALFORMED;
		len--;
	}
	payload->data = (PhiSpan) {body + 1, len - 1};
	payload->expanded = 0;
	if (flags & FLAG_LZ4)
	{
		if (len < 1 + LZ4_HEADER)
			return PHI_MALFORMED;
		payload->expanded = get_uint32(body + 1);
		payload->data = (PhiSpan) {body + 1 + LZ4_HEADER, len - 1 - LZ4_HEADER};
		if (payload->expanded == 0 || payload->expanded > LZ4_MAX_INPUT_SIZE)
			return PHI_MALFORMED;
	}
	return PHI_OK;
}

PhiStatus
phi_envelope_open(const PhiEnvelope *envelope, PhiSecret *secret,
				  uint8_t *body, PhiPayload *payload)
{
	PhiStatus	status;

	status = phi_open(envelope->suite, secret, envelope->nonce.ptr,
					  envelope->header, envelope->body.ptr, envelope->body.len,
					  envelope->tag.ptr, body);
	if (status != PHI_OK)
		return status;
	return read_body(body, envelope->body.len, payload);
}

size_t
phi_envelope_resealed_size(const PhiEnvelope *envelope, const PhiSuite *suite)
{
	return PHI_HEADER_SIZE + suite->nonce_size + envelope->body.len + suite->tag_size;
}

/* Flags and padding stay: the plaintext has the same length. */
PhiStatus
phi_envelope_reseal(const PhiEnvelope *envelope, PhiSecret *from,
					const PhiSuite *suite, PhiSecret *to, uint32_t key_id,
					uint8_t *out)
{
	uint8_t    *nonce = out + PHI_HEADER_SIZE;
	uint8_t    *body = nonce + suite->nonce_size;
	PhiStatus	status;

	write_header(out, suite, envelope->type, key_id);
	status = phi_random_nonce(nonce, suite->nonce_size);
	if (status != PHI_OK)
		return status;
	status = phi_open(envelope->suite, from, envelope->nonce.ptr, envelope->header,
					  envelope->body.ptr, envelope->body.len, envelope->tag.ptr, body);
	if (status != PHI_OK)
		return status;
	return phi_seal(suite, to, nonce, (PhiSpan) {out, PHI_HEADER_SIZE},
					body, envelope->body.len, body + envelope->body.len);
}

PhiStatus
phi_payload_expand(const PhiPayload *payload, uint8_t *out)
{
	int			n = LZ4_decompress_safe((const char *) payload->data.ptr,
										(char *) out,
										(int) payload->data.len,
										(int) payload->expanded);

	return n == (int) payload->expanded ? PHI_OK : PHI_MALFORMED;
}
