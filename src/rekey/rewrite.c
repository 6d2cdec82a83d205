/*
 * rewrite.c
 *		Rekeying by writing a table anew, for a maintenance window.
 *
 * As VACUUM FULL and REFRESH MATERIALIZED VIEW do it: the rows go into a new
 * file, which then takes the place of the old one, and indexes are built again.
 * The table keeps its OID, so views, keys and grants notice nothing.  The rows
 * are frozen, or a transaction with an older snapshot would find none; it sees
 * those of the moment instead.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "commands/cluster.h"
#include "commands/tablecmds.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rekey/recrypt.h"

/* Of what is dropped nothing is copied. */
static void
copy_row(PhiTable *table, const PhiTarget *target, TupleTableSlot *slot,
		 TupleTableSlot *new_slot, PhiTally *tally)
{
	TupleDesc	desc = RelationGetDescr(table->rel);

	slot_getallattrs(slot);
	ExecClearTuple(new_slot);
	memcpy(new_slot->tts_values, slot->tts_values, desc->natts * sizeof(Datum));
	memcpy(new_slot->tts_isnull, slot->tts_isnull, desc->natts * sizeof(bool));
	if (phi_recrypt_row(table, target, &slot->tts_tid, new_slot->tts_values,
						new_slot->tts_isnull, tally))
		tally->updated++;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			new_slot->tts_isnull[i] = true;
	}
	ExecStoreVirtualTuple(new_slot);
	tally->rows++;
}

static void
copy_rows(PhiTable *table, Relation to, const PhiTarget *target, PhiTally *tally)
{
	Snapshot	snapshot = GetActiveSnapshot();
	CommandId	cid = GetCurrentCommandId(true);
	BulkInsertState bulk = GetBulkInsertState();
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(RelationGetDescr(to), &TTSOpsVirtual);
	TableScanDesc scan = table_beginscan(table->rel, snapshot, 0, NULL);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "pg_phi rewrite",
													  ALLOCSET_DEFAULT_SIZES);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		copy_row(table, target, slot, new_slot, tally);
		table_tuple_insert(to, new_slot, cid,
						   TABLE_INSERT_SKIP_FSM | TABLE_INSERT_FROZEN, bulk);
		phi_move_failures(tally, &slot->tts_tid, &new_slot->tts_tid);
		ExecClearTuple(new_slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	table_endscan(scan);
	MemoryContextDelete(row_context);
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(new_slot);
	FreeBulkInsertState(bulk);
	table_finish_bulk_insert(to, TABLE_INSERT_SKIP_FSM);
}

void
phi_rewrite_table(Oid relid, const PhiTarget *target, PhiTally *tally)
{
	Relation	rel = try_table_open(relid, AccessExclusiveLock);
	char		persistence;
	Relation	to;
	Oid			transient;

	if (rel == NULL)
		return;
	CheckTableNotInUse(rel, "rekey");
	persistence = rel->rd_rel->relpersistence;
	/* What others have committed while we waited for the lock counts too. */
	PushActiveSnapshot(GetLatestSnapshot());
	transient = PhiMakeNewHeap(rel, persistence);
	to = table_open(transient, NoLock);
	copy_rows(phi_describe_table(rel), to, target, tally);
	table_close(to, NoLock);
	table_close(rel, NoLock);
	PopActiveSnapshot();
	CommandCounterIncrement();
	finish_heap_swap(relid, transient, false, false, true, true,
					 RecentXmin, ReadNextMultiXactId(), persistence);
}
