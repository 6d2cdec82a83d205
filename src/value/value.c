/*
 * value.c
 *		Encrypted values: who may read them, opening and sealing them.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "guc.h"
#include "session/grants.h"
#include "value/guard.h"
#include "value/value.h"

PhiAccess
phi_access(const PhiSession *session, const PhiKey *key)
{
	if (session == NULL)
		return PHI_SEALED;
	if (session->clinic_id != key->clinic_id || key->class < 0)
		return PHI_OTHER_CLINIC;
	if (!(session->classes & PHI_CLASS_BIT(key->class)))
		return PHI_CLASS_NOT_HELD;
	return PHI_READABLE;
}

static MemoryContext scratch = NULL;

MemoryContext
phi_enter_scratch(void)
{
	if (scratch == NULL)
		scratch = AllocSetContextCreate(TopMemoryContext, "pg_phi comparison",
										ALLOCSET_DEFAULT_SIZES);
	return MemoryContextSwitchTo(scratch);
}

void
phi_leave_scratch(MemoryContext old)
{
	MemoryContextSwitchTo(old);
	MemoryContextReset(scratch);
}

bool
phi_may_compare_any(PhiAccess access)
{
	return access == PHI_READABLE || (access == PHI_SEALED && superuser());
}

void
phi_report_access(PhiAccess access, int class)
{
	if (access == PHI_SEALED)
		phi_require_session("decrypt a value");
	if (access == PHI_CLASS_NOT_HELD)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for data class \"%s\"", phi_class_label(class)),
				 errdetail("The session was not granted this class of its clinic's values."),
				 errhint("Ask for the class with phi.grant_clinic(), or have such values read as NULL: SET phi.hidden_value = 'null'.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("encrypted value belongs to another clinic"),
			 errhint("Open the clinic of the value with SET phi.clinic.")));
}

void
phi_report_envelope(PhiStatus status)
{
	switch (status)
	{
		case PHI_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory for encryption")));
		case PHI_UNSUPPORTED:
		case PHI_LIBRARY:
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("encryption library failed"),
					 errhint("See whether it offers the algorithm that phi.suite names.")));
		default:
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("encrypted value is not authentic"),
					 errdetail("It was altered or cut, or encrypted under another key than it names."),
					 errhint("Restore the value from a backup. Plain text that begins with \"%s\" is encrypted by phi.encrypt().", PHI_PREFIX)));
	}
}

void
phi_parse_datum(const PhiType *type, Datum datum, PhiEnvelope *envelope)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(datum);
	PhiStatus	status;

	status = phi_envelope_parse((uint8 *) VARDATA_ANY(bytes),
								VARSIZE_ANY_EXHDR(bytes), envelope);
	if (unlikely(status != PHI_OK || envelope->type != type->id))
		phi_report_envelope(PHI_MALFORMED);
}

bool
phi_read_head(const PhiType *type, Datum value, PhiHead *head)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(value);
	const uint8 *data;
	uint32		key_id;

	if (VARATT_IS_EXTERNAL(bytes) || VARATT_IS_COMPRESSED(bytes))
		bytes = pg_detoast_datum_slice(bytes, 0, PHI_HEADER_SIZE);
	data = (uint8 *) VARDATA_ANY(bytes);
	if (VARSIZE_ANY_EXHDR(bytes) < PHI_HEADER_SIZE || data[0] != PHI_FORMAT ||
		phi_suite_by_id(data[1]) == NULL || data[2] != type->id)
		return false;
	head->suite = data[1];
	memcpy(&key_id, data + 3, sizeof(key_id));
	head->key_id = (int32) pg_ntoh32(key_id);
	return true;
}

PhiKey *
phi_envelope_key(const PhiEnvelope *envelope)
{
	PhiKey	   *key = phi_key_by_id(envelope->key_id);

	if (unlikely(key == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("encrypted value names key %u, which does not exist",
						envelope->key_id),
				 errhint("Restore the rows of phi.data_key from the dump that the value came from.")));
	return key;
}

/* A cast can be called as a function, with any number for a type modifier. */
static void
check_class(int class)
{
	if (class < 0 || class >= PHI_CLASSES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("data class %d does not exist", class),
				 errhint("The classes are general, identity, insurance, clinical and sensitive.")));
}

Datum
phi_seal_payload_for(const PhiType *type, PhiSpan payload, int32 clinic_id, int class)
{
	const PhiSuite *suite = phi_suite_by_id(phi_suite);
	size_t		size = phi_envelope_size(suite, payload.len);
	PhiKey	   *key;
	PhiSecret  *secret;
	PhiStatus	status;
	uint8	   *value;

	/* What can be stored must also fit, as text, into a dump. */
	if (VARHDRSZ + size > MaxAllocSize / 4 * 3 - 16)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value is too long to be encrypted"),
				 errdetail("Its envelope would have %zu bytes.", size)));
	value = palloc(VARHDRSZ + size);
	phi_key_hold_for_write();
	key = phi_key_active(clinic_id, class);
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clinic \"%s\" has no active key for data class \"%s\"",
						phi_clinic_code(clinic_id), phi_class_label(class)),
				 errhint("A custodian makes one with phi.rotate_key().")));
	secret = phi_key_secret(key);
	status = phi_envelope_seal(suite, secret, key->key_id, type->id, payload,
							   phi_compress_above, value + VARHDRSZ, &size);
	if (status != PHI_OK)
		phi_report_envelope(status);
	SET_VARSIZE(value, VARHDRSZ + size);
	phi_keep_payload((PhiSpan) {value + VARHDRSZ, size}, payload);
	return PointerGetDatum(value);
}

Datum
phi_seal_payload(const PhiType *type, PhiSpan payload, int class)
{
	const PhiSession *session = phi_require_session("encrypt a value");

	check_class(class);
	if (!(session->classes & PHI_CLASS_BIT(class)))
		phi_report_access(PHI_CLASS_NOT_HELD, class);
	return phi_seal_payload_for(type, payload, session->clinic_id, class);
}

Datum
phi_seal_datum(const PhiType *type, Datum value, int class)
{
	uint8		scratch[8];
	void	   *owned;
	PhiSpan		payload = phi_payload_from(type, value, scratch, &owned);
	Datum		sealed = phi_seal_payload(type, payload, class);

	if (owned != NULL)
		pfree(owned);
	return sealed;
}

/* A superuser restores what a dump holds, also of clinics that are gone. */
static void
check_not_destroyed(const PhiKey *key)
{
	if (key->state == PHI_KEY_DESTROYED && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("key %d is destroyed", key->key_id),
				 errdetail("No value may be stored under it any more.")));
}

Datum
phi_move_to_class(const PhiType *type, Datum datum, int class)
{
	PhiEnvelope envelope;
	PhiKey	   *key;
	PhiAccess	access;
	PhiOpened	opened;
	Datum		moved;

	check_class(class);
	phi_parse_datum(type, datum, &envelope);
	key = phi_key_by_id(envelope.key_id);
	/* A sealed session restores a dump, perhaps before the keys are there. */
	if (key == NULL && phi_session() == NULL)
		return datum;
	if (key == NULL)
		key = phi_envelope_key(&envelope);
	if (key->class == class && key->state == PHI_KEY_ACTIVE)
		return datum;
	access = phi_access(phi_session(), key);
	/* Who may not read it carries it as it is, but not from a leaked key. */
	if (key->class == class && access != PHI_READABLE &&
		(access == PHI_SEALED || key->state == PHI_KEY_RETIRED))
	{
		phi_key_hold_for_copy();
		key = phi_key_by_id(envelope.key_id);
		if (key != NULL)
			check_not_destroyed(key);
		return datum;
	}
	if (access != PHI_READABLE)
		phi_report_access(access, key->class);
	phi_open_envelope(&envelope, key, &opened);
	moved = phi_seal_payload(type, opened.payload, class);
	phi_close(&opened);
	return moved;
}

Datum
phi_renew(const PhiType *type, Datum datum)
{
	const PhiSession *session = phi_session();
	PhiHead		head;
	PhiKey	   *key;

	if (!phi_read_head(type, datum, &head))
		return datum;
	key = phi_key_by_id(head.key_id);
	if (key == NULL || key->state == PHI_KEY_ACTIVE)
		return datum;
	if (session != NULL && session->clinic_id == key->clinic_id)
		return phi_move_to_class(type, datum, key->class);
	phi_key_hold_for_copy();
	key = phi_key_by_id(head.key_id);
	if (key != NULL)
		check_not_destroyed(key);
	return datum;
}

bool
phi_is_envelope_text(PhiSpan text)
{
	return text.len >= PHI_PREFIX_LEN &&
		memcmp(text.ptr, PHI_PREFIX, PHI_PREFIX_LEN) == 0;
}

static struct varlena *
decode_text(PhiSpan text)
{
	size_t		len = text.len - PHI_PREFIX_LEN;
	size_t		room = len / 4 * 3 + 3;
	struct varlena *envelope = palloc(VARHDRSZ + room);
	PhiStatus	status;

	status = phi_base64_decode((const char *) text.ptr + PHI_PREFIX_LEN, len,
							   (uint8 *) VARDATA(envelope), room, &len);
	if (status != PHI_OK)
		phi_report_envelope(status);
	SET_VARSIZE(envelope, VARHDRSZ + len);
	return envelope;
}

/*
 * In a sealed session.  Values of old keys, or of none that is known, would
 * keep keys from being destroyed: they are for who restores a dump.
 */
static void
check_restore(PhiKey *key)
{
	if (superuser() || (key != NULL && key->state == PHI_KEY_ACTIVE))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to store an encrypted value whose key is not active"),
			 errhint("Open the value's clinic with SET phi.clinic, or restore as a superuser.")));
}

Datum
phi_accept_text(const PhiType *type, PhiSpan text, int class)
{
	Datum		datum = PointerGetDatum(decode_text(text));
	PhiEnvelope envelope;
	PhiKey	   *key;
	PhiAccess	access;
	PhiOpened	opened;

	phi_parse_datum(type, datum, &envelope);
	key = phi_session() != NULL ? phi_envelope_key(&envelope) :
		phi_key_by_id(envelope.key_id);
	access = key != NULL ? phi_access(phi_session(), key) : PHI_SEALED;
	if (access != PHI_READABLE && access != PHI_SEALED)
		phi_report_access(access, key->class);
	/* So that who rotates or destroys its key waits for this transaction. */
	phi_key_hold_for_write();
	if (access == PHI_SEALED)
	{
		phi_key_hold_for_copy();
		key = phi_key_by_id(envelope.key_id);
		check_restore(key);
	}

	/*
	 * A superuser's restore comes as it is, perhaps before the keys.  Others
	 * could forge envelopes that break the queries of all who meet them.
	 */
	if (access == PHI_READABLE || !superuser())
	{
		phi_open_envelope(&envelope, key, &opened);
		phi_close(&opened);
	}
	/* One who may encrypt stores nothing under a key that is no longer active. */
	if (class < 0 && access == PHI_READABLE)
		class = key->class;
	return class < 0 ? datum : phi_move_to_class(type, datum, class);
}

char *
phi_envelope_text(struct varlena *envelope, Size *len)
{
	Size		bytes = VARSIZE_ANY_EXHDR(envelope);
	Size		size = phi_base64_size(bytes);
	char	   *text = palloc_extended(PHI_PREFIX_LEN + size, MCXT_ALLOC_HUGE);

	memcpy(text, PHI_PREFIX, PHI_PREFIX_LEN);
	phi_base64_encode((uint8 *) VARDATA_ANY(envelope), bytes, text + PHI_PREFIX_LEN);
	*len = PHI_PREFIX_LEN + size - 1;
	return text;
}

void
phi_value_init(void)
{
	phi_types_init();
	phi_hooks_init();
	phi_stored_init();
}
