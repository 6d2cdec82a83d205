/*
 * worker.c
 *		The background process that looks after the audit log of a database.
 *
 * Nothing that it does holds a lock that a writer waits for.  A chore that fails
 * is rolled back alone, and reported to the launcher, who has it tried again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "audit/advance.h"
#include "audit/audit.h"
#include "audit/chores.h"
#include "audit/launcher.h"
#include "audit/wake.h"
#include "audit/worker.h"
#include "keys/scan.h"
#include "rekey/worker.h"

/* An advisory lock of a kind that no SQL function takes: let go with the process alone. */
#define LOCK_WORKER 0x50484903
#define LOCK_KIND 5

#define RESTART_AFTER 5			/* s, when the launcher ended */

static PhiAuditOrder order;
static uint32 again = 0;		/* chores that are not finished */

/*
 * DROP EXTENSION locks one table after the other, in its own order: it waits
 * here until we are done, or we for it, and then there is nothing to do.
 */
static void
begin(void)
{
	Oid			extension;

	StartTransactionCommand();
	extension = get_extension_oid("pg_phi", true);
	if (OidIsValid(extension))
	{
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (!OidIsValid(get_extension_oid("pg_phi", true)))
			proc_exit(0);
	}
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* A question to the database: yes, or no (or NULL). */
static bool
ask(const char *question, bool argument)
{
	Oid			types[] = {BOOLOID};
	Datum		values[] = {BoolGetDatum(argument)};
	bool		isnull;
	Datum		answer;

	SPI_connect();
	if (SPI_execute_with_args(question, 1, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "a question of the audit worker failed");
	answer = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	SPI_finish();
	return !isnull && DatumGetBool(answer);
}

static bool
attempt(void (*chore) (void), bool in_transaction)
{
	volatile bool done = false;

	PG_TRY();
	{
		if (in_transaction)
			begin();
		chore();
		if (in_transaction)
			commit();
		done = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(TopMemoryContext);
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	return done;
}

bool
phi_attempt(void (*chore) (void))
{
	return attempt(chore, true);
}

bool
phi_attempt_outside(void (*chore) (void))
{
	return attempt(chore, false);
}

static void
make_partitions(void)
{
	if (!ask("SELECT phi.make_audit_partitions($1)", order.thorough))
		again |= PHI_BIT(PHI_CHORE_PARTITIONS);
}

/* Nobody tells when a prepared transaction is committed. */
static bool
has_prepared(void)
{
	return ask("SELECT $1 AND EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())", true);
}

static void
advance(void)
{
	bool		prepared = has_prepared();	/* before */
	bool		pending;

	(void) phi_audit_advance(&pending);
	if (pending || prepared)
		again |= PHI_BIT(PHI_CHORE_PASS);
}

static bool
pass(void)
{
	return phi_attempt(phi_note_server) && phi_attempt(advance);
}

static bool
partitions(void)
{
	return phi_attempt(make_partitions);
}

static bool
export(void)
{
	bool		more;
	bool		done = phi_export_checkpoints(&more);

	if (more)
		again |= PHI_BIT(PHI_CHORE_EXPORT);
	return done;
}

static void
check_capacity(void)
{
	(void) ask("SELECT phi.check_audit_capacity($1)", true);
}

static bool
capacity(void)
{
	return phi_attempt(check_capacity);
}

/* In this order. */
static void
do_chores(void)
{
	static const struct
	{
		PhiChore	chore;
		bool		(*run) (void);
	}			chores[] = {
		{PHI_CHORE_PARTITIONS, partitions},
		{PHI_CHORE_PASS, pass},
		{PHI_CHORE_EXPORT, export},
		{PHI_CHORE_CAPACITY, capacity},
	};
	uint32		failed = 0;

	for (int i = 0; i < (int) lengthof(chores); i++)
	{
		uint32		bit = PHI_BIT(chores[i].chore);

		if ((order.chores & bit) != 0 && !chores[i].run())
			failed |= bit;
	}
	phi_audit_report(&order, failed, again, true);
}

static void
become_owner(Oid log)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(log));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table phi.audit_log is missing");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
}

/*
 * Whether there is an open log to look after.  One worker does it at a time: the
 * launcher that started another may have ended.
 */
static bool
enter(void)
{
	Oid			log;
	LOCKTAG		tag;

	begin();
	log = phi_audit_ready() ? phi_relation_oid("audit_log") : InvalidOid;
	if (OidIsValid(log))
		become_owner(log);
	else if (OidIsValid(phi_relation_oid("audit_log")) && has_prepared())
		again = order.chores;	/* one may have opened the log */
	commit();
	if (!OidIsValid(log))
		return false;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_WORKER, 0, LOCK_KIND);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		again = order.chores;
		return false;
	}
	return true;
}

bool
phi_is_audit_worker(void)
{
	return OidIsValid(order.database);
}

void
phi_audit_worker_main(Datum arg)
{
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	phi_remember_settings();
	/* Before anybody watches: this process changes its own settings alone. */
	SetConfigOption("session_replication_role", "origin", PGC_SUSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, 0);
	phi_settle_worker();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_OVERRIDE);
	/* Who waits for this process is not to be told of a deadlock. */
	SetConfigOption("lock_timeout", psprintf("%d", Max(DeadlockTimeout / 2, 1)), PGC_SUSET, PGC_S_OVERRIDE);
	if (enter())
		do_chores();
	else
		phi_audit_report(&order, 0, again, false);
}

void
phi_audit_worker_init(void)
{
	BackgroundWorker worker = {0};

	phi_wake_init();
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_AFTER;
	strlcpy(worker.bgw_library_name, "pg_phi", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "phi_audit_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_phi audit launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_phi audit launcher", BGW_MAXLEN);
	if (!IsBinaryUpgrade)
		RegisterBackgroundWorker(&worker);
}
