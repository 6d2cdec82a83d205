/*
 * log.c
 *		The log of changed rows: written by a trigger of the table, read by the
 *		job.
 *
 * A row of the log is a job's number and the key of a row that was inserted,
 * updated or deleted: nothing but what the key's index holds already.  It is
 * written below the executor, for who changes the table has no right on the
 * log.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/indexing.h"
#include "catalog/pg_index.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keys/scan.h"
#include "protect/protect.h"

PG_FUNCTION_INFO_V1(phi_log_change);

#define LOG_TABLE "protect_change"
#define LOG_JOB 1
#define LOG_KEY 2

/* The columns of a key, of which the trigger is told as "1 4". */
typedef struct KeyColumns
{
	int			n;
	AttrNumber	columns[INDEX_MAX_KEYS];
} KeyColumns;

static void
read_columns(KeyColumns *key, char *list)
{
	key->n = 0;
	while (*list != '\0' && key->n < INDEX_MAX_KEYS)
		key->columns[key->n++] = (AttrNumber) strtol(list, &list, 10);
}

static TupleDesc
describe_key(Relation rel, const KeyColumns *key)
{
	TupleDesc	desc = CreateTemplateTupleDesc(key->n);

	for (int i = 0; i < key->n; i++)
		TupleDescCopyEntry(desc, i + 1, RelationGetDescr(rel), key->columns[i]);
	return desc;
}

/* The key's values, with nothing out of line. */
static MinimalTuple
key_of(Relation rel, const KeyColumns *key, TupleDesc desc, HeapTuple row)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	for (int i = 0; i < key->n; i++)
	{
		values[i] = heap_getattr(row, key->columns[i], RelationGetDescr(rel), &nulls[i]);
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM(values[i]));
	}
	return heap_form_minimal_tuple(desc, values, nulls);
}

static void
write_change(Relation log, int32 job, MinimalTuple key)
{
	Datum		values[2];
	bool		nulls[2] = {false, false};
	bytea	   *bytes = palloc(VARHDRSZ + key->t_len);

	SET_VARSIZE(bytes, VARHDRSZ + key->t_len);
	memcpy(VARDATA(bytes), key, key->t_len);
	values[LOG_JOB - 1] = Int32GetDatum(job);
	values[LOG_KEY - 1] = PointerGetDatum(bytes);
	simple_heap_insert(log, heap_form_tuple(RelationGetDescr(log), values, nulls));
}

/* phi.log_change() returns trigger; its arguments: the job, the key's columns, the table */
Datum
phi_log_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	KeyColumns	columns;
	TupleDesc	desc;
	MinimalTuple old;
	MinimalTuple new;
	Relation	log;
	int32		job;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) || trigger->tg_trigger->tgnargs != 3)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.log_change\" is for the triggers of phi.protect() alone")));
	/* One that a dump brought along: its job's number may be another table's by now. */
	if (strtoul(trigger->tg_trigger->tgargs[2], NULL, 10) != RelationGetRelid(trigger->tg_relation))
		return PointerGetDatum(NULL);
	job = pg_strtoint32(trigger->tg_trigger->tgargs[0]);
	read_columns(&columns, trigger->tg_trigger->tgargs[1]);
	desc = describe_key(trigger->tg_relation, &columns);
	log = table_open(phi_relation_oid(LOG_TABLE), RowExclusiveLock);
	old = key_of(trigger->tg_relation, &columns, desc, trigger->tg_trigtuple);
	write_change(log, job, old);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		new = key_of(trigger->tg_relation, &columns, desc, trigger->tg_newtuple);
		if (new->t_len != old->t_len || memcmp(new, old, old->t_len) != 0)
			write_change(log, job, new);
	}
	table_close(log, RowExclusiveLock);
	return PointerGetDatum(NULL);
}

static int
compare_keys(const void *one, const void *other)
{
	MinimalTuple a = *(const MinimalTuple *) one;
	MinimalTuple b = *(const MinimalTuple *) other;

	if (a->t_len != b->t_len)
		return a->t_len < b->t_len ? -1 : 1;
	return memcmp(a, b, a->t_len);
}

static void
drop_duplicates(PhiChanges *changes)
{
	int			n = 0;

	qsort(changes->keys, changes->rows, sizeof(MinimalTuple), compare_keys);
	for (int i = 0; i < changes->rows; i++)
	{
		if (n == 0 || compare_keys(&changes->keys[n - 1], &changes->keys[i]) != 0)
			changes->keys[n++] = changes->keys[i];
	}
	changes->n = n;
}

static void
add_change(PhiChanges *changes, int *room, TupleTableSlot *slot)
{
	bool		isnull;
	bytea	   *bytes = DatumGetByteaPP(slot_getattr(slot, LOG_KEY, &isnull));
	Size		len = VARSIZE_ANY_EXHDR(bytes);
	MinimalTuple key = palloc(len);

	memcpy(key, VARDATA_ANY(bytes), len);
	if (changes->rows == *room)
	{
		*room *= 2;
		changes->keys = repalloc_huge(changes->keys, *room * sizeof(MinimalTuple));
		changes->tids = repalloc_huge(changes->tids, *room * sizeof(ItemPointerData));
	}
	changes->keys[changes->rows] = key;
	changes->tids[changes->rows++] = slot->tts_tid;
}

PhiChanges *
phi_read_changes(int32 job, Snapshot snapshot)
{
	PhiChanges *changes = palloc0(sizeof(PhiChanges));
	Relation	log = table_open(phi_relation_oid(LOG_TABLE), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TableScanDesc scan = table_beginscan(log, snapshot, 0, NULL);
	int			room = 1024;
	bool		isnull;

	changes->keys = palloc(room * sizeof(MinimalTuple));
	changes->tids = palloc(room * sizeof(ItemPointerData));
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (DatumGetInt32(slot_getattr(slot, LOG_JOB, &isnull)) == job)
			add_change(changes, &room, slot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(log, NoLock);
	drop_duplicates(changes);
	return changes;
}

/* Nobody else deletes them. */
void
phi_delete_changes(const PhiChanges *changes)
{
	Relation	log = table_open(phi_relation_oid(LOG_TABLE), RowExclusiveLock);

	for (int i = 0; i < changes->rows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		simple_heap_delete(log, &changes->tids[i]);
	}
	table_close(log, NoLock);
}

static void
prepare_keys(PhiKeySearch *search)
{
	Relation	index = search->index;

	for (int i = 0; i < search->n; i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			operator = get_opfamily_member(index->rd_opfamily[i], type, type,
												   BTEqualStrategyNumber);

		if (!OidIsValid(operator))
			elog(ERROR, "index \"%s\" has no operator for equality",
				 RelationGetRelationName(index));
		ScanKeyEntryInitialize(&search->keys[i], 0, i + 1, BTEqualStrategyNumber, type,
							   index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
	}
}

/*
 * A key is searched for as it is: values of other types would be taken for what
 * they are not.  The shadow's indexes may have been made by its owner.
 */
static void
compare_key(Relation index, Relation key)
{
	bool		same = index->rd_rel->relam == key->rd_rel->relam &&
		IndexRelationGetNumberOfKeyAttributes(index) == IndexRelationGetNumberOfKeyAttributes(key) &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);

	for (int i = 0; same && i < IndexRelationGetNumberOfKeyAttributes(key); i++)
		same = index->rd_index->indkey.values[i] == key->rd_index->indkey.values[i] &&
			index->rd_opfamily[i] == key->rd_opfamily[i] &&
			index->rd_opcintype[i] == key->rd_opcintype[i] &&
			index->rd_indcollation[i] == key->rd_indcollation[i];
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not the one that rows are found by",
						RelationGetRelationName(index)),
				 errhint("Cancel the job with phi.cancel_protect(), and begin again.")));
}

PhiKeySearch *
phi_begin_search(Relation rel, Oid index, Relation table, Oid like, Snapshot snapshot)
{
	PhiKeySearch *search = palloc0(sizeof(PhiKeySearch));
	Relation	key = index_open(like, AccessShareLock);
	KeyColumns	columns = {.n = IndexRelationGetNumberOfKeyAttributes(key)};

	for (int i = 0; i < columns.n; i++)
		columns.columns[i] = key->rd_index->indkey.values[i];
	search->rel = rel;
	search->index = index_open(index, RowExclusiveLock);
	compare_key(search->index, key);
	index_close(key, NoLock);
	search->n = columns.n;
	prepare_keys(search);
	search->key = MakeSingleTupleTableSlot(describe_key(table, &columns), &TTSOpsMinimalTuple);
	search->row = table_slot_create(rel, NULL);
	search->scan = index_beginscan(rel, search->index, snapshot, search->n, 0);
	return search;
}

void
phi_search_key(PhiKeySearch *search, MinimalTuple key)
{
	ExecStoreMinimalTuple(key, search->key, false);
	slot_getallattrs(search->key);
	for (int i = 0; i < search->n; i++)
		search->keys[i].sk_argument = search->key->tts_values[i];
	index_rescan(search->scan, search->keys, search->n, NULL, 0);
}

TupleTableSlot *
phi_next_match(PhiKeySearch *search)
{
	return index_getnext_slot(search->scan, ForwardScanDirection, search->row) ?
		search->row : NULL;
}

void
phi_end_search(PhiKeySearch *search)
{
	index_endscan(search->scan);
	index_close(search->index, NoLock);
	ExecDropSingleTupleTableSlot(search->key);
	ExecDropSingleTupleTableSlot(search->row);
}
