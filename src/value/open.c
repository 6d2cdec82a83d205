/*
 * open.c
 *		Decrypting values.  Who may read them is the callers' duty.
 */
#include "postgres.h"

#include "value/value.h"

/* A body with a compressed payload; frees the body. */
static void
expand(const PhiPayload *payload, PhiOpened *opened)
{
	uint8	   *out = palloc_extended(payload->expanded, MCXT_ALLOC_HUGE);
	PhiStatus	status = phi_payload_expand(payload, out);

	if (status != PHI_OK)
		phi_report_envelope(status);
	phi_close(opened);
	opened->far = out;
	opened->payload = (PhiSpan) {out, payload->expanded};
}

/*
 * The last value that was made or looked for: a parameter is encrypted, hashed
 * and compared in turn.  What is kept is told by all its bytes, for as long as
 * the keys stay in the keyring.
 */
static struct
{
	uint64		round;			/* of the keyring */
	size_t		size;			/* of "bytes"; 0: nothing is kept */
	size_t		payload_size;
	uint8		bytes[128];
	uint8		payload[64];
} kept = {0};

void
phi_keep_payload(PhiSpan bytes, PhiSpan payload)
{
	kept.size = 0;
	if (bytes.len > sizeof(kept.bytes) || payload.len > sizeof(kept.payload))
		return;
	memcpy(kept.bytes, bytes.ptr, bytes.len);
	memcpy(kept.payload, payload.ptr, payload.len);
	kept.size = bytes.len;
	kept.payload_size = payload.len;
	kept.round = phi_keyring_round();
}

static bool
is_kept(const PhiEnvelope *envelope)
{
	size_t		size = phi_envelope_bytes(envelope);

	return size == kept.size && kept.round == phi_keyring_round() &&
		memcmp(envelope->header.ptr, kept.bytes, size) == 0;
}

void
phi_open_envelope(const PhiEnvelope *envelope, PhiKey *key, PhiOpened *opened)
{
	PhiSecret  *secret = phi_key_secret(key);
	uint8	   *body = opened->near;
	PhiPayload	payload;
	PhiStatus	status;

	opened->far = NULL;
	if (is_kept(envelope))
	{
		memcpy(opened->near, kept.payload, kept.payload_size);
		opened->payload = (PhiSpan) {opened->near, kept.payload_size};
		return;
	}
	if (envelope->body.len > sizeof(opened->near))
		body = opened->far = palloc(envelope->body.len);
	status = phi_envelope_open(envelope, secret, body, &payload);
	if (unlikely(status != PHI_OK))
		phi_report_envelope(status);
	opened->payload = payload.data;
	if (payload.expanded > 0)
		expand(&payload, opened);
}

bool
phi_is_authentic(const PhiType *type, Datum datum, PhiEnvelope *envelope, PhiKey **key)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(datum);
	PhiPayload	payload;

	if (phi_envelope_parse((uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes),
						   envelope) != PHI_OK || envelope->type != type->id)
		return false;
	*key = phi_key_by_id(envelope->key_id);
	return *key != NULL && phi_key_available(*key) &&
		phi_envelope_open(envelope, phi_key_secret(*key),
						  palloc(envelope->body.len), &payload) == PHI_OK;
}

void
phi_close(PhiOpened *opened)
{
	if (opened->far != NULL)
		pfree(opened->far);
	opened->far = NULL;
}

/*
 * Text and bytea are decrypted to where they stay: the flags fall on the last
 * byte of the length word, which is written afterwards.
 */
static Datum
open_bytes(const PhiEnvelope *envelope, PhiKey *key)
{
	PhiSecret  *secret = phi_key_secret(key);
	uint8	   *value = palloc(VARHDRSZ + envelope->body.len);
	PhiPayload	payload;
	PhiStatus	status;

	status = phi_envelope_open(envelope, secret, value + VARHDRSZ - 1, &payload);
	if (likely(status == PHI_OK && payload.expanded == 0))
	{
		SET_VARSIZE(value, VARHDRSZ + payload.data.len);
		return PointerGetDatum(value);
	}
	if (status == PHI_OK)
	{
		uint8	   *out = palloc(VARHDRSZ + payload.expanded);

		status = phi_payload_expand(&payload, out + VARHDRSZ);
		SET_VARSIZE(out, VARHDRSZ + payload.expanded);
		pfree(value);
		value = out;
	}
	if (status != PHI_OK)
		phi_report_envelope(status);
	return PointerGetDatum(value);
}

Datum
phi_open_datum(const PhiType *type, const PhiEnvelope *envelope, PhiKey *key)
{
	PhiOpened	opened;
	Datum		value;

	if (type->kind == PHI_PAYLOAD_BYTES)
		return open_bytes(envelope, key);
	phi_open_envelope(envelope, key, &opened);
	value = phi_payload_to(type, opened.payload);
	phi_close(&opened);
	return value;
}
