/*
 * sign.c
 *		Checkpoints: signed notes of the tree.
 *
 * The key is one of its own, wrapped by the master key as data keys are, and
 * opens nothing.  While the server is sealed records are sequenced all the same;
 * the first checkpoint after that covers them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "audit/log.h"
#include "audit/note.h"
#include "compat.h"
#include "keys/catalog.h"
#include "keys/keys.h"
#include "keys/vault.h"

PG_FUNCTION_INFO_V1(phi_sign_audit_note);
PG_FUNCTION_INFO_V1(phi_check_audit_note);

static Datum
fetched(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/* The log's name, palloc'ed, and *covered: the leaves of the last checkpoint; NULL: the log is not open. */
static char *
read_origin(uint64 *covered)
{
	bool		isnull;
	Datum		size;

	if (SPI_execute("SELECT origin, (SELECT max(size) FROM phi.audit_checkpoint) FROM phi.audit_state",
					false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		return NULL;
	size = fetched(2, &isnull);
	*covered = isnull ? 0 : DatumGetUInt64(size);
	size = fetched(1, &isnull);
	return isnull ? NULL : TextDatumGetCString(size);
}

/* The key that signs, made when first asked for; NULL while it cannot be had. */
static PhiKey *
signing_key(void)
{
	PhiKey	   *key = phi_key_active(PHI_NO_CLINIC, PHI_CLASS_SIGNING);
	PhiKeyRow	last;

	/* A database without any key has nothing to protect yet. */
	if (key == NULL && !phi_vault_sealed(NULL) && phi_read_last_key(&last))
	{
		if (SPI_execute("SELECT phi.add_signing_key()", false, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not make a key");
		key = phi_key_active(PHI_NO_CLINIC, PHI_CLASS_SIGNING);
	}
	return key != NULL && !phi_vault_sealed(NULL) && phi_key_available(key) ? key : NULL;
}

static char *
sign_text(const char *text, const char *name, PhiKey *key, char *verifier)
{
	PhiSpan		span = {(const uint8 *) text, strlen(text)};
	char	   *note = palloc(phi_note_size(span.len, name));
	PhiSecret  *secret = phi_key_secret(key);
	PhiVerifier known;
	uint8		public_key[PHI_SIGN_KEY];
	PhiStatus	status = phi_sign_key(secret, public_key);

	if (status == PHI_OK)
		status = phi_note_sign(span, name, secret, note);
	if (status == PHI_OK)
		status = phi_verifier_make(name, public_key, &known);
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not sign for the audit log \"%s\"", name),
				 errhint("Its origin must be free of blanks, plus signs and control characters: see phi.audit_origin.")));
	phi_verifier_format(&known, verifier);
	return note;
}

static void
insert(const char *sql, int n, Oid *types, Datum *values)
{
	if (SPI_execute_with_args(sql, n, types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "\"%s\" failed", sql);
}

static void
sign_tree(const PhiFrontier *tree, const char *origin, PhiKey *key)
{
	PhiCheckpoint checkpoint;
	char		text[PHI_CHECKPOINT_TEXT];
	char		verifier[PHI_VERIFIER_TEXT];
	int32		key_id = key->key_id;
	char	   *note;
	Oid			signer_types[] = {INT4OID, TEXTOID, INT8OID};
	Oid			checkpoint_types[] = {INT8OID, BYTEAOID, INT4OID, TEXTOID};
	Datum		values[4];

	strlcpy(checkpoint.origin, origin, sizeof(checkpoint.origin));
	checkpoint.size = tree->size;
	if (phi_merkle_root(tree, &checkpoint.root) != PHI_OK ||
		phi_checkpoint_format(&checkpoint, text) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not make a checkpoint of the audit log")));
	note = sign_text(text, origin, key, verifier);
	values[0] = Int32GetDatum(key_id);
	values[1] = CStringGetTextDatum(verifier);
	values[2] = Int64GetDatum(checkpoint.size);
	insert("INSERT INTO phi.audit_signer (key_id, verifier, since) SELECT $1, $2, $3 "
		   "WHERE NOT EXISTS (SELECT FROM phi.audit_signer WHERE verifier = $2)",
		   lengthof(signer_types), signer_types, values);
	values[0] = Int64GetDatum(checkpoint.size);
	values[1] = PointerGetDatum(phi_make_bytea(checkpoint.root.byte, PHI_HASH_SIZE));
	values[2] = Int32GetDatum(key_id);
	values[3] = CStringGetTextDatum(note);
	insert("INSERT INTO phi.audit_checkpoint (size, root, key_id, note) VALUES ($1, $2, $3, $4)",
		   lengthof(checkpoint_types), checkpoint_types, values);
}

/* An error is logged, and the sequencing stands: the next pass signs. */
static bool
try_to_sign(const PhiFrontier *tree, const char *origin)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction("phi_sign");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		PhiKey	   *key = signing_key();

		if (key != NULL)
		{
			sign_tree(tree, origin, key);
			done = true;
		}
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		done = false;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not sign a checkpoint of the audit log: %s", error->message),
				 error->hint != NULL ? errhint("%s", error->hint) : 0));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

bool
phi_audit_sign_tree(const PhiFrontier *tree)
{
	uint64		covered;
	char	   *origin = read_origin(&covered);

	return origin != NULL && tree->size > covered && try_to_sign(tree, origin);
}

/* phi.sign_audit_note(text) returns text: ERROR 55000 while there is no key to sign with */
Datum
phi_sign_audit_note(PG_FUNCTION_ARGS)
{
	char	   *unsigned_text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char		verifier[PHI_VERIFIER_TEXT];
	uint64		covered;
	char	   *origin;
	PhiKey	   *key;
	char	   *note;
	text	   *result;
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	origin = read_origin(&covered);
	key = origin == NULL ? NULL : signing_key();
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no key to sign with"),
				 errhint("Open the log with phi.audit(), or unseal the server.")));
	note = sign_text(unsigned_text, origin, key, verifier);
	context = MemoryContextSwitchTo(context);
	result = cstring_to_text(note);
	MemoryContextSwitchTo(context);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}

static int
read_verifiers(ArrayType *array, PhiVerifier **verifiers)
{
	Datum	   *texts;
	bool	   *nulls;
	int			total;
	int			n = 0;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &total);
	*verifiers = palloc(Max(total, 1) * sizeof(PhiVerifier));
	for (int i = 0; i < total; i++)
	{
		char	   *verifier = nulls[i] ? "" : TextDatumGetCString(texts[i]);

		/* One that makes no sense signs nothing. */
		if (phi_verifier_parse(verifier, strlen(verifier), &(*verifiers)[n]) == PHI_OK)
			n++;
	}
	return n;
}

/* phi.check_audit_note(text, text[]) returns (signed boolean, origin text, size bigint, root bytea) */
Datum
phi_check_audit_note(PG_FUNCTION_ARGS)
{
	text	   *note = PG_GETARG_TEXT_PP(0);
	PhiSpan		span = {(uint8 *) VARDATA_ANY(note), VARSIZE_ANY_EXHDR(note)};
	PhiVerifier *verifiers;
	int			n = read_verifiers(PG_GETARG_ARRAYTYPE_P(1), &verifiers);
	PhiSpan		body = {NULL, 0};
	PhiStatus	status = phi_note_open(span, verifiers, n, &body, NULL);
	PhiCheckpoint checkpoint;
	TupleDesc	desc;
	Datum		values[4] = {BoolGetDatum(status == PHI_OK)};
	bool		nulls[4] = {false, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (status != PHI_MALFORMED && phi_checkpoint_parse(body, &checkpoint) == PHI_OK)
	{
		values[1] = CStringGetTextDatum(checkpoint.origin);
		values[2] = Int64GetDatum((int64) checkpoint.size);
		values[3] = PointerGetDatum(phi_make_bytea(checkpoint.root.byte, PHI_HASH_SIZE));
		nulls[1] = nulls[2] = nulls[3] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
