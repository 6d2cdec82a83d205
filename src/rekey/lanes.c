/*
 * lanes.c
 *		Working through the lanes of a rekey job, batch by batch.
 *
 * A batch and the lane's cursor are one transaction, so that a crash at any
 * point loses or repeats nothing.  The batches of old are given back to the
 * free space map as soon as their rows are dead, so that the next ones are
 * written there and the table does not grow.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"
#include "keys/keys.h"
#include "rekey/lanes.h"

#define LOCK_PATIENCE "100ms"	/* less than deadlock_timeout may be */
#define RETRY_NAP 100			/* ms */
#define MAX_TRIES 10			/* of a batch that others are in the way of */
#define MAX_PASSES 4			/* until a row that is always in the way is a failure */
#define RECLAIM_LAG 4			/* batches, till their rows are dead to all */
#define VACUUMS 8				/* for indexes, while a large table is at work */
#define TOAST_VACUUMS 16		/* if most of it is out of line: dead rows are large */
#define VACUUM_MIN_BLOCKS 1024

/* Batches whose dead rows are to be given back. */
typedef struct Reclaim
{
	int			n;
	BlockNumber first[RECLAIM_LAG + 1];
	BlockNumber last[RECLAIM_LAG + 1];
} Reclaim;

typedef struct Work
{
	PhiJob	   *job;
	PhiLane		lane;
	Reclaim		reclaim;
	PhiTally	tally;			/* of the last batch */
	PhiCare		careful;		/* the batch failed as a whole */
	int			tries;			/* of the batch */
	bool		by_updates;		/* though a rewrite was asked for */
	bool		moved;			/* rows, so that there are dead ones */
	BlockNumber toast;			/* blocks of values out of line */
	int			vacuumed;		/* parts of the table */
	double		density;		/* rows that a block had lately */
} Work;

typedef enum Outcome
{
	BATCH_DONE,
	BATCH_AGAIN,				/* the table is locked */
	LANE_DONE
} Outcome;

void
phi_nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Runs a command about a relation that takes care of its own transactions. */
static void
run_alone(const char *command, Oid relid)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pg_phi command",
												  ALLOCSET_DEFAULT_SIZES);
	char	   *name;
	PlannedStmt *statement;
	char	   *sql;

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	name = get_rel_name(relid);
	if (name != NULL)
	{
		sql = psprintf("%s %s", command,
					   quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												  name));
		statement = makeNode(PlannedStmt);
		statement->commandType = CMD_UTILITY;
		statement->canSetTag = true;
		statement->utilityStmt = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT))->stmt;
		statement->stmt_len = strlen(sql);
		PortalContext = context;
		/* REINDEX expects one, and lets go of it; VACUUM takes its own. */
		PushActiveSnapshot(GetTransactionSnapshot());
		ProcessUtility(statement, sql, false, PROCESS_UTILITY_TOPLEVEL, NULL, NULL,
					   None_Receiver, NULL);
		PortalContext = NULL;
		if (ActiveSnapshotSet())
			PopActiveSnapshot();
	}
	CommitTransactionCommand();
	MemoryContextDelete(context);
}

void
phi_vacuum_table(Oid relid)
{
	run_alone("VACUUM (SKIP_LOCKED, TRUNCATE FALSE)", relid);
}

/* Its owner's functions may fail: then it stays as it is, and its keys are not destroyed. */
void
phi_rebuild_index(Oid index)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		run_alone("REINDEX INDEX CONCURRENTLY", index);
	}
	PG_CATCH();
	{
		PortalContext = NULL;
		MemoryContextSwitchTo(context);
		if (ProcDiePending)
			PG_RE_THROW();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
}

/*
 * Blocks of the next batch: fewer, if there is more behind each, or if only so
 * many rows a second are wanted.
 */
static BlockNumber
batch_end(const Work *work)
{
	const PhiLane *lane = &work->lane;
	BlockNumber end = (lane->next / PHI_BATCH_BLOCKS + 1) * PHI_BATCH_BLOCKS;
	double		behind = (double) work->toast / Max(lane->blocks, 1);

	end = Min(end, lane->next + Max(1, (BlockNumber) (PHI_BATCH_BLOCKS / (1 + behind))));
	if (work->job->rate > 0)
	{
		double		rows = work->job->rate / work->job->workers / 10.0;

		end = Min(end, lane->next + Max(1, (BlockNumber) (rows / Max(work->density, 1))));
	}
	return Min(end, lane->blocks);
}

/* Behind the blocks that are left to the other lanes. */
static BlockNumber
after_batch(const PhiLane *lane, BlockNumber end)
{
	if (end % PHI_BATCH_BLOCKS == 0)
		end += (lane->lanes - 1) * PHI_BATCH_BLOCKS;
	return end;
}

static void
reclaim(Work *work, Relation rel, BlockNumber first, BlockNumber last)
{
	Reclaim    *queue = &work->reclaim;

	queue->first[queue->n] = first;
	queue->last[queue->n++] = last;
	if (queue->n <= RECLAIM_LAG)
		return;
	phi_reclaim_blocks(rel, queue->first[0], queue->last[0]);
	queue->n--;
	memmove(queue->first, queue->first + 1, queue->n * sizeof(BlockNumber));
	memmove(queue->last, queue->last + 1, queue->n * sizeof(BlockNumber));
}

static bool
has_target(Relation rel, const PhiTarget *target)
{
	ListCell   *cell;

	/* A suite is not counted: such a job looks for itself. */
	if (target->suite != 0)
		return true;
	foreach(cell, phi_count_table(rel, GetActiveSnapshot()))
	{
		const PhiUse *use = lfirst(cell);

		for (int i = 0; i < target->n; i++)
		{
			if (target->keys[i] == use->key_id)
				return true;
		}
	}
	return false;
}

/* The table as a whole, in the first pass of a rewrite. */
static void
rewrite(Work *work, Relation rel)
{
	bool		is_due = has_target(rel, &work->job->target);

	phi_key_hold_for_write();
	table_close(rel, NoLock);
	if (is_due)
		phi_rewrite_table(work->lane.relid, &work->job->target, &work->tally);
	work->lane.next = work->lane.blocks;
}

/* Pages that are pinned each time, by a cursor perhaps, are not waited for. */
#define PATIENT_PASSES 2

/* In place where that can be done; the other blocks, in runs, by updates. */
static void
rekey_range(Work *work, PhiTable *table, BlockNumber first, BlockNumber end)
{
	const PhiTarget *target = &work->job->target;
	Bitmapset  *slow;
	int			from = -1;

	if (work->careful != PHI_BOLD || !phi_can_patch(table->rel, target))
	{
		phi_rekey_blocks(table, target, first, end, work->careful, &work->tally);
		return;
	}
	slow = phi_patch_blocks(table, target, first, end,
							work->job->pass <= PATIENT_PASSES, &work->tally);
	while ((from = bms_next_member(slow, from)) >= 0)
	{
		int			to = from;

		while (bms_is_member(to + 1, slow))
			to++;
		phi_rekey_blocks(table, target, first + from, first + to + 1, PHI_BOLD, &work->tally);
		from = to;
	}
}

static BlockNumber
toast_blocks(Relation rel)
{
	Relation	toast;
	BlockNumber blocks;

	if (!OidIsValid(rel->rd_rel->reltoastrelid))
		return 0;
	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);
	blocks = RelationGetNumberOfBlocks(toast);
	table_close(toast, AccessShareLock);
	return blocks;
}

static void
rekey_next(Work *work, Relation rel)
{
	PhiTable   *table = phi_describe_table(rel);
	BlockNumber first = work->lane.next;
	BlockNumber end;

	if (work->job->target.suite != 0 && work->job->target.suite == phi_suite)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("values cannot be moved from a suite to itself"),
				 errhint("Set phi.suite to another one for the server.")));
	phi_key_hold_for_write();
	work->toast = toast_blocks(rel);
	end = batch_end(work);

	if (table->n == 0)
		work->lane.next = work->lane.blocks;
	else
	{
		rekey_range(work, table, first, end);
		work->density = (double) work->tally.rows / (end - first);
		work->moved |= work->tally.moved > 0;
		if (work->tally.moved > 0)
			reclaim(work, rel, first, end);
		work->lane.next = after_batch(&work->lane, end);
	}
	table_close(rel, NoLock);
}

static Outcome
run_batch(Work *work)
{
	PhiLane    *lane = &work->lane;
	LOCKMODE	mode = RowExclusiveLock;
	bool		is_rewrite;
	Relation	rel;

	if (!phi_refresh_job(work->job) || !work->job->running)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		proc_exit(0);
	}
	if (!phi_read_lane(lane->lane_id, lane))
		return LANE_DONE;
	is_rewrite = work->job->rewrite && work->job->pass == 1 && !work->by_updates;
	if (!is_rewrite)
	{
		/* Not to queue up before applications that wait for the table too. */
		if (!ConditionalLockRelationOid(lane->relid, mode))
			return BATCH_AGAIN;
		(void) set_config_option("lock_timeout", LOCK_PATIENCE, PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	}
	rel = try_table_open(lane->relid, is_rewrite ? AccessExclusiveLock : NoLock);
	if (rel != NULL && is_rewrite && phi_is_decoded(rel))
	{
		/* A rewrite is not decoded: subscribers would keep the old values. */
		table_close(rel, NoLock);
		work->by_updates = true;
		return BATCH_AGAIN;
	}
	if (rel == NULL)
		lane->next = lane->blocks;
	else if (is_rewrite)
		rewrite(work, rel);
	else
		rekey_next(work, rel);
	phi_advance_lane(work->job, lane, &work->tally, lane->next >= lane->blocks);
	return lane->next >= lane->blocks ? LANE_DONE : BATCH_DONE;
}

static Outcome
run_batch_in_transaction(Work *work)
{
	Outcome		outcome;

	memset(&work->tally, 0, sizeof(work->tally));
	phi_blame_table = false;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	outcome = run_batch(work);
	PopActiveSnapshot();
	CommitTransactionCommand();
	work->careful = PHI_BOLD;
	work->tries = 0;
	return outcome;
}

/* The table as a whole is a failure: the job goes on with the others. */
static void
give_table_up(Work *work, const char *error)
{
	PhiFailure	failure = {.error = error};

	ItemPointerSet(&failure.tid, InvalidBlockNumber, InvalidOffsetNumber);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	memset(&work->tally, 0, sizeof(work->tally));
	work->tally.failures = list_make1(&failure);
	work->lane.next = work->lane.blocks;
	phi_advance_lane(work->job, &work->lane, &work->tally, true);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * What is in the way for a moment is tried again.  Else the batch is done row
 * by row, to find the one to blame.  If that fails too, it is the table's code
 * that does not work, or the job's: then it ends, and can be resumed.
 */
static Outcome
handle_error(Work *work)
{
	Outcome		outcome = BATCH_AGAIN;
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	if (phi_is_passing(error->sqlerrcode) && work->job->pass <= MAX_PASSES &&
		++work->tries < MAX_TRIES)
		phi_nap(RETRY_NAP);
	else if (work->careful == PHI_BOLD)
	{
		ereport(LOG,
				(errmsg("a batch of job %d is done row by row: %s",
						work->job->job, error->message)));
		work->careful = work->job->pass > MAX_PASSES ? PHI_STRICT : PHI_CAREFUL;
	}
	else if (phi_blame_table)
	{
		give_table_up(work, error->hint == NULL ? error->message :
					  psprintf("%s (%s)", error->message, error->hint));
		outcome = LANE_DONE;
	}
	else
		ReThrowError(error);
	FreeErrorData(error);
	return outcome;
}

/* Dead index entries are VACUUM's alone: now and then, while a table is large. */
static void
vacuum_if_due(Work *work)
{
	int			vacuums = work->toast > work->lane.blocks ? TOAST_VACUUMS : VACUUMS;
	int			done = (int64) work->lane.next * vacuums / Max(work->lane.blocks, 1);

	if (!work->moved || work->lane.lane != 0 || work->job->pass > 1 ||
		work->lane.blocks + work->toast < VACUUM_MIN_BLOCKS || done <= work->vacuumed || done >= vacuums)
		return;
	work->vacuumed = done;
	phi_vacuum_table(work->lane.relid);
}

static void
throttle(const Work *work, TimestampTz began)
{
	double		per_second = (double) work->job->rate / work->job->workers;
	double		due;

	if (work->job->rate <= 0)
		return;
	due = work->tally.updated / per_second * 1000.0 -
		TimestampDifferenceMilliseconds(began, GetCurrentTimestamp());
	while (due >= 1)
	{
		phi_nap(Min(due, 500));
		due -= 500;
	}
}

void
phi_work_lane(PhiJob *job, int64 lane_id)
{
	Work		work = {.job = job,.lane.lane_id = lane_id,.density = 50};
	volatile Outcome outcome = BATCH_DONE;

	while (outcome != LANE_DONE)
	{
		TimestampTz began = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		PG_TRY();
		{
			outcome = run_batch_in_transaction(&work);
			vacuum_if_due(&work);
		}
		PG_CATCH();
		{
			outcome = handle_error(&work);
		}
		PG_END_TRY();
		if (outcome == BATCH_DONE)
			throttle(&work, began);
		else if (outcome == BATCH_AGAIN && work.careful == PHI_BOLD)
			phi_nap(RETRY_NAP);
	}
}
