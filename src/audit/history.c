/*
 * history.c
 *		Old versions of rows, in the history of their table.
 *
 * A version goes there as it is, envelopes included, below the executor: nobody
 * needs a right on the history, and nobody else writes it.  A value under a key
 * that is not active is such a copy as who destroys keys waits for; see
 * phi_key_hold_for_copy.  Its page is pinned meanwhile, so that no rekey has
 * changed it since it was read.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "audit/audit.h"
#include "audit/history.h"
#include "audit/table.h"
#include "compat.h"
#include "value/walk.h"

#define MARK_LIMIT 256			/* bytes */
#define COLUMN_DROPPED	"phi_dropped_"	/* then a number: of a column that the table has no more */

/* Where a column of the history comes from, if not from a column of the row. */
enum
{
	FROM_NOTHING = -1,
	FROM_UNTIL = -2,
	FROM_RECORD = -3,
	FROM_CHANGE = -4
};

typedef struct HistoryColumn
{
	int			from;			/* number in the row's values, or one of the above */
	bool		in_key;
	int16		typlen;
	PhiWalk    *walk;			/* to the envelopes; NULL: there are none */
} HistoryColumn;

struct PhiHistory
{
	const char *table;			/* name of the table that it is of */
	const char *name;			/* as the trigger's arguments say */
	const char *keys;
	Oid			relid;
	TimestampTz since;
	const char *problem;
	int			n;
	HistoryColumn *columns;
	List	   *indexes;		/* of IndexInfo, if all of them are plain; see below */
	List	   *index_oids;
	bool		is_plain;
};

/* The history's own columns: its owner may have changed them. */
static const struct
{
	const char *name;
	int			from;
	Oid			type;
}			own_columns[] = {
	{"phi_until", FROM_UNTIL, TIMESTAMPTZOID},
	{"phi_record", FROM_RECORD, INT8OID},
	{"phi_change", FROM_CHANGE, TEXTOID},
};

/* Columns of the table, each in the history with the same type. */
static int
column_of_row(Relation rel, Form_pg_attribute kept)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && strcmp(NameStr(column->attname), NameStr(kept->attname)) == 0)
			return column->atttypid == kept->atttypid && column->atttypmod == kept->atttypmod &&
				column->attcollation == kept->attcollation ? i : FROM_NOTHING;
	}
	return FROM_NOTHING;
}

static int
source_of(Relation rel, Form_pg_attribute kept, const char **problem)
{
	const char *name = NameStr(kept->attname);
	int			from;

	if (kept->attisdropped || strncmp(name, COLUMN_DROPPED, strlen(COLUMN_DROPPED)) == 0)
		return FROM_NOTHING;
	for (int i = 0; i < (int) lengthof(own_columns); i++)
	{
		if (strcmp(name, own_columns[i].name) == 0 && kept->atttypid == own_columns[i].type)
			return own_columns[i].from;
	}
	from = column_of_row(rel, kept);
	if (from == FROM_NOTHING && *problem == NULL)
		*problem = psprintf("Column \"%s\" of the history is not in the table, or of another type.",
							name);
	return from;
}

static bool
is_in(int column, int n, const AttrNumber *key)
{
	for (int i = 0; i < n; i++)
	{
		if (key[i] == column + 1)
			return true;
	}
	return false;
}

static void
describe_columns(PhiHistory *history, Relation kept, Relation rel, int key_columns,
				 const AttrNumber *key)
{
	TupleDesc	desc = RelationGetDescr(kept);
	TupleDesc	row = RelationGetDescr(rel);
	bool	   *found = palloc0(Max(row->natts, 1) * sizeof(bool));
	int			own = 0;

	history->n = desc->natts;
	history->columns = palloc0(desc->natts * sizeof(HistoryColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		HistoryColumn *column = &history->columns[i];

		column->from = source_of(rel, TupleDescAttr(desc, i), &history->problem);
		own += column->from <= FROM_UNTIL;
		if (column->from < 0)
			continue;
		found[column->from] = true;
		column->typlen = TupleDescAttr(desc, i)->attlen;
		column->in_key = is_in(column->from, key_columns, key);
		column->walk = phi_walk_of_type(TupleDescAttr(desc, i)->atttypid);
	}
	for (int i = 0; i < row->natts && history->problem == NULL; i++)
	{
		if (!found[i] && !TupleDescAttr(row, i)->attisdropped)
			history->problem = psprintf("Column \"%s\" is not in the history.",
										NameStr(TupleDescAttr(row, i)->attname));
	}
	if (own != 3 && history->problem == NULL)
		history->problem = "Columns of the history are missing.";
	pfree(found);
}

/* An executor is not needed. Others than btrees keep in IndexInfo what lasts a statement. */
static void
describe_indexes(PhiHistory *history, Relation kept)
{
	ListCell   *cell;

	history->index_oids = RelationGetIndexList(kept);
	history->is_plain = true;
	foreach(cell, history->index_oids)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		IndexInfo  *info = BuildIndexInfo(index);

		if (index->rd_rel->relam != BTREE_AM_OID || info->ii_Expressions != NIL ||
			info->ii_Predicate != NIL || info->ii_Unique || info->ii_ExclusionOps != NULL || !info->ii_ReadyForInserts)
			history->is_plain = false;
		history->indexes = lappend(history->indexes, info);
		index_close(index, AccessShareLock);
	}
}

/* The names of the key's columns, as the trigger's last argument has them. */
static char *
key_list(Relation rel, int key_columns, const AttrNumber *key)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < key_columns; i++)
	{
		const char *name = NameStr(TupleDescAttr(RelationGetDescr(rel), key[i] - 1)->attname);

		appendStringInfo(&list, "%s%s", i > 0 ? "," : "", phi_qualified_name(NULL, name));
	}
	return list.data;
}

/* One of another owner, or that anybody may write, is not ours, whatever its name is. */
static const char *
check_relation(Relation kept, Oid root)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(root));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", root);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (kept->rd_rel->relowner != owner)
		return psprintf("Table %s belongs to another role.", RelationGetRelationName(kept));
	return kept->rd_rel->relkind == RELKIND_RELATION && kept->rd_tableam == GetHeapamTableAmRoutine() &&
		phi_refuses_insert(kept) ? NULL :
		psprintf("%s is no table that a history can be kept in.", RelationGetRelationName(kept));
}

PhiHistory *
phi_describe_history(Relation rel, Oid root, int nargs, char **args, int key_columns,
					 const AttrNumber *key)
{
	PhiHistory *history;
	Relation	kept;

	if (nargs != 4 || strcmp(args[0], "history") != 0)
		return NULL;
	history = palloc0(sizeof(PhiHistory));
	history->table = phi_relation_name(root);
	history->name = pstrdup(args[1]);
	history->keys = pstrdup(args[3]);
	history->since = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(args[2]),
															 ObjectIdGetDatum(InvalidOid),
															 Int32GetDatum(-1)));
	history->relid = get_relname_relid(args[1], get_rel_namespace(root));
	kept = OidIsValid(history->relid) ? try_table_open(history->relid, AccessShareLock) : NULL;
	if (kept == NULL)
	{
		history->relid = InvalidOid;
		history->problem = psprintf("There is no table \"%s\" in its schema.", args[1]);
		return history;
	}
	history->problem = check_relation(kept, root);
	if (history->problem == NULL && strcmp(args[3], key_list(rel, key_columns, key)) != 0)
		history->problem = "The primary key is another one than when the history began.";
	describe_columns(history, kept, rel, key_columns, key);
	describe_indexes(history, kept);
	table_close(kept, AccessShareLock);
	return history;
}

Oid
phi_history_relation(const PhiHistory *history)
{
	return history->relid;
}

const char *
phi_history_name(const PhiHistory *history)
{
	return history->name;
}

const char *
phi_history_keys(const PhiHistory *history)
{
	return history->keys;
}

TimestampTz
phi_history_since(const PhiHistory *history)
{
	return history->since;
}

const char *
phi_history_problem(const PhiHistory *history)
{
	return history->problem;
}

void
phi_check_history(const PhiHistory *history)
{
	if (likely(history->problem == NULL))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the history of table %s does not fit it any more", history->table),
			 errdetail("%s", history->problem),
			 errhint("Call phi.audit('%s', history => true) again.", history->table)));
}

/*
 * Times of this transaction's commands.  A trigger may run commands that change
 * the row again, and theirs may be recorded first.  So between the times of two
 * commands there is room for all that have numbers between theirs.
 */
typedef struct CommandTime
{
	CommandId	command;
	TimestampTz at;
} CommandTime;

static struct
{
	LocalTransactionId xact;
	CommandTime *times;			/* in the order of commands, and of times */
	int			n;
	int			room;
}			known = {0};

static void
add_time(CommandId command)
{
	CommandTime *last = known.n > 0 ? &known.times[known.n - 1] : NULL;
	TimestampTz at = GetCurrentTimestamp();

	if (last != NULL)
		at = Max(at, last->at + (TimestampTz) (command - last->command));
	if (known.n == known.room)
	{
		known.room = Max(64, 2 * known.room);
		known.times = known.times == NULL ?
			MemoryContextAlloc(TopTransactionContext, known.room * sizeof(CommandTime)) :
			repalloc_huge(known.times, known.room * sizeof(CommandTime));
	}
	known.times[known.n++] = (CommandTime) {command, at};
}

TimestampTz
phi_command_time(CommandId command)
{
	int			low = 0;
	int			high;

	if (known.xact != PhiLocalXid())
	{
		memset(&known, 0, sizeof(known));
		known.xact = PhiLocalXid();
	}
	if (known.n == 0 || known.times[known.n - 1].command < command)
		add_time(command);
	/* The first that is not before it. */
	high = known.n - 1;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (known.times[middle].command < command)
			low = middle + 1;
		else
			high = middle;
	}
	return known.times[low].at - (TimestampTz) (known.times[low].command - command);
}

CommandId
phi_command_of(Relation rel, HeapTuple tuple, bool ended)
{
	if (rel->rd_tableam != GetHeapamTableAmRoutine())
		return GetCurrentCommandId(false);
	/* COPY FREEZE: a row that looks as if it had always been there. */
	if (!ended && HeapTupleHeaderXminFrozen(tuple->t_data))
		return HeapTupleHeaderGetRawCommandId(tuple->t_data);
	return ended ? HeapTupleHeaderGetCmax(tuple->t_data) : HeapTupleHeaderGetCmin(tuple->t_data);
}

static Datum
hold_copy(const PhiType *type, Datum value, void *context)
{
	PhiHead		head;
	PhiKey	   *key = phi_read_head(type, value, &head) ? phi_key_by_id(head.key_id) : NULL;

	if (key == NULL || key->state != PHI_KEY_ACTIVE)
		phi_key_hold_for_copy();
	return value;
}

/* Of a version that has begun: the key, and what row security may ask for, short and not encrypted. */
static bool
is_in_mark(const HistoryColumn *column, Datum value)
{
	return column->in_key ||
		(column->walk == NULL &&
		 (column->typlen != -1 || toast_raw_datum_size(value) <= MARK_LIMIT));
}

static void
fill_in(const PhiHistory *history, const Datum *values, const bool *nulls, bool mark,
		Datum *kept, bool *kept_nulls)
{
	for (int i = 0; i < history->n; i++)
	{
		const HistoryColumn *column = &history->columns[i];

		kept_nulls[i] = column->from < 0 || nulls[column->from] ||
			(mark && !is_in_mark(column, values[column->from]));
		if (kept_nulls[i])
			continue;
		kept[i] = values[column->from];
		if (column->walk != NULL)
			(void) phi_walk(column->walk, kept[i], hold_copy, NULL);
	}
}

static void
fill_in_own(const PhiHistory *history, const char *change, TimestampTz until, int64 record,
			Datum *kept, bool *kept_nulls)
{
	for (int i = 0; i < history->n; i++)
	{
		int			from = history->columns[i].from;

		if (from > FROM_UNTIL)
			continue;
		kept_nulls[i] = false;
		kept[i] = from == FROM_UNTIL ? TimestampTzGetDatum(until) :
			from == FROM_RECORD ? Int64GetDatum(record) : CStringGetTextDatum(change);
	}
}

static void
insert_index_entries(PhiHistory *history, Relation rel, HeapTuple tuple, const Datum *values,
					 const bool *nulls)
{
	ListCell   *cell;
	ListCell   *info_cell;

	if (!history->is_plain)
	{
		phi_insert_index_entries(rel, tuple);
		return;
	}
	forboth(cell, history->index_oids, info_cell, history->indexes)
	{
		IndexInfo  *info = lfirst(info_cell);
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);
		Datum		entry[INDEX_MAX_KEYS];
		bool		entry_nulls[INDEX_MAX_KEYS];

		for (int i = 0; i < info->ii_NumIndexAttrs; i++)
		{
			int			column = info->ii_IndexAttrNumbers[i] - 1;

			entry[i] = values[column];
			entry_nulls[i] = nulls[column];
		}
		index_insert(index, entry, entry_nulls, &tuple->t_self, rel, UNIQUE_CHECK_NO, false, info);
		index_close(index, NoLock);
	}
}

void
phi_keep_version(PhiHistory *history, const Datum *values, const bool *nulls,
				 const char *change, TimestampTz until, int64 record)
{
	Relation	rel = table_open(history->relid, RowExclusiveLock);
	Datum	   *kept = palloc0(history->n * sizeof(Datum));
	bool	   *kept_nulls = palloc(history->n * sizeof(bool));
	HeapTuple	tuple;

	fill_in(history, values, nulls, strcmp(change, "INSERT") == 0, kept, kept_nulls);
	fill_in_own(history, change, until, record, kept, kept_nulls);
	tuple = heap_form_tuple(RelationGetDescr(rel), kept, kept_nulls);
	simple_heap_insert(rel, tuple);
	insert_index_entries(history, rel, tuple, kept, kept_nulls);
	table_close(rel, NoLock);
}

void
phi_keep_all(PhiHistory *history, Relation rel, int64 record)
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "pg_phi history",
													  ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TimestampTz until = phi_command_time(GetCurrentCommandId(true));
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		phi_keep_version(history, slot->tts_values, slot->tts_isnull, "TRUNCATE", until, record);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(row_context);
}
