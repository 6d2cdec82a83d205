/*
 * job.c
 *		Jobs of the background workers, as their tables hold them: read and
 *		written through SPI, in the transaction of the work that they tell of.
 *		So a crash loses no more than both.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "rekey/job.h"

/*
 * Advisory locks, of a kind that no SQL function takes; phi.worker_pids() knows
 * the numbers.
 */
#define LOCK_JOB 0x50484901
#define LOCK_LANE 0x50484902
#define LOCK_KIND 5

/* A small table is not worth more than one lane. */
#define LANE_MIN_BLOCKS (2 * PHI_BATCH_BLOCKS)

static void
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	int			result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	if (result != expected)
		elog(ERROR, "statement for rekey job failed: %s", SPI_result_code_string(result));
}

static Datum
column(int row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

static int64
number(int row, int at, int64 otherwise)
{
	bool		isnull;
	Datum		value = column(row, at, &isnull);

	return isnull ? otherwise : DatumGetInt64(value);
}

/* The keys of an int[], in memory of the caller's. */
static void
read_keys(PhiTarget *target, int at, MemoryContext context)
{
	MemoryContext old;
	bool		isnull;
	Datum		value = column(0, at, &isnull);
	ArrayType  *array;

	target->n = 0;
	target->keys = NULL;
	if (isnull)
		return;
	array = DatumGetArrayTypeP(value);
	target->n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	old = MemoryContextSwitchTo(context);
	target->keys = palloc(Max(target->n, 1) * sizeof(int32));
	MemoryContextSwitchTo(old);
	memcpy(target->keys, ARR_DATA_PTR(array), target->n * sizeof(int32));
}

bool
phi_refresh_job(PhiJob *job)
{
	bool		found;

	run("SELECT (kind = 'shred')::int::int8, (method = 'rewrite')::int::int8, (state = 'running')::int::int8,"
		" workers::int8, rows_per_second::int8, pass::int8 FROM phi.rekey_job WHERE job = $1",
		1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(job->job)}, NULL, SPI_OK_SELECT);
	found = SPI_processed == 1;
	if (found)
	{
		job->is_shred = number(0, 1, 0);
		job->rewrite = number(0, 2, 0);
		job->running = number(0, 3, 0);
		job->workers = number(0, 4, 1);
		job->rate = number(0, 5, 0);
		job->pass = number(0, 6, 0);
	}
	SPI_finish();
	return found;
}

bool
phi_read_job(int32 job, PhiJob *result)
{
	MemoryContext context = CurrentMemoryContext;

	result->job = job;
	if (!phi_refresh_job(result))
		return false;
	run("SELECT suite::int8, clinic_id::int8, class::int8,"
		" (SELECT array_agg(k ORDER BY k) FROM unnest(key_ids) k)"
		" FROM phi.rekey_job WHERE job = $1",
		1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(job)}, NULL, SPI_OK_SELECT);
	result->target.suite = number(0, 1, 0);
	result->target.clinic_id = number(0, 2, 0);
	result->target.class = number(0, 3, -1);
	read_keys(&result->target, 4, context);
	SPI_finish();
	return true;
}

/* A table that is locked is not waited for: the next pass does what is more. */
static int64
number_of_blocks(Oid relid)
{
	Relation	rel;
	int64		blocks;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return LANE_MIN_BLOCKS;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		return 0;
	blocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, AccessShareLock);
	return blocks;
}

static void
add_lanes(const PhiJob *job, int pass, Oid relid)
{
	int64		blocks = number_of_blocks(relid);
	int			lanes;

	if (blocks == 0)
		return;
	lanes = job->rewrite || blocks < LANE_MIN_BLOCKS ? 1 : job->workers;
	run("INSERT INTO phi.rekey_lane (job, pass, relid, relation, lane, lanes, next_block, blocks)"
		" SELECT $1, $2, $3, $3::regclass::text, i, $4, i * $5, $6 FROM generate_series(0, $4 - 1) i",
		6, (Oid[]) {INT4OID, INT4OID, OIDOID, INT4OID, INT4OID, INT8OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(pass), ObjectIdGetDatum(relid),
			Int32GetDatum(lanes), Int32GetDatum(PHI_BATCH_BLOCKS), Int64GetDatum(blocks)},
		NULL, SPI_OK_INSERT);
	SPI_finish();
}

void
phi_begin_pass(const PhiJob *job, int pass)
{
	List	   *tables = phi_protected_tables();
	ListCell   *cell;

	foreach(cell, tables)
		add_lanes(job, pass, lfirst_oid(cell));
	/* What still fails is found again, and only that. */
	run("DELETE FROM phi.rekey_failure WHERE job = $1",
		1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(job->job)}, NULL, SPI_OK_DELETE);
	SPI_finish();
	run("UPDATE phi.rekey_job SET pass = $2, phase = 'rekeying' WHERE job = $1",
		2, (Oid[]) {INT4OID, INT4OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(pass)}, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

bool
phi_has_lanes(const PhiJob *job)
{
	bool		found;

	run("SELECT FROM phi.rekey_lane WHERE job = $1 AND pass = $2 LIMIT 1",
		2, (Oid[]) {INT4OID, INT4OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(job->pass)}, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

void
phi_mark_start(int32 job)
{
	run("UPDATE phi.rekey_job j SET base_at = clock_timestamp(), base_rows = b.rows, base_blocks = b.blocks"
		" FROM (SELECT coalesce(sum(rows_read), 0) AS rows, coalesce(sum(next_block / lanes), 0) AS blocks"
		"       FROM phi.rekey_lane l WHERE l.job = $1"
		"       AND l.pass = (SELECT pass FROM phi.rekey_job WHERE job = $1)) b WHERE j.job = $1",
		1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(job)}, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

static void
fill_lane(PhiLane *lane, int row)
{
	lane->lane_id = number(row, 1, 0);
	lane->relid = (Oid) number(row, 2, 0);
	lane->lane = number(row, 3, 0);
	lane->lanes = number(row, 4, 1);
	lane->next = number(row, 5, 0);
	lane->blocks = number(row, 6, 0);
}

#define LANE_COLUMNS \
	"lane_id, relid::int8, lane::int8, lanes::int8, next_block, blocks"

List *
phi_open_lanes(const PhiJob *job)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;

	run("SELECT " LANE_COLUMNS " FROM phi.rekey_lane"
		" WHERE job = $1 AND pass = $2 AND NOT done ORDER BY blocks DESC, lane_id",
		2, (Oid[]) {INT4OID, INT4OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(job->pass)}, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		PhiLane    *lane = palloc(sizeof(PhiLane));

		fill_lane(lane, i);
		result = lappend(result, lane);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

bool
phi_read_lane(int64 lane_id, PhiLane *lane)
{
	bool		found;

	run("SELECT " LANE_COLUMNS " FROM phi.rekey_lane WHERE lane_id = $1 AND NOT done",
		1, (Oid[]) {INT8OID}, (Datum[]) {Int64GetDatum(lane_id)}, NULL, SPI_OK_SELECT);
	found = SPI_processed == 1;
	if (found)
		fill_lane(lane, 0);
	SPI_finish();
	return found;
}

/* A row that the pass meets again, for it was moved on, stays one failure. */
static void
record_failure(const PhiJob *job, Oid relid, const PhiFailure *failure)
{
	run("INSERT INTO phi.rekey_failure (job, relid, relation, tid, attnum, \"column\", key_id, error)"
		" SELECT $1, $2, coalesce((SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = $2), '?'), $3, $4,"
		" (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = $2 AND a.attnum = $4), nullif($5, 0), $6"
		" ON CONFLICT (job, relid, tid, attnum) DO NOTHING",
		6, (Oid[]) {INT4OID, OIDOID, TIDOID, INT2OID, INT4OID, TEXTOID},
		(Datum[]) {Int32GetDatum(job->job), ObjectIdGetDatum(relid),
			PointerGetDatum(&failure->tid), Int16GetDatum(failure->attnum),
			Int32GetDatum(failure->key_id), CStringGetTextDatum(failure->error)},
		NULL, SPI_OK_INSERT);
	SPI_finish();
}

void
phi_advance_lane(const PhiJob *job, const PhiLane *lane, const PhiTally *tally, bool done)
{
	ListCell   *cell;

	foreach(cell, tally->failures)
		record_failure(job, lane->relid, lfirst(cell));
	run("UPDATE phi.rekey_lane SET next_block = $2, rows_read = rows_read + $3, values_done = values_done + $4,"
		" skipped = skipped + $5, rows_moved = rows_moved + $6, done = $7,"
		" worked_at = clock_timestamp() WHERE lane_id = $1",
		7, (Oid[]) {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID},
		(Datum[]) {Int64GetDatum(lane->lane_id), Int64GetDatum(Min(lane->next, lane->blocks)),
			Int64GetDatum(tally->rows), Int64GetDatum(tally->values),
			Int64GetDatum(tally->skipped), Int64GetDatum(tally->moved), BoolGetDatum(done)},
		NULL, SPI_OK_UPDATE);
	SPI_finish();
}

void
phi_found_in_pass(const PhiJob *job, int64 *values, int64 *skipped)
{
	run("SELECT coalesce(sum(values_done), 0)::int8, coalesce(sum(skipped), 0)::int8"
		" FROM phi.rekey_lane WHERE job = $1 AND pass = $2",
		2, (Oid[]) {INT4OID, INT4OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(job->pass)}, NULL, SPI_OK_SELECT);
	*values = number(0, 1, 0);
	*skipped = number(0, 2, 0);
	SPI_finish();
}

/* The OIDs of the first column, in the memory context of the caller. */
static List *
oids(MemoryContext context)
{
	List	   *result = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Oid			oid = (Oid) number(i, 1, 0);
		MemoryContext old = MemoryContextSwitchTo(context);

		result = lappend_oid(result, oid);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

List *
phi_changed_tables(const PhiJob *job)
{
	MemoryContext context = CurrentMemoryContext;

	run("SELECT DISTINCT relid::int8 FROM phi.rekey_lane WHERE job = $1 AND pass = $2 AND rows_moved > 0",
		2, (Oid[]) {INT4OID, INT4OID},
		(Datum[]) {Int32GetDatum(job->job), Int32GetDatum(job->pass)}, NULL, SPI_OK_SELECT);
	return oids(context);
}

List *
phi_stale_indexes(void)
{
	MemoryContext context = CurrentMemoryContext;

	run("SELECT i.oid::int8 FROM phi.indexes_of_keys(ARRAY(SELECT k.key_id FROM phi.data_key k"
		" WHERE k.class >= 0 AND k.state IN ('retired', 'compromised'))) i(oid)",
		0, NULL, NULL, NULL, SPI_OK_SELECT);
	return oids(context);
}

void
phi_set_phase(int32 job, const char *phase)
{
	run("UPDATE phi.rekey_job SET phase = $2 WHERE job = $1",
		2, (Oid[]) {INT4OID, TEXTOID},
		(Datum[]) {Int32GetDatum(job), CStringGetTextDatum(phase)}, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

void
phi_finish_job(int32 job, const char *state, const char *error)
{
	run("UPDATE phi.rekey_job SET state = $2, error = $3, finished_at = clock_timestamp()"
		" WHERE job = $1 AND state = 'running'",
		3, (Oid[]) {INT4OID, TEXTOID, TEXTOID},
		(Datum[]) {Int32GetDatum(job), CStringGetTextDatum(state),
			error ? CStringGetTextDatum(error) : (Datum) 0},
		error ? "   " : "  n", SPI_OK_UPDATE);
	SPI_finish();
}

void
phi_call_for_job(const char *function, int32 job)
{
	char	   *sql = psprintf("SELECT phi.%s($1)", function);

	run(sql, 1, (Oid[]) {INT4OID}, (Datum[]) {Int32GetDatum(job)}, NULL, SPI_OK_SELECT);
	SPI_finish();
}

static bool
lock(uint32 kind, uint32 number)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, kind, number, LOCK_KIND);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

bool
phi_lock_job(int32 job)
{
	return lock(LOCK_JOB, (uint32) job);
}

bool
phi_lock_lane(int64 lane_id)
{
	return lock(LOCK_LANE, (uint32) lane_id);
}

void
phi_unlock_lane(int64 lane_id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_LANE, (uint32) lane_id, LOCK_KIND);
	(void) LockRelease(&tag, ExclusiveLock, true);
}
