/*
 * own_tables.c
 *		Records of rows of the extension's own tables: keys, grants, approvals,
 *		jobs.
 *
 * A row is told as it is, but for the columns that the trigger's arguments name:
 * wrapped keys, progress, and texts that may quote a value.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "audit/audit.h"
#include "audit/events.h"
#include "audit/worker.h"
#include "compat.h"
#include "value/guard.h"

PG_FUNCTION_INFO_V1(phi_audit_event);

#define BY_WORKER "worker:"

/* With "changed", whether a change of the column is nothing to tell. */
static bool
is_left_out(const Trigger *trigger, const char *column, bool changed)
{
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		const char *name = trigger->tgargs[i];
		bool		by_worker = strncmp(name, BY_WORKER, strlen(BY_WORKER)) == 0;

		if (by_worker)
			name += strlen(BY_WORKER);
		if (strcmp(name, column) == 0)
			return !by_worker || !changed || phi_is_audit_worker();
	}
	return false;
}

/* The primary key, as text. */
static Datum
key_of(Relation relation, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(relation);
	Bitmapset  *columns = RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	ArrayBuildState *state = NULL;
	int			i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
	{
		int			number = i + FirstLowInvalidHeapAttributeNumber;
		bool		isnull;
		Datum		value = heap_getattr(row, number, desc, &isnull);
		Oid			out;
		bool		is_varlena;

		getTypeOutputInfo(TupleDescAttr(desc, number - 1)->atttypid, &out, &is_varlena);
		state = accumArrayResult(state, CStringGetTextDatum(OidOutputFunctionCall(out, value)),
								 isnull, TEXTOID, CurrentMemoryContext);
	}
	return state == NULL ? (Datum) 0 : makeArrayResult(state, CurrentMemoryContext);
}

/* As a JSON object, without nulls. */
static char *
describe_row(Relation relation, const Trigger *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(relation);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	Datum		json;

	heap_deform_tuple(row, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
		nulls[i] |= is_left_out(trigger, NameStr(TupleDescAttr(desc, i)->attname), false);
	json = DirectFunctionCall1(row_to_json,
							   heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc));
	return TextDatumGetCString(DirectFunctionCall1(json_strip_nulls, json));
}

/* The columns that an update changed, but for those left out; 0: none. */
static Datum
changed_columns(Relation relation, const Trigger *trigger, HeapTuple old, HeapTuple new)
{
	TupleDesc	desc = RelationGetDescr(relation);
	ArrayBuildState *state = NULL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		bool		old_null;
		bool		new_null;
		Datum		before = heap_getattr(old, i + 1, desc, &old_null);
		Datum		after = heap_getattr(new, i + 1, desc, &new_null);

		if (column->attisdropped || is_left_out(trigger, NameStr(column->attname), true) ||
			(old_null == new_null &&
			 (old_null || datum_image_eq(before, after, column->attbyval, column->attlen))))
			continue;
		state = accumArrayResult(state, CStringGetTextDatum(NameStr(column->attname)), false,
								 TEXTOID, CurrentMemoryContext);
	}
	return state == NULL ? (Datum) 0 : makeArrayResult(state, CurrentMemoryContext);
}

/* In an update of nothing but what is left out there is nothing to tell. */
static void
record_row(const TriggerData *data)
{
	PhiAuditRecord record = {.operation = "INSERT"};
	HeapTuple	row = data->tg_trigtuple;

	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		record.operation = "DELETE";
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		record.operation = "UPDATE";
		row = data->tg_newtuple;
		record.columns = changed_columns(data->tg_relation, data->tg_trigger, data->tg_trigtuple, row);
		if (record.columns == (Datum) 0)
			return;
	}
	record.relation = phi_subject(RelationRelationId, RelationGetRelid(data->tg_relation)).name;
	record.row_key = key_of(data->tg_relation, row);
	record.detail = describe_row(data->tg_relation, data->tg_trigger, row);
	phi_audit_write(&record);
}

/*
 * phi.audit_event() returns trigger: after the change, or before one that may
 * close the log.  The rows of a COPY are told of by one record of the command.
 */
Datum
phi_audit_event(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	HeapTuple	row;
	int			names;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.audit_event\" is for triggers only")));
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	/* The COPY of a parent would not name this table. */
	if (!phi_audit_ready() || (phi_in_copy() && !data->tg_relation->rd_rel->relispartition))
		return PointerGetDatum(row);
	names = phi_plain_names();
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
		record_row(data);
	else
		phi_audit_event_write("TRUNCATE",
							  phi_subject(RelationRelationId, RelationGetRelid(data->tg_relation)).name,
							  NULL);
	phi_plain_names_end(names);
	return PointerGetDatum(row);
}
