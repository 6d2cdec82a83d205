/*
 * blocks.c
 *		Rekeying rows by updating them, a range of blocks at a time: those that
 *		patch.c can't serve.
 *
 * Rows are updated below the executor: no trigger, rule, policy or generated
 * column has a part in it, for the plaintext stays what it was.  Indexes and
 * constraints are served as by any UPDATE.
 *
 * We wait for nobody's row lock, or there would be deadlocks with applications:
 * what is locked or just changed is left to a later pass.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rekey/recrypt.h"
#include "value/guard.h"

const char *phi_default_search_path = "";
bool		phi_blame_table = false;

/* What updating the rows of one table takes. */
typedef struct Updater
{
	bool		checked;		/* that rows can be updated */
	Oid			user;			/* who we are but for the table's code */
	int			sec_context;
	int			nest_level;
	PhiTable   *table;
	const PhiTarget *target;
	PhiTally   *tally;
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *new_slot;
	TupleTableSlot *lock_slot;
	CommandId	cid;
} Updater;

/* For the indexes, which ask whether the UPDATE has anything to do with them. */
static void
name_columns(EState *estate, const PhiTable *table)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	Bitmapset  *columns = NULL;

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(table->rel);
	rte->relkind = table->rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	for (int i = 0; i < table->n; i++)
		columns = bms_add_member(columns, table->columns[i].attnum -
								 FirstLowInvalidHeapAttributeNumber);
	PhiInitRangeTable(estate, rte, columns);
}

/*
 * Expressions and predicates of indexes are code of the table's owner: it runs
 * with his rights, as in CREATE INDEX, and with the database's search_path.
 */
static void
become_owner(Updater *updater, Relation rel)
{
	GetUserIdAndSecContext(&updater->user, &updater->sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   updater->sec_context | SECURITY_RESTRICTED_OPERATION);
	updater->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", phi_default_search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
become_ourselves(const Updater *updater)
{
	AtEOXact_GUC(false, updater->nest_level);
	SetUserIdAndSecContext(updater->user, updater->sec_context);
}

static void
begin_updates(Updater *updater, PhiTable *table, const PhiTarget *target, PhiTally *tally)
{
	updater->table = table;
	updater->target = target;
	updater->tally = tally;
	updater->estate = CreateExecutorState();
	name_columns(updater->estate, table);
	updater->result = makeNode(ResultRelInfo);
	InitResultRelInfo(updater->result, table->rel, 1, NULL, 0);
	ExecOpenIndices(updater->result, false);
	updater->new_slot = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsVirtual);
	updater->lock_slot = table_slot_create(table->rel, NULL);
	updater->cid = GetCurrentCommandId(true);
}

static void
end_updates(Updater *updater)
{
	ExecCloseIndices(updater->result);
	ExecDropSingleTupleTableSlot(updater->new_slot);
	ExecDropSingleTupleTableSlot(updater->lock_slot);
	FreeExecutorState(updater->estate);
}

/*
 * True when we may change the row without waiting.  A row that nobody has
 * locked or changed needs no lock of ours: who comes in between makes us wait
 * up to lock_timeout, once in a blue moon.
 */
static bool
is_free(Updater *updater, TupleTableSlot *slot, Snapshot snapshot)
{
	TM_FailureData failure;

	if (TTS_IS_BUFFERTUPLE(slot))
	{
		bool		copied;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &copied);

		if (tuple->t_data->t_infomask & HEAP_XMAX_INVALID)
			return true;
	}
	return table_tuple_lock(updater->table->rel, &slot->tts_tid, snapshot,
							updater->lock_slot, updater->cid,
							LockTupleNoKeyExclusive, LockWaitSkip, 0,
							&failure) == TM_Ok;
}

/*
 * The row with the values that were put into the new slot.  Dropped columns
 * are left out: they may hold what was encrypted under the old key.
 */
static void
update_row(Updater *updater, TupleTableSlot *slot, Snapshot snapshot)
{
	TupleDesc	desc = RelationGetDescr(updater->table->rel);
	TupleTableSlot *new_slot = updater->new_slot;
	TM_FailureData failure;
	LockTupleMode mode;
	PhiUpdateIndexes indexes;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			new_slot->tts_isnull[i] = true;
	}
	ExecStoreVirtualTuple(new_slot);
	new_slot->tts_tableOid = RelationGetRelid(updater->table->rel);
	if (table_tuple_update(updater->table->rel, &slot->tts_tid, new_slot,
						   updater->cid, snapshot, InvalidSnapshot, true,
						   &failure, &mode, &indexes) != TM_Ok)
	{
		updater->tally->skipped++;
		return;
	}
	updater->tally->updated++;
	updater->tally->moved++;
	phi_move_failures(updater->tally, &slot->tts_tid, &new_slot->tts_tid);
	if (PhiIndexesAreDue(indexes))
		list_free(PhiInsertIndexTuples(updater->result, new_slot, updater->estate, indexes));
}

/* Once, when a row is to be updated: other tables need not be fit for it. */
static void
check_table(Updater *updater)
{
	if (updater->checked)
		return;
	CheckCmdReplicaIdentity(updater->table->rel, CMD_UPDATE);
	phi_check_ordered_indexes_of(RelationGetRelid(updater->table->rel));
	updater->checked = true;
}

static void
rekey_row(Updater *updater, TupleTableSlot *slot, Snapshot snapshot)
{
	TupleTableSlot *new_slot = updater->new_slot;
	int			natts = RelationGetDescr(updater->table->rel)->natts;
	int64		values = updater->tally->values;

	slot_getallattrs(slot);
	ExecClearTuple(new_slot);
	memcpy(new_slot->tts_values, slot->tts_values, natts * sizeof(Datum));
	memcpy(new_slot->tts_isnull, slot->tts_isnull, natts * sizeof(bool));
	if (!phi_recrypt_row(updater->table, updater->target, &slot->tts_tid,
						 new_slot->tts_values, new_slot->tts_isnull, updater->tally))
		return;
	phi_blame_table = true;
	check_table(updater);
	if (is_free(updater, slot, snapshot))
		update_row(updater, slot, snapshot);
	else
	{
		updater->tally->values = values;
		updater->tally->skipped++;
	}
	phi_blame_table = false;
	ExecClearTuple(new_slot);
	ExecClearTuple(updater->lock_slot);
}

bool
phi_is_passing(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* A row that can't be read or updated is to blame itself; keys are not its fault. */
static bool
is_of_the_row(const Updater *updater, int sqlstate)
{
	if (phi_blame_table)
		return updater->checked;
	return sqlstate == ERRCODE_DATA_CORRUPTED || sqlstate == ERRCODE_INTERNAL_ERROR;
}

static void
note_row_failure(Updater *updater, TupleTableSlot *slot, const ErrorData *error)
{
	PhiFailure *failure = palloc0(sizeof(PhiFailure));

	failure->tid = slot->tts_tid;
	failure->error = error->message;
	updater->tally->failures = lappend(updater->tally->failures, failure);
}

/* One bad row, such as one whose toasted value is cut, fails alone. */
static void
rekey_row_carefully(Updater *updater, TupleTableSlot *slot, Snapshot snapshot, PhiCare care)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int64		values = updater->tally->values;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	updater->cid = GetCurrentCommandId(true);
	PG_TRY();
	{
		rekey_row(updater, slot, snapshot);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopTransactionContext);
		error = CopyErrorData();
		FlushErrorState();
		if (!is_of_the_row(updater, error->sqlerrcode))
			ReThrowError(error);
		if (care == PHI_CAREFUL && phi_is_passing(error->sqlerrcode))
			updater->tally->skipped++;
		else
			note_row_failure(updater, slot, error);
		updater->tally->values = values;
		phi_blame_table = false;
		ExecClearTuple(updater->new_slot);
		ExecClearTuple(updater->lock_slot);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
}

void
phi_rekey_blocks(PhiTable *table, const PhiTarget *target, BlockNumber first,
				 BlockNumber last, PhiCare care, PhiTally *tally)
{
	Snapshot	snapshot = GetActiveSnapshot();
	TupleTableSlot *slot;
	ItemPointerData from;
	ItemPointerData to;
	TableScanDesc scan;
	Updater		updater = {0};

	last = Min(last, RelationGetNumberOfBlocks(table->rel));
	if (first >= last)
		return;
	slot = table_slot_create(table->rel, NULL);
	become_owner(&updater, table->rel);
	begin_updates(&updater, table, target, tally);
	ItemPointerSet(&from, first, FirstOffsetNumber);
	ItemPointerSet(&to, last - 1, MaxOffsetNumber);
	scan = table_beginscan_tidrange(table->rel, snapshot, &from, &to);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(updater.estate));

		CHECK_FOR_INTERRUPTS();
		tally->rows++;
		if (care != PHI_BOLD)
			rekey_row_carefully(&updater, slot, snapshot, care);
		else
			rekey_row(&updater, slot, snapshot);
		MemoryContextSwitchTo(old);
		ResetPerTupleExprContext(updater.estate);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	end_updates(&updater);
	become_ourselves(&updater);
}

void
phi_reclaim_blocks(Relation rel, BlockNumber first, BlockNumber last)
{
	if (rel->rd_tableam != GetHeapamTableAmRoutine())
		return;
	last = Min(last, RelationGetNumberOfBlocks(rel));
	for (BlockNumber block = first; block < last; block++)
	{
		Buffer		buffer = ReadBuffer(rel, block);
		Size		room;

		heap_page_prune_opt(rel, buffer);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		room = PageGetHeapFreeSpace(BufferGetPage(buffer));
		UnlockReleaseBuffer(buffer);
		RecordPageWithFreeSpace(rel, block, room);
	}
	if (first < last)
		FreeSpaceMapVacuumRange(rel, first, last);
}
