/*
 * tables.c
 *		The tables of this database that hold encrypted values, and which keys
 *		these name.
 *
 * Tables are read below the executor: row security, views and privileges have
 * no say in what counts as a use of a key.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keys/keys.h"
#include "rekey/tables.h"
#include "value/guard.h"

PhiTable *
phi_describe_table(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	PhiTable   *table = palloc0(sizeof(PhiTable));

	table->rel = rel;
	table->columns = palloc(desc->natts * sizeof(PhiTableColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		PhiWalk    *walk = column->attisdropped ? NULL : phi_walk_of_type(column->atttypid);

		if (walk == NULL)
			continue;
		table->columns[table->n].attnum = column->attnum;
		table->columns[table->n++].walk = walk;
		table->last = column->attnum;
	}
	return table;
}

static bool
has_rows(Form_pg_class class)
{
	return (class->relkind == RELKIND_RELATION || class->relkind == RELKIND_MATVIEW) &&
		class->relpersistence != RELPERSISTENCE_TEMP;
}

/* Without a lock on the table: many of them have nothing to do with us. */
static bool
is_protected(Oid relid, int natts)
{
	for (AttrNumber attnum = 1; attnum <= natts; attnum++)
	{
		Oid			type = get_atttype(relid, attnum);

		if (OidIsValid(type) && phi_contains_encrypted(type))
			return true;
	}
	return false;
}

List *
phi_protected_tables(void)
{
	Relation	classes = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(classes, InvalidOid, false, NULL, 0, NULL);
	List	   *tables = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);

		CHECK_FOR_INTERRUPTS();
		if (class->oid >= FirstNormalObjectId && has_rows(class) &&
			is_protected(class->oid, class->relnatts))
			tables = lappend_oid(tables, class->oid);
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return tables;
}

typedef struct UseCount
{
	int32		key_id;			/* hash key, must be first */
	bool		known;			/* a row of phi.data_key */
	int64		values;
} UseCount;

typedef struct Counter
{
	HTAB	   *by_key;			/* of one column */
	UseCount   *last;
} Counter;

static Datum
count_value(const PhiType *type, Datum value, void *context)
{
	Counter    *counter = context;
	PhiHead		head;
	bool		found;

	if (!phi_read_head(type, value, &head))
		head.key_id = 0;
	if (counter->last == NULL || counter->last->key_id != head.key_id)
	{
		counter->last = hash_search(counter->by_key, &head.key_id, HASH_ENTER, &found);
		if (!found)
		{
			counter->last->values = 0;
			counter->last->known = head.key_id != 0 && phi_key_by_id(head.key_id) != NULL;
		}
	}
	counter->last->values++;
	return value;
}

static HTAB *
make_counts(void)
{
	HASHCTL		control = {.keysize = sizeof(int32),.entrysize = sizeof(UseCount),
		.hcxt = CurrentMemoryContext};

	return hash_create("pg_phi uses of keys", 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static List *
add_uses(List *uses, HTAB *by_key, Oid relid, AttrNumber attnum)
{
	HASH_SEQ_STATUS scan;
	UseCount   *count;
	int64		unknown = 0;

	hash_seq_init(&scan, by_key);
	while ((count = hash_seq_search(&scan)) != NULL)
	{
		PhiUse	   *use;

		if (!count->known)
		{
			unknown += count->values;
			continue;
		}
		use = palloc(sizeof(PhiUse));
		*use = (PhiUse) {count->key_id, relid, attnum, count->values};
		uses = lappend(uses, use);
	}
	if (unknown > 0)
	{
		PhiUse	   *use = palloc(sizeof(PhiUse));

		*use = (PhiUse) {0, relid, attnum, unknown};
		uses = lappend(uses, use);
	}
	return uses;
}

static void
count_rows(PhiTable *table, Snapshot snapshot, Counter *counters, MemoryContext row_context)
{
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	TableScanDesc scan = table_beginscan(table->rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, table->last);
		for (int i = 0; i < table->n; i++)
		{
			int			at = table->columns[i].attnum - 1;

			if (!slot->tts_isnull[at])
				(void) phi_walk(table->columns[i].walk, slot->tts_values[at],
								count_value, &counters[i]);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

List *
phi_count_table(Relation rel, Snapshot snapshot)
{
	List	   *uses = NIL;
	PhiTable   *table = phi_describe_table(rel);
	Counter    *counters = palloc0(Max(table->n, 1) * sizeof(Counter));
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "pg_phi count",
													  ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < table->n; i++)
		counters[i].by_key = make_counts();
	if (table->n > 0)
		count_rows(table, snapshot, counters, row_context);
	for (int i = 0; i < table->n; i++)
	{
		uses = add_uses(uses, counters[i].by_key, RelationGetRelid(rel),
						table->columns[i].attnum);
		hash_destroy(counters[i].by_key);
	}
	MemoryContextDelete(row_context);
	return uses;
}

List *
phi_count_uses(void)
{
	List	   *uses = NIL;
	List	   *tables = phi_protected_tables();
	List	   *relations = NIL;
	Snapshot	snapshot;
	ListCell   *cell;

	foreach(cell, tables)
	{
		Relation	rel = try_table_open(lfirst_oid(cell), AccessShareLock);

		if (rel != NULL)
			relations = lappend(relations, rel);
	}
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	foreach(cell, relations)
		uses = list_concat(uses, phi_count_table(lfirst(cell), snapshot));
	UnregisterSnapshot(snapshot);
	foreach(cell, relations)
		table_close(lfirst(cell), AccessShareLock);
	return uses;
}
