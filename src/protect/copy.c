/*
 * copy.c
 *		Filling the shadow of a table, and keeping it in step.
 *
 * Rows are copied in the order of the table's blocks, each batch with a snapshot
 * of its own.  So a row that is changed meanwhile may be missing, outdated or
 * there twice; its key is in the log.  Keeping in step is to delete the shadow's
 * rows of all keys in the log and to copy again what the table has of them, all
 * as of one snapshot: after that the shadow is what the table was at that point.
 *
 * All of it is done below the executor: no trigger, rule or policy has a part in
 * it.  Expressions of indexes are run as the table's owner.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "keys/keys.h"
#include "protect/protect.h"

PG_FUNCTION_INFO_V1(phi_copy_blocks);
PG_FUNCTION_INFO_V1(phi_copy_changes);

#define RUN_BLOCKS 16			/* between looks at the clock */
#define BATCH_TIME 500			/* ms */

bool
phi_open_pair(PhiPair *pair, Oid from, Oid shadow, Oid filenode, const char *clinic_column)
{
	pair->from = try_table_open(from, AccessShareLock);
	if (pair->from == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table does not exist any more"),
				 errhint("Cancel the job with phi.cancel_protect().")));
	pair->shadow = try_table_open(shadow, RowExclusiveLock);
	if (pair->shadow == NULL || pair->from->rd_rel->relfilenode != filenode)
	{
		if (pair->shadow != NULL)
			table_close(pair->shadow, NoLock);
		table_close(pair->from, NoLock);
		return false;
	}
	pair->converter = phi_converter(pair->from, pair->shadow, clinic_column);
	return true;
}

void
phi_close_pair(PhiPair *pair)
{
	phi_end_converter(pair->converter);
	table_close(pair->shadow, NoLock);
	table_close(pair->from, NoLock);
}

/* Who copies the rows of blocks. */
typedef struct Copier
{
	PhiPair		pair;
	Snapshot	snapshot;
	CommandId	cid;
	BulkInsertState bulk;
	MemoryContext row_context;
	int64		rows;
	int64		unknown;
} Copier;

static void
copy_run(Copier *copier, BlockNumber first, BlockNumber last)
{
	TupleTableSlot *slot = table_slot_create(copier->pair.from, NULL);
	ItemPointerData from;
	ItemPointerData to;
	TableScanDesc scan;

	ItemPointerSet(&from, first, FirstOffsetNumber);
	ItemPointerSet(&to, last - 1, MaxOffsetNumber);
	scan = table_beginscan_tidrange(copier->pair.from, copier->snapshot, &from, &to);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(copier->row_context);
		PhiConverter *converter = copier->pair.converter;

		CHECK_FOR_INTERRUPTS();
		copier->rows++;
		if (phi_convert_row(converter, slot))
			table_tuple_insert(copier->pair.shadow, converter->slot, copier->cid,
							   TABLE_INSERT_SKIP_FSM, copier->bulk);
		else
			copier->unknown++;
		ExecClearTuple(converter->slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(copier->row_context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* Runs of blocks until time is up; returns the block to go on with. */
static BlockNumber
copy_batch(Copier *copier, BlockNumber next, BlockNumber blocks)
{
	TimestampTz began = GetCurrentTimestamp();

	copier->snapshot = RegisterSnapshot(GetLatestSnapshot());
	copier->cid = GetCurrentCommandId(true);
	copier->bulk = GetBulkInsertState();
	copier->row_context = AllocSetContextCreate(CurrentMemoryContext, "pg_phi copy",
												ALLOCSET_DEFAULT_SIZES);
	while (next < blocks &&
		   !TimestampDifferenceExceeds(began, GetCurrentTimestamp(), BATCH_TIME))
	{
		BlockNumber end = Min(next + RUN_BLOCKS, blocks);

		copy_run(copier, next, end);
		next = end;
	}
	FreeBulkInsertState(copier->bulk);
	table_finish_bulk_insert(copier->pair.shadow, TABLE_INSERT_SKIP_FSM);
	MemoryContextDelete(copier->row_context);
	UnregisterSnapshot(copier->snapshot);
	return next;
}

static Datum
make_row(FunctionCallInfo fcinfo, const int64 *numbers, int n, bool isnull)
{
	Datum		values[8];
	bool		nulls[8];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < n; i++)
	{
		values[i] = Int64GetDatum(numbers[i]);
		nulls[i] = isnull;
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static char *
name_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : NameStr(*PG_GETARG_NAME(n));
}

/*
 * phi.copy_blocks(relation oid, shadow oid, filenode oid, clinic_column name,
 *		next bigint, blocks bigint) returns (next bigint, "rows" bigint, unknown
 *		bigint): where to go on, and what was copied; NULL when the table has
 *		another file
 */
Datum
phi_copy_blocks(PG_FUNCTION_ARGS)
{
	Copier		copier = {.rows = 0};
	BlockNumber next = (BlockNumber) PG_GETARG_INT64(4);
	BlockNumber blocks;
	int64		result[3] = {0};

	if (!phi_open_pair(&copier.pair, PG_GETARG_OID(0), PG_GETARG_OID(1), PG_GETARG_OID(2),
					   name_argument(fcinfo, 3)))
		PG_RETURN_DATUM(make_row(fcinfo, result, 3, true));
	/* What has come behind since is in the log. */
	blocks = Min((BlockNumber) PG_GETARG_INT64(5), RelationGetNumberOfBlocks(copier.pair.from));
	result[0] = copy_batch(&copier, next, blocks);
	if (result[0] >= blocks)
		result[0] = PG_GETARG_INT64(5);
	result[1] = copier.rows;
	result[2] = copier.unknown;
	phi_close_pair(&copier.pair);
	PG_RETURN_DATUM(make_row(fcinfo, result, 3, false));
}

/* Who brings the shadow up to date. */
typedef struct Syncer
{
	PhiPair		pair;
	Snapshot	snapshot;
	CommandId	cid;
	EState	   *estate;
	ResultRelInfo *result;
	int64		deleted;
	int64		inserted;
	int64		unknown;
} Syncer;

static void
delete_row(Syncer *syncer, TupleTableSlot *row)
{
	TM_FailureData failure;
	TM_Result	result = table_tuple_delete(syncer->pair.shadow, &row->tts_tid, syncer->cid,
											syncer->snapshot, InvalidSnapshot, true,
											&failure, false);

	if (result == TM_Ok)
		syncer->deleted++;
	/* Of a key that was logged in two ways of writing it, such as 1.0 and 1.00. */
	else if (result != TM_SelfModified)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the values of a row are being encrypted again")));
}

static void
insert_row(Syncer *syncer, TupleTableSlot *row)
{
	PhiConverter *converter = syncer->pair.converter;
	MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(syncer->estate));

	if (phi_convert_row(converter, row))
	{
		table_tuple_insert(syncer->pair.shadow, converter->slot, syncer->cid, 0, NULL);
		if (syncer->result->ri_NumIndices > 0)
			list_free(PhiInsertNewIndexTuples(syncer->result, converter->slot, syncer->estate));
		syncer->inserted++;
	}
	else
		syncer->unknown++;
	ExecClearTuple(converter->slot);
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(syncer->estate);
}

static void
delete_rows(Syncer *syncer, const PhiChanges *changes, Oid key, Oid shadow_key)
{
	PhiKeySearch *search = phi_begin_search(syncer->pair.shadow, shadow_key, syncer->pair.from,
											key, syncer->snapshot);

	for (int i = 0; i < changes->n; i++)
	{
		TupleTableSlot *row;

		CHECK_FOR_INTERRUPTS();
		phi_search_key(search, changes->keys[i]);
		while ((row = phi_next_match(search)) != NULL)
			delete_row(syncer, row);
	}
	phi_end_search(search);
}

static int
compare_tids(const void *one, const void *other)
{
	return ItemPointerCompare((ItemPointer) unconstify(void *, one),
							  (ItemPointer) unconstify(void *, other));
}

/* Where the table has rows of these keys, each place once. */
static ItemPointerData *
find_rows(Syncer *syncer, const PhiChanges *changes, Oid key, int *n)
{
	PhiKeySearch *search = phi_begin_search(syncer->pair.from, key, syncer->pair.from,
											key, syncer->snapshot);
	ItemPointerData *tids = palloc_extended(Max(changes->n, 1) * sizeof(ItemPointerData),
											MCXT_ALLOC_HUGE);
	int			found = 0;

	for (int i = 0; i < changes->n; i++)
	{
		TupleTableSlot *row;

		CHECK_FOR_INTERRUPTS();
		phi_search_key(search, changes->keys[i]);
		if ((row = phi_next_match(search)) != NULL)
			tids[found++] = row->tts_tid;
	}
	phi_end_search(search);
	qsort(tids, found, sizeof(ItemPointerData), compare_tids);
	*n = 0;
	for (int i = 0; i < found; i++)
	{
		if (*n == 0 || !ItemPointerEquals(&tids[*n - 1], &tids[i]))
			tids[(*n)++] = tids[i];
	}
	return tids;
}

static void
insert_rows(Syncer *syncer, const PhiChanges *changes, Oid key)
{
	int			n;
	ItemPointerData *tids = find_rows(syncer, changes, key, &n);
	TupleTableSlot *row = table_slot_create(syncer->pair.from, NULL);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!table_tuple_fetch_row_version(syncer->pair.from, &tids[i], syncer->snapshot, row))
			elog(ERROR, "a row that was found is gone");
		insert_row(syncer, row);
		ExecClearTuple(row);
	}
	ExecDropSingleTupleTableSlot(row);
	pfree(tids);
}

static void
copy_changes(Syncer *syncer, const PhiChanges *changes, Oid key, Oid shadow_key)
{
	Oid			user;
	int			sec_context;
	int			nest_level;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(syncer->pair.from->rd_rel->relowner,
						   sec_context | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	nest_level = NewGUCNestLevel();
	syncer->estate = CreateExecutorState();
	syncer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(syncer->result, syncer->pair.shadow, 1, NULL, 0);
	ExecOpenIndices(syncer->result, false);
	syncer->cid = GetCurrentCommandId(true);
	delete_rows(syncer, changes, key, shadow_key);
	insert_rows(syncer, changes, key);
	ExecCloseIndices(syncer->result);
	FreeExecutorState(syncer->estate);
	phi_delete_changes(changes);
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);
	CommandCounterIncrement();
}

static void
check_sums(const PhiSums *table, const PhiSums *shadow)
{
	if (table->rows != shadow->rows || table->sum[0] != shadow->sum[0] ||
		table->sum[1] != shadow->sum[1])
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the table and its copy differ"),
				 errdetail("The table has %lld rows, the copy %lld.",
						   (long long) table->rows, (long long) shadow->rows),
				 errhint("Nothing was changed. Cancel the job with phi.cancel_protect(), and report this.")));
}

/*
 * phi.copy_changes(job int, relation oid, shadow oid, filenode oid, clinic_column
 *		name, key oid, shadow_key oid, verify boolean) returns (changes bigint,
 *		"rows" bigint, unknown bigint): rows of the log, and what was copied;
 *		with "verify" the rows of the table, and those of unknown clinics in all
 *		of it.  NULL when the table has another file.
 */
Datum
phi_copy_changes(PG_FUNCTION_ARGS)
{
	Syncer		syncer = {.deleted = 0};
	PhiChanges *changes;
	int64		result[3] = {0};

	if (!phi_open_pair(&syncer.pair, PG_GETARG_OID(1), PG_GETARG_OID(2), PG_GETARG_OID(3),
					   name_argument(fcinfo, 4)))
		PG_RETURN_DATUM(make_row(fcinfo, result, 3, true));
	syncer.pair.converter->check = true;
	syncer.snapshot = RegisterSnapshot(GetLatestSnapshot());
	changes = phi_read_changes(PG_GETARG_INT32(0), syncer.snapshot);
	if (changes->rows > 0)
		copy_changes(&syncer, changes, PG_GETARG_OID(5), PG_GETARG_OID(6));
	result[0] = changes->rows;
	result[1] = syncer.inserted;
	result[2] = syncer.unknown;
	if (PG_GETARG_BOOL(7))
	{
		PhiSums		table;
		PhiSums		shadow;

		phi_sum_pair(&syncer.pair, syncer.snapshot, &table, &shadow);
		check_sums(&table, &shadow);
		result[1] = table.rows;
		result[2] = table.unknown;
	}
	UnregisterSnapshot(syncer.snapshot);
	phi_close_pair(&syncer.pair);
	PG_RETURN_DATUM(make_row(fcinfo, result, 3, false));
}
