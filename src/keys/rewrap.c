/*
 * rewrap.c
 *		What master.sql needs from C: rotation of the master key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "guc.h"
#include "keys/catalog.h"

PG_FUNCTION_INFO_V1(phi_known_masters);
PG_FUNCTION_INFO_V1(phi_has_master);
PG_FUNCTION_INFO_V1(phi_newest_master);
PG_FUNCTION_INFO_V1(phi_make_master);
PG_FUNCTION_INFO_V1(phi_rewrap_key);
PG_FUNCTION_INFO_V1(phi_unwraps);

/* phi.known_masters() returns text[]: the labels that the provider has */
Datum
phi_known_masters(PG_FUNCTION_ARGS)
{
	List	   *labels = phi_master_labels();
	Datum	   *elements = palloc(list_length(labels) * sizeof(Datum));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, labels)
		elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	PG_RETURN_ARRAYTYPE_P(construct_array(elements, n, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

/* phi.has_master(label text) returns boolean */
Datum
phi_has_master(PG_FUNCTION_ARGS)
{
	char	   *label = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL(strlen(label) < PHI_LABEL_SIZE && phi_master_stored(label));
}

/* phi.newest_master() returns text; makes the first one of all */
Datum
phi_newest_master(PG_FUNCTION_ARGS)
{
	char		label[PHI_LABEL_SIZE];

	phi_master_newest(label);
	PG_RETURN_TEXT_P(cstring_to_text(label));
}

/* phi.make_master(after text) returns text */
Datum
phi_make_master(PG_FUNCTION_ARGS)
{
	char		label[PHI_LABEL_SIZE];

	phi_master_create(text_to_cstring(PG_GETARG_TEXT_PP(0)), label);
	PG_RETURN_TEXT_P(cstring_to_text(label));
}

/* The first five arguments of phi.rewrap_key and phi.unwraps. */
static PhiKeyIdentity
identity_argument(FunctionCallInfo fcinfo)
{
	PhiKeyIdentity identity;

	identity.key_id = PG_GETARG_INT32(0);
	identity.clinic_id = PG_GETARG_INT32(1);
	identity.class = PG_GETARG_INT16(2);
	identity.version = PG_GETARG_INT32(3);
	identity.suite = PG_GETARG_INT16(4);
	return identity;
}

static void
unwrap_argument(FunctionCallInfo fcinfo, const PhiKeyIdentity *identity,
				uint8 *material)
{
	bytea	   *wrapped = PG_GETARG_BYTEA_PP(6);

	phi_master_unwrap(text_to_cstring(PG_GETARG_TEXT_PP(5)), identity,
					  (PhiSpan) {(const uint8 *) VARDATA_ANY(wrapped), VARSIZE_ANY_EXHDR(wrapped)},
					  material);
}

/*
 * phi.rewrap_key(key_id, clinic_id, class, version, suite, master_key, wrapped,
 *				  new_master_key)
 *		returns (new_suite smallint, new_wrapped bytea)
 *
 * The key of a row under another master key, by the suite of the day.
 */
Datum
phi_rewrap_key(PG_FUNCTION_ARGS)
{
	PhiKeyIdentity identity = identity_argument(fcinfo);
	char	   *label = text_to_cstring(PG_GETARG_TEXT_PP(7));
	bytea	   *wrapped = palloc(VARHDRSZ + PHI_WRAPPED_MAX);
	uint8		material[PHI_SECRET_SIZE];
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_TRY();
	{
		unwrap_argument(fcinfo, &identity, material);
		identity.suite = (int16) phi_suite;
		SET_VARSIZE(wrapped, VARHDRSZ + phi_master_wrap(label, &identity, material,
														(uint8 *) VARDATA(wrapped)));
	}
	PG_FINALLY();
	{
		phi_memory_wipe(material, sizeof(material));
	}
	PG_END_TRY();
	values[0] = Int16GetDatum(identity.suite);
	values[1] = PointerGetDatum(wrapped);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* What says that the key does not unwrap, and not that we were stopped. */
static bool
is_about_key(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category != ERRCODE_OPERATOR_INTERVENTION &&
		category != ERRCODE_INSUFFICIENT_RESOURCES;
}

/*
 * phi.unwraps(key_id, clinic_id, class, version, suite, master_key, wrapped)
 *		returns boolean
 *
 * In a subtransaction, since the provider may fail with the lock held.
 */
Datum
phi_unwraps(PG_FUNCTION_ARGS)
{
	PhiKeyIdentity identity = identity_argument(fcinfo);
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	uint8		material[PHI_SECRET_SIZE];
	volatile bool unwraps = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		unwrap_argument(fcinfo, &identity, material);
		unwraps = true;
		phi_memory_wipe(material, sizeof(material));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		phi_memory_wipe(material, sizeof(material));
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_about_key(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	PG_RETURN_BOOL(unwraps);
}
