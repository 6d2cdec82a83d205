/*
 * admin.c
 *		What keys.sql needs from C.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "compat.h"
#include "guc.h"
#include "keys/catalog.h"

PG_FUNCTION_INFO_V1(phi_class_name);
PG_FUNCTION_INFO_V1(phi_class_number);
PG_FUNCTION_INFO_V1(phi_suite_name);
PG_FUNCTION_INFO_V1(phi_wrap_new_key);
PG_FUNCTION_INFO_V1(phi_notice_change);
PG_FUNCTION_INFO_V1(phi_require_top_level);
PG_FUNCTION_INFO_V1(phi_only_owner);

/* phi.class_name(smallint) returns text */
Datum
phi_class_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(phi_class_label(PG_GETARG_INT16(0))));
}

/* phi.class_number(text) returns smallint; ERROR 22023 for no such class */
Datum
phi_class_number(PG_FUNCTION_ARGS)
{
	char	   *label = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_INT16(phi_class_by_label(label));
}

/* phi.suite_name(smallint) returns text; NULL for an unknown suite */
Datum
phi_suite_name(PG_FUNCTION_ARGS)
{
	const PhiSuite *suite = phi_suite_by_id(PG_GETARG_INT16(0));

	if (suite == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(suite->name));
}

static bytea *
wrap_random_key(const char *label, const PhiKeyIdentity *identity)
{
	bytea	   *wrapped = palloc(VARHDRSZ + PHI_WRAPPED_MAX);
	uint8		material[PHI_SECRET_SIZE];

	if (phi_random_key(material, sizeof(material)) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not generate a key")));
	PG_TRY();
	{
		SET_VARSIZE(wrapped, VARHDRSZ + phi_master_wrap(label, identity, material,
														(uint8 *) VARDATA(wrapped)));
	}
	PG_FINALLY();
	{
		phi_memory_wipe(material, sizeof(material));
	}
	PG_END_TRY();
	return wrapped;
}

/*
 * The master key for a new data key: that of the last one, so that one which
 * lies prepared is not used before phi.rotate_master_key().  When it is not
 * there, a disk is not mounted or a file is lost: to go on with another, or a
 * new one, would hide it.
 */
static void
current_master_key(char *label)
{
	PhiKeyRow	last;

	if (!phi_read_last_key(&last))
	{
		phi_master_newest(label);
		return;
	}
	if (!phi_master_stored(last.label))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("master key \"%s\" is missing", last.label),
				 errdetail("The keys of this database are wrapped by it."),
				 errhint("Mount the key directory, or bring the key back from where the custodians keep its copy.")));
	strlcpy(label, last.label, PHI_LABEL_SIZE);
}

/*
 * phi.wrap_new_key(key_id, clinic_id, class, version)
 *		returns (suite smallint, master_key text, wrapped bytea)
 *
 * A key of 32 random bytes that exists nowhere but wrapped, bound to the row
 * that its arguments and its suite will form.
 */
Datum
phi_wrap_new_key(PG_FUNCTION_ARGS)
{
	PhiKeyIdentity identity;
	char		label[PHI_LABEL_SIZE];
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	identity.key_id = PG_GETARG_INT32(0);
	identity.clinic_id = PG_GETARG_INT32(1);
	identity.class = PG_GETARG_INT16(2);
	identity.version = PG_GETARG_INT32(3);
	identity.suite = (int16) phi_suite;
	current_master_key(label);
	values[0] = Int16GetDatum(identity.suite);
	values[1] = CStringGetTextDatum(label);
	values[2] = PointerGetDatum(wrap_random_key(label, &identity));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * Trigger: tells every backend that what it remembers of the table is out of
 * date.  It must be on the table itself, so that changes by hand are noticed.
 */
Datum
phi_notice_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.notice_change\" is for triggers only")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	phi_keys_note_change();
	return PointerGetDatum(NULL);
}

/* phi.require_top_level(): a procedure, since functions are not told. */
Datum
phi_require_top_level(PG_FUNCTION_ARGS)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("this commits, and so cannot run in a transaction block or a function"),
				 errhint("Call it outside of a transaction block.")));
	PG_RETURN_VOID();
}

/*
 * Trigger: refuses whoever is not the owner, in whose name the extension's
 * functions run, nor a superuser.
 */
Datum
phi_only_owner(PG_FUNCTION_ARGS)
{
	Relation	table;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.only_owner\" is for triggers only")));
	table = ((TriggerData *) fcinfo->context)->tg_relation;
	if (!PhiOwnsTable(RelationGetRelid(table), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(table)),
				 errdetail("It is written by the functions of schema phi alone."),
				 errhint("README.md says which functions there are.")));
	return PointerGetDatum(NULL);
}
