/*
 * recrypt.c
 *		Encrypting values again: from the key they name to the active one of its
 *		clinic and class.
 *
 * Only the envelope is opened and closed again.  The plaintext is never made a
 * value of its type, and its memory is that of the new ciphertext.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "guc.h"
#include "keys/keys.h"
#include "rekey/recrypt.h"

/* What the visitor knows about the value that it is called for. */
typedef struct Visit
{
	const PhiTarget *target;
	ItemPointer tid;
	AttrNumber	attnum;
	PhiTally   *tally;
	bool		changed;
} Visit;

static int
compare_keys(const void *a, const void *b)
{
	int32		x = *(const int32 *) a;
	int32		y = *(const int32 *) b;

	return x < y ? -1 : x > y;
}

static bool
is_target(const PhiTarget *target, const PhiHead *head)
{
	PhiKey	   *key;

	if (target->suite == 0)
		return bsearch(&head->key_id, target->keys, target->n, sizeof(int32),
					   compare_keys) != NULL;
	if (head->suite != target->suite)
		return false;
	key = phi_key_by_id(head->key_id);
	return key != NULL && key->state != PHI_KEY_DESTROYED &&
		(target->clinic_id == 0 || key->clinic_id == target->clinic_id) &&
		(target->class < 0 || key->class == target->class);
}

static void
note_failure(Visit *visit, int32 key_id, const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	PhiFailure *failure = palloc(sizeof(PhiFailure));

	failure->tid = *visit->tid;
	failure->attnum = visit->attnum;
	failure->key_id = key_id;
	failure->error = error;
	visit->tally->failures = lappend(visit->tally->failures, failure);
	MemoryContextSwitchTo(old);
}

/* The keys of before and after. */
typedef struct KeyPair
{
	PhiSecret  *from;
	PhiSecret  *to;
	int32		to_id;
} KeyPair;

static void
find_keys(uint32 key_id, KeyPair *pair)
{
	PhiKey	   *key = phi_key_by_id(key_id);
	int32		clinic_id;
	int			class;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("key %u does not exist any more", key_id)));
	clinic_id = key->clinic_id;
	class = key->class;
	pair->from = phi_key_secret(key);
	key = phi_key_active(clinic_id, class);
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clinic %d has no active key for data class \"%s\"",
						clinic_id, phi_class_label(class)),
				 errhint("Make one with phi.rotate_key().")));
	pair->to_id = key->key_id;
	pair->to = phi_key_secret(key);
}

/*
 * When keys change between the two look-ups, the second takes the first one
 * away; so both are looked up until nothing has changed meanwhile.
 */
static PhiStatus
reseal(const PhiEnvelope *envelope, const PhiSuite *suite, uint8 *out)
{
	KeyPair		pair;
	uint64		before;

	do
	{
		before = phi_keyring_round();
		find_keys(envelope->key_id, &pair);
	} while (before != phi_keyring_round());
	return phi_envelope_reseal(envelope, pair.from, suite, pair.to, pair.to_id, out);
}

static const char *
why(PhiStatus status)
{
	switch (status)
	{
		case PHI_AUTH:
			return "the value is not authentic: it was altered, or encrypted under another key than it names";
		case PHI_MALFORMED:
			return "the value is not a sound envelope";
		default:
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("encryption library failed"),
					 errhint("See whether it offers the algorithm that phi.suite names.")));
	}
}

static Datum
recrypt_value(const PhiType *type, Datum value, void *context)
{
	Visit	   *visit = context;
	const PhiSuite *suite = phi_suite_by_id(phi_suite);
	struct varlena *bytes;
	struct varlena *result;
	PhiEnvelope envelope;
	PhiHead		head;
	PhiStatus	status;
	Size		size;

	if (!phi_read_head(type, value, &head))
	{
		note_failure(visit, 0, why(PHI_MALFORMED));
		return value;
	}
	if (!is_target(visit->target, &head))
		return value;
	bytes = PG_DETOAST_DATUM_PACKED(value);
	status = phi_envelope_parse((uint8 *) VARDATA_ANY(bytes),
								VARSIZE_ANY_EXHDR(bytes), &envelope);
	if (status != PHI_OK)
	{
		note_failure(visit, head.key_id, why(status));
		return value;
	}
	size = VARHDRSZ + phi_envelope_resealed_size(&envelope, suite);
	result = palloc(size);
	SET_VARSIZE(result, size);
	status = reseal(&envelope, suite, (uint8 *) VARDATA(result));
	if (status != PHI_OK)
	{
		note_failure(visit, head.key_id, why(status));
		return value;
	}
	visit->tally->values++;
	visit->changed = true;
	return PointerGetDatum(result);
}

/* A row's failures are the last ones. */
void
phi_move_failures(PhiTally *tally, ItemPointer from, ItemPointer to)
{
	for (int i = list_length(tally->failures) - 1; i >= 0; i--)
	{
		PhiFailure *failure = list_nth(tally->failures, i);

		if (!ItemPointerEquals(&failure->tid, from))
			return;
		failure->tid = *to;
	}
}

Datum
phi_recrypt_datum(const PhiWalk *walk, const PhiTarget *target, Datum value, PhiTally *tally)
{
	ItemPointerData nowhere;
	Visit		visit = {.target = target,.tid = &nowhere,.tally = tally};

	ItemPointerSetInvalid(&nowhere);
	return phi_walk(walk, value, recrypt_value, &visit);
}

static Datum
look_for_target(const PhiType *type, Datum value, void *context)
{
	Visit	   *visit = context;
	PhiHead		head;

	/* "changed": would be. */
	visit->changed |= !phi_read_head(type, value, &head) || is_target(visit->target, &head);
	return value;
}

bool
phi_has_target(const PhiWalk *walk, const PhiTarget *target, Datum value)
{
	Visit		visit = {.target = target};

	(void) phi_walk(walk, value, look_for_target, &visit);
	return visit.changed;
}

bool
phi_recrypt_row(const PhiTable *table, const PhiTarget *target, ItemPointer tid,
				Datum *values, bool *nulls, PhiTally *tally)
{
	Visit		visit = {.target = target,.tid = tid,.tally = tally};

	for (int i = 0; i < table->n; i++)
	{
		int			at = table->columns[i].attnum - 1;

		if (nulls[at])
			continue;
		visit.attnum = table->columns[i].attnum;
		values[at] = phi_walk(table->columns[i].walk, values[at], recrypt_value, &visit);
	}
	return visit.changed;
}
