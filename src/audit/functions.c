/*
 * functions.c
 *		SQL functions about the tables that are audited.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "audit/audit.h"
#include "audit/log.h"
#include "audit/table.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_record_audit);
PG_FUNCTION_INFO_V1(phi_history_of);
PG_FUNCTION_INFO_V1(phi_row_digest);
PG_FUNCTION_INFO_V1(phi_refuse_insert);

/* phi.record_audit(operation text, relation regclass, detail text) returns void */
Datum
phi_record_audit(PG_FUNCTION_ARGS)
{
	PhiAuditRecord record = {
		.operation = text_to_cstring(PG_GETARG_TEXT_PP(0)),
		.relation = phi_relation_name(PG_GETARG_OID(1)),
		.detail = text_to_cstring(PG_GETARG_TEXT_PP(2))
	};

	phi_audit_write(&record);
	PG_RETURN_VOID();
}

/* phi.refuse_insert() returns trigger; ERROR 42501 whoever asks */
Datum
phi_refuse_insert(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.refuse_insert\" is for triggers only")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("rows cannot be added to table \"%s\"",
					RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			 errdetail("It is a history, which the trigger of phi.audit() alone writes.")));
}

/*
 * phi.history_of(relation regclass, OUT history regclass, OUT since timestamptz,
 *		OUT problem text, OUT name name, OUT keys text): NULL when no history is kept
 */
Datum
phi_history_of(PG_FUNCTION_ARGS)
{
	Relation	rel = try_table_open(PG_GETARG_OID(0), AccessShareLock);
	PhiAuditedTable *table = rel != NULL ? phi_find_audited_table(rel) : NULL;
	TupleDesc	desc;
	Datum		values[5] = {0};
	bool		nulls[5] = {true, true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* A partition's is its root's. */
	if (table != NULL && table->history != NULL && table->root == PG_GETARG_OID(0))
	{
		const char *problem = phi_history_problem(table->history);

		values[0] = ObjectIdGetDatum(phi_history_relation(table->history));
		nulls[0] = !OidIsValid(phi_history_relation(table->history));
		values[1] = TimestampTzGetDatum(phi_history_since(table->history));
		nulls[1] = false;
		nulls[2] = problem == NULL;
		if (problem != NULL)
			values[2] = CStringGetTextDatum(problem);
		values[3] = DirectFunctionCall1(namein, CStringGetDatum(phi_history_name(table->history)));
		values[4] = CStringGetTextDatum(phi_history_keys(table->history));
		nulls[3] = nulls[4] = false;
	}
	if (rel != NULL)
		table_close(rel, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * Only rows as a whole, of tables that are audited: else digests of single
 * columns would tell which rows have the same value there.  Who makes rows up
 * finds that out all the same: the threat model says so.
 */
static Relation
open_table_of(HeapTupleHeader row)
{
	Oid			relid = get_typ_typrelid(HeapTupleHeaderGetTypeId(row));
	Relation	rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

	if (rel == NULL || phi_find_audited_table(rel) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("not a row of a table that is audited"),
				 errhint("Give a whole row, as in SELECT phi.row_digest(p, 7) FROM patient p.")));
	return rel;
}

static PhiSecret *
digest_secret(int32 key_id)
{
	PhiKey	   *key = phi_key_by_id(key_id);

	if (key == NULL || key->class != PHI_CLASS_DIGEST)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("key %d is no key of digests", key_id),
				 errhint("The column digest_key of phi.audit_log names the key of a record's digests.")));
	return phi_key_secret(key);
}

/* phi.row_digest(record anyelement, key_id int) returns bytea */
Datum
phi_row_digest(PG_FUNCTION_ARGS)
{
	PhiRowBytes bytes = {0};
	HeapTupleHeader row;
	HeapTupleData tuple = {0};
	Relation	rel;
	TupleDesc	desc;
	PhiDigester *digester;
	Datum	   *values;
	bool	   *nulls;
	uint8		digest[PHI_DIGEST_SIZE];

	if (!type_is_rowtype(get_fn_expr_argtype(fcinfo->flinfo, 0)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("not a row of a table that is audited")));
	row = PG_GETARG_HEAPTUPLEHEADER(0);
	rel = open_table_of(row);
	desc = RelationGetDescr(rel);
	digester = phi_find_audited_table(rel)->digester;
	values = palloc(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	tuple.t_data = row;
	heap_deform_tuple(&tuple, desc, values, nulls);
	PG_TRY();
	{
		phi_digest_row(digester, values, nulls, &bytes);
		phi_compute_digest(digest_secret(PG_GETARG_INT32(1)), (PhiSpan) {bytes.data, bytes.len}, digest);
	}
	PG_FINALLY();
	{
		phi_wipe_row(&bytes);
		if (bytes.begins != NULL)
			pfree(bytes.begins);
		if (bytes.data != NULL)
			pfree(bytes.data);
	}
	PG_END_TRY();
	relation_close(rel, AccessShareLock);
	PG_RETURN_BYTEA_P(phi_make_bytea(digest, PHI_DIGEST_SIZE));
}
