/*
 * log.c
 *		What log.sql needs from C: the canonical form of a record.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "audit/audit.h"
#include "audit/log.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_audit_leaf_hash);
PG_FUNCTION_INFO_V1(phi_refuse_change);
PG_FUNCTION_INFO_V1(phi_audit_system);
PG_FUNCTION_INFO_V1(phi_note_audit_event);

#define RECORD_VERSION 1

/* phi.refuse_change() returns trigger; ERROR 42501 whoever asks */
Datum
phi_refuse_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.refuse_change\" is for triggers only")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("rows of table \"%s\" cannot be changed or removed",
					RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			 errdetail("It is part of the audit trail, which only grows."),
			 errhint("phi.retire_audit() removes old months of the audit log after their export.")));
}

/* The columns of phi.audit_log, which records are written and hashed by. */
static const struct
{
	const char *name;
	Oid			type;
}			log_columns[] = {
	{"record_id", INT8OID}, {"at", TIMESTAMPTZOID}, {"xact_at", TIMESTAMPTZOID},
	{"xact", XID8OID}, {"login", TEXTOID}, {"session_role", TEXTOID}, {"acting_role", TEXTOID},
	{"person", TEXTOID}, {"client_addr", INETOID}, {"application_name", TEXTOID},
	{"clinic", TEXTOID}, {"relation", TEXTOID}, {"row_key", TEXTARRAYOID},
	{"operation", TEXTOID}, {"columns", TEXTARRAYOID}, {"digest_key", INT4OID},
	{"old_digest", BYTEAOID}, {"new_digest", BYTEAOID}, {"detail", TEXTOID}
};

bool
phi_audit_columns_fit(Oid relid)
{
	if (SearchSysCacheExists2(ATTNUM, ObjectIdGetDatum(relid),
							  Int16GetDatum(lengthof(log_columns) + 1)))
		return false;
	for (int i = 0; i < (int) lengthof(log_columns); i++)
	{
		HeapTuple	tuple = SearchSysCacheAttNum(relid, i + 1);
		Form_pg_attribute column;
		bool		fits;

		if (!HeapTupleIsValid(tuple))	/* it was dropped */
			return false;
		column = (Form_pg_attribute) GETSTRUCT(tuple);
		fits = column->atttypid == log_columns[i].type &&
			strcmp(NameStr(column->attname), log_columns[i].name) == 0;
		ReleaseSysCache(tuple);
		if (!fits)
			return false;
	}
	return true;
}

/* phi.audit_system() returns text */
Datum
phi_audit_system(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(phi_audit_system_name()));
}

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* phi.note_audit_event(operation text, relation text, detail text) returns void */
Datum
phi_note_audit_event(PG_FUNCTION_ARGS)
{
	PhiAuditRecord record = {
		.operation = text_argument(fcinfo, 0),
		.relation = text_argument(fcinfo, 1),
		.detail = text_argument(fcinfo, 2)
	};

	if (record.operation == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an event must have a name")));
	phi_audit_write(&record);
	PG_RETURN_VOID();
}

/* The binary output functions of a record's columns, kept by the caller. */
typedef struct Columns
{
	TupleDesc	desc;
	FmgrInfo	send[FLEXIBLE_ARRAY_MEMBER];
} Columns;

static Columns *
look_up_columns(FunctionCallInfo fcinfo, HeapTupleHeader tuple)
{
	MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(tuple),
												   HeapTupleHeaderGetTypMod(tuple));
	Columns    *columns = palloc(offsetof(Columns, send) + desc->natts * sizeof(FmgrInfo));

	columns->desc = desc;
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			send;
		bool		is_varlena;

		getTypeBinaryOutputInfo(TupleDescAttr(desc, i)->atttypid, &send, &is_varlena);
		fmgr_info(send, &columns->send[i]);
	}
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = columns;
	return columns;
}

/* As a row of COPY (FORMAT binary), a version in place of the number of columns. */
static void
write_record(StringInfo out, Columns *columns, HeapTupleHeader header)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	int			n = columns->desc->natts;
	Datum	   *values = palloc(n * sizeof(Datum));
	bool	   *nulls = palloc(n * sizeof(bool));

	heap_deform_tuple(&tuple, columns->desc, values, nulls);
	pq_sendint16(out, RECORD_VERSION);
	for (int i = 0; i < n; i++)
	{
		bytea	   *bytes;

		if (nulls[i])
		{
			pq_sendint32(out, -1);
			continue;
		}
		bytes = SendFunctionCall(&columns->send[i], values[i]);
		pq_sendint32(out, VARSIZE(bytes) - VARHDRSZ);
		pq_sendbytes(out, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
		pfree(bytes);
	}
	pfree(values);
	pfree(nulls);
}

void
phi_run_in_utf8(void (*work) (void *), void *argument)
{
	int			client = pg_get_client_encoding();

	if (client == GetDatabaseEncoding())
	{
		work(argument);
		return;
	}
	PG_TRY();
	{
		SetClientEncoding(GetDatabaseEncoding());
		work(argument);
	}
	PG_FINALLY();
	{
		SetClientEncoding(client);
	}
	PG_END_TRY();
}

typedef struct Writing
{
	StringInfo	out;
	Columns    *columns;
	HeapTupleHeader header;
} Writing;

static void
write_one(void *argument)
{
	Writing    *writing = argument;

	write_record(writing->out, writing->columns, writing->header);
}

/* phi.audit_leaf_hash(phi.audit_log) returns bytea */
Datum
phi_audit_leaf_hash(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(0);
	Columns    *columns = fcinfo->flinfo->fn_extra;
	StringInfoData out;
	PhiHash		hash;

	if (columns == NULL)
		columns = look_up_columns(fcinfo, header);
	initStringInfo(&out);
	phi_run_in_utf8(write_one, &(Writing) {&out, columns, header});
	if (phi_merkle_leaf((PhiSpan) {(uint8 *) out.data, out.len}, &hash) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not hash an audit record")));
	pfree(out.data);
	PG_RETURN_BYTEA_P(phi_make_bytea(hash.byte, PHI_HASH_SIZE));
}
