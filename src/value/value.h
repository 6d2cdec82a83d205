/*
 * value.h
 *		Encrypted values: who may read them, opening and sealing them.
 */
#ifndef PHI_VALUE_H
#define PHI_VALUE_H

#include "keys/keys.h"
#include "session/session.h"
#include "value/envelope.h"
#include "value/types.h"

#define PHI_PREFIX "phi1:"		/* of the text form of an envelope */
#define PHI_PREFIX_LEN 5

/* Tells two envelopes apart: the first bytes of their nonces. */
#define PHI_MARK_BYTES 16

/* Whether the session may read values of a key. */
typedef enum PhiAccess
{
	PHI_READABLE,
	PHI_SEALED,
	PHI_OTHER_CLINIC,
	PHI_CLASS_NOT_HELD
} PhiAccess;

extern PhiAccess phi_access(const PhiSession *session, const PhiKey *key);

/*
 * Comparing and hashing are called for each row in contexts that live for the
 * whole query: what they allocate goes into one that is reset each time.
 */
extern MemoryContext phi_enter_scratch(void);
extern void phi_leave_scratch(MemoryContext old);

/*
 * Whether a value may be compared across classes: by one who may read it, and
 * by a superuser in a sealed session, where nobody can make values of his own.
 */
extern bool phi_may_compare_any(PhiAccess access);

/* ERROR 42501 for any access but PHI_READABLE. */
extern void phi_report_access(PhiAccess access, int class) pg_attribute_noreturn();

/* ERROR 22000 for a value that is altered, cut or under another key. */
extern void phi_report_envelope(PhiStatus status) pg_attribute_noreturn();

/*
 * The envelope in a datum, which must be one of "type": ERROR 22000 if not.
 * May detoast, so its spans need not point into the datum.
 */
extern void phi_parse_datum(const PhiType *type, Datum datum, PhiEnvelope *envelope);

/* What the head of an envelope says. */
typedef struct PhiHead
{
	uint8		suite;
	int32		key_id;
} PhiHead;

/* Reads no more than the head, also of a toasted value.  False: malformed. */
extern bool phi_read_head(const PhiType *type, Datum value, PhiHead *head);

/* The key of an envelope; ERROR 22000 when there is none. */
extern PhiKey *phi_envelope_key(const PhiEnvelope *envelope);

/*
 * Decrypted bytes.  Short ones are in "near", so that comparing needs no
 * memory; call phi_close when done with long ones.
 */
typedef struct PhiOpened
{
	PhiSpan		payload;
	uint8	   *far;			/* palloc'ed, or NULL */
	uint8		near[272];
} PhiOpened;

/*
 * Whether a datum is an envelope of "type" whose key is to be had and opens it;
 * no error if not.  The key may then be used as after phi_envelope_key.
 */
extern bool phi_is_authentic(const PhiType *type, Datum datum,
							 PhiEnvelope *envelope, PhiKey **key);

/* Decrypts without a look at rights: that is the caller's duty. */
extern void phi_open_envelope(const PhiEnvelope *envelope, PhiKey *key, PhiOpened *opened);
extern void phi_close(PhiOpened *opened);

/* Remembers what an envelope holds, if it is short, until the next is remembered. */
extern void phi_keep_payload(PhiSpan bytes, PhiSpan payload);

/* The same, as a value of type->base. */
extern Datum phi_open_datum(const PhiType *type, const PhiEnvelope *envelope, PhiKey *key);

/*
 * Encrypts for the session's clinic.  ERROR 42501 when the session is sealed or
 * does not hold the class, 54000 when the value is too long.
 */
extern Datum phi_seal_payload(const PhiType *type, PhiSpan payload, int class);

/*
 * Encrypts for any clinic without a look at rights: for the conversion of a
 * table, which tells nobody what it has made.
 */
extern Datum phi_seal_payload_for(const PhiType *type, PhiSpan payload,
								  int32 clinic_id, int class);

/* The same for a value of type->base. */
extern Datum phi_seal_datum(const PhiType *type, Datum value, int class);

/* Whether text is taken for an envelope. */
extern bool phi_is_envelope_text(PhiSpan text);

/*
 * Text form to envelope, as stored.  ERROR 22000 unless it is well formed, of
 * the type and, in a session with a clinic, authentic and readable.  Class:
 * the column's, or -1; a readable value of another class moves to it.
 */
extern Datum phi_accept_text(const PhiType *type, PhiSpan text, int class);

/* "phi1:" and base64, zero-terminated; *len without the zero. */
extern char *phi_envelope_text(struct varlena *envelope, Size *len);

/* The value under the key of another class, or as it is if it has it. */
extern Datum phi_move_to_class(const PhiType *type, Datum datum, int class);

/*
 * A value that is about to be stored: under the active key of its class if it
 * is the session's clinic's and has an older one, else as it is.
 */
extern Datum phi_renew(const PhiType *type, Datum datum);

/* The keyed PRF of a value, as indexes hold 32 bits of. */
extern uint64 phi_search_value(const PhiType *type, const PhiEnvelope *envelope);

/* The same, from a cache where it is there. */
extern uint64 phi_search_cached(const PhiType *type, const PhiEnvelope *envelope);

/* What separates equal values of two classes, made of the PRF of one. */
extern uint64 phi_search_of_class(int32 clinic_id, uint64 prf_of_value, int class);

/* The same of a value of type->base, as if it were the clinic's. */
extern uint64 phi_search_plain(const PhiType *type, int32 clinic_id, Datum value);

extern void phi_hooks_init(void);

extern void phi_value_init(void);

#endif							/* PHI_VALUE_H */
