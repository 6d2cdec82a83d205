/*
 * worker.c
 *		The background workers that run jobs: a leader for each job, and helpers.
 *
 * The leader holds the job's lock, so there is one.  It does lanes itself and
 * starts helpers for the others; where the server has no room for them it does
 * all alone, a little later.  Lanes are held by locks too, so what a killed
 * helper leaves behind is taken up by the others.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "keys/scan.h"
#include "rekey/lanes.h"
#include "rekey/wait.h"
#include "rekey/worker.h"

PG_FUNCTION_INFO_V1(phi_launch_job);
PG_FUNCTION_INFO_V1(phi_nap_call);

#define MAX_WORKERS 16
#define LOOK_EVERY 200			/* ms */
#define PASS_NAP 1000			/* ms, before locked rows are tried again */

/* What a worker is told beside the job's number. */
typedef struct WorkerOrder
{
	Oid			database;
	Oid			owner;
	bool		leads;
} WorkerOrder;

typedef struct Pending
{
	int32		job;
	Oid			owner;
	struct Pending *next;
} Pending;

static Pending *pending = NULL; /* to be launched at commit */
static BackgroundWorkerHandle *helpers[MAX_WORKERS];
static int	n_helpers = 0;

static bool
start_worker(int32 job, Oid database, Oid owner, bool leads, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};
	WorkerOrder order = {database, owner, leads};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pg_phi", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "phi_rekey_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_phi %s of job %d",
			 leads ? "leader" : "helper", job);
	strlcpy(worker.bgw_type, "pg_phi rekey", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(job);
	memcpy(worker.bgw_extra, &order, sizeof(order));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static Oid
extension_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(phi_relation_oid("rekey_job")));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table phi.rekey_job is missing");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* phi.launch_job(int) returns void */
Datum
phi_launch_job(PG_FUNCTION_ARGS)
{
	Pending    *order = MemoryContextAlloc(TopTransactionContext, sizeof(Pending));

	order->job = PG_GETARG_INT32(0);
	order->owner = extension_owner();
	order->next = pending;
	pending = order;
	PG_RETURN_VOID();
}

/*
 * phi.nap(int): without a snapshot, where the caller may commit and so must not
 * rely on one; the server takes another when it is needed.
 */
Datum
phi_nap_call(PG_FUNCTION_ARGS)
{
	if (fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic)
		ForgetPortalSnapshots();
	phi_nap(PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

/* Without a free slot nothing is started: phi.await_job() tries again. */
static void
launch_pending(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
	{
		for (Pending *order = pending; order != NULL; order = order->next)
			(void) start_worker(order->job, MyDatabaseId, order->owner, true, NULL);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		pending = NULL;
}

static int
helpers_at_work(void)
{
	int			n = 0;

	for (int i = 0; i < n_helpers; i++)
	{
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(helpers[i], &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			helpers[n++] = helpers[i];
		else
			pfree(helpers[i]);
	}
	n_helpers = n;
	return n;
}

/* As many as there are lanes that the leader does not do itself. */
static void
start_helpers(const PhiJob *job, int lanes)
{
	int			wanted = Min(Min(job->workers, lanes), MAX_WORKERS) - 1;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	for (int n = helpers_at_work(); n < wanted; n++)
	{
		if (!start_worker(job->job, MyDatabaseId, GetUserId(), false, &helpers[n_helpers]))
			break;
		n_helpers++;
	}
	MemoryContextSwitchTo(old);
}

/* The transactions between batches: with a snapshot, for SPI. */
static void
begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* True when a lane was done; *open tells how many there were. */
static bool
work_any_lane(PhiJob *job, int *open)
{
	List	   *lanes;
	MemoryContext old;
	ListCell   *cell;
	bool		worked = false;

	begin();
	old = MemoryContextSwitchTo(TopMemoryContext);
	lanes = phi_open_lanes(job);
	MemoryContextSwitchTo(old);
	commit();
	*open = list_length(lanes);
	foreach(cell, lanes)
	{
		int64		lane_id = ((PhiLane *) lfirst(cell))->lane_id;

		if (!phi_lock_lane(lane_id))
			continue;
		phi_work_lane(job, lane_id);
		phi_unlock_lane(lane_id);
		worked = true;
	}
	list_free_deep(lanes);
	return worked;
}

static void
work_pass(PhiJob *job, bool leads)
{
	int			open;

	for (;;)
	{
		if (leads)
		{
			begin();
			open = list_length(phi_open_lanes(job));
			start_helpers(job, open);
			commit();
		}
		if (!work_any_lane(job, &open))
		{
			if (open == 0 || !leads)
				return;
			phi_nap(LOOK_EVERY);
		}
	}
}

static void
set_phase(int32 job, const char *phase)
{
	begin();
	phi_set_phase(job, phase);
	commit();
}

static void
vacuum_changed(const PhiJob *job)
{
	MemoryContext old;
	List	   *tables;
	ListCell   *cell;

	begin();
	old = MemoryContextSwitchTo(TopMemoryContext);
	tables = phi_changed_tables(job);
	MemoryContextSwitchTo(old);
	commit();
	if (tables != NIL)
		set_phase(job->job, "vacuuming");
	foreach(cell, tables)
		phi_vacuum_table(lfirst_oid(cell));
	list_free(tables);
}

/* Values of before lie in upper pages and dead entries of indexes that copy values. */
static void
rebuild_indexes(const PhiJob *job)
{
	MemoryContext old;
	List	   *indexes;
	ListCell   *cell;

	begin();
	old = MemoryContextSwitchTo(TopMemoryContext);
	indexes = phi_stale_indexes();
	MemoryContextSwitchTo(old);
	commit();
	if (indexes != NIL)
		set_phase(job->job, "building indexes");
	foreach(cell, indexes)
		phi_rebuild_index(lfirst_oid(cell));
	list_free(indexes);
}

static void
next_pass(PhiJob *job)
{
	begin();
	phi_begin_pass(job, job->pass + 1);
	phi_mark_start(job->job);
	commit();
	job->pass++;
}

static bool
has_lanes(const PhiJob *job)
{
	bool		found;

	begin();
	found = phi_has_lanes(job);
	commit();
	return found;
}

/*
 * Pass after pass until one finds nothing.  The first runs while transactions
 * that hold the old key come to their ends; from the second on there are none.
 */
static void
rekey(PhiJob *job)
{
	/* A dump has the job, but not its lanes: their blocks are others now. */
	if (job->pass > 0 && !has_lanes(job))
		job->pass = 0;
	if (job->pass == 0)
		next_pass(job);
	for (;;)
	{
		int64		values;
		int64		skipped;

		work_pass(job, true);
		begin();
		phi_found_in_pass(job, &values, &skipped);
		commit();
		vacuum_changed(job);
		if (job->pass > 1 && values == 0 && skipped == 0)
			break;
		if (job->pass == 1)
		{
			set_phase(job->job, "waiting for writers");
			StartTransactionCommand();
			phi_wait_for_encrypters();
			CommitTransactionCommand();
		}
		else if (values == 0)
			phi_nap(PASS_NAP);
		next_pass(job);
	}
	rebuild_indexes(job);
}

static void
shred(PhiJob *job)
{
	begin();
	phi_call_for_job("shred_close", job->job);
	commit();
	set_phase(job->job, "waiting for writers");
	StartTransactionCommand();
	phi_wait_for_encrypters();
	CommitTransactionCommand();
	set_phase(job->job, "destroying");
	begin();
	phi_call_for_job("shred_finish", job->job);
	commit();
}

static void
finish(int32 job, const char *state, const char *error)
{
	begin();
	phi_finish_job(job, state, error);
	if (error == NULL)
		phi_call_for_job("job_done", job);
	ForceSyncCommit();
	commit();
}

static void
lead(PhiJob *job)
{
	begin();
	phi_mark_start(job->job);
	commit();
	if (job->is_shred)
		shred(job);
	else
		rekey(job);
	finish(job->job, "done", NULL);
}

/* An error ends the job, which can be resumed, with the error in its row. */
static void
report_failure(int32 job)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	finish(job, "failed", error->hint == NULL ? error->message :
		   psprintf("%s (%s)", error->message, error->hint));
}

static void
run_job(int32 number, bool leads)
{
	PhiJob		job;
	bool		found;
	MemoryContext old;

	begin();
	old = MemoryContextSwitchTo(TopMemoryContext);
	found = (!leads || phi_lock_job(number)) && phi_read_job(number, &job) && job.running;
	MemoryContextSwitchTo(old);
	commit();
	if (!found)
		return;
	pgstat_report_activity(STATE_RUNNING, leads ? "leading a job of pg_phi" : "helping in a job of pg_phi");
	if (leads)
		lead(&job);
	else
		work_pass(&job, false);
}

void
phi_settle_worker(void)
{
	static const char *const settings[][2] = {
		{"role", "none"},
		{"session_replication_role", "origin"},
		{"synchronous_commit", "off"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"maintenance_work_mem", "16MB"},
		{"search_path", "pg_catalog, pg_temp"},
		{"phi.clinic", ""},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

void
phi_rekey_main(Datum job)
{
	WorkerOrder order;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.database, order.owner, 0);
	phi_default_search_path = MemoryContextStrdup(TopMemoryContext,
												  GetConfigOption("search_path", false, false));
	phi_settle_worker();
	PG_TRY();
	{
		run_job(DatumGetInt32(job), order.leads);
	}
	PG_CATCH();
	{
		report_failure(DatumGetInt32(job));
	}
	PG_END_TRY();
}

void
phi_rekey_init(void)
{
	RegisterXactCallback(launch_pending, NULL);
}
