/*
 * launcher.c
 *		The process that starts a worker for each database that needs one.
 *
 * A worker does its chores and goes: one that stayed connected would be in the
 * way of DROP DATABASE and of CREATE DATABASE ... TEMPLATE for ever.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "audit/launcher.h"
#include "audit/wake.h"
#include "audit/worker.h"
#include "compat.h"
#include "guc.h"

#define ROUND_EVERY		3600000L	/* ms, all databases are visited */
#define SHORTEST_PAUSE	1000L		/* ms, after a first failure */
#define LONGEST_PAUSE	300000L
#define NO_ROOM_PAUSE	5000L		/* ms, when no worker could be started */
#define SHORTEST_SLEEP	50L			/* ms */
#define ALL_CHORES		(PHI_BIT(PHI_CHORES) - 1)

/* A desk's report, beside the chores that failed and those to be done again. */
#define FINISHED		0x80000000u
#define WORKED			0x40000000u

/* To be done when settings have changed. */
#define FOR_SETTINGS (PHI_BIT(PHI_CHORE_PASS) | PHI_BIT(PHI_CHORE_EXPORT))

typedef struct Chore
{
	TimestampTz due;			/* not before */
	int			failures;		/* in a row */
} Chore;

typedef struct Database
{
	Oid			oid;
	bool		seen;			/* at the last look */
	bool		connectable;
	bool		late_records;	/* are to be looked for */
	uint32		wanted;			/* chores for which a worker is to be started */
	Chore		chores[PHI_CHORES];
} Database;

/* Where a worker is at work. */
typedef struct Desk
{
	BackgroundWorkerHandle *handle; /* NULL: nobody */
	TimestampTz started;
	bool		reloaded;		/* since then: it may not have seen the settings */
	PhiAuditOrder order;
} Desk;

static HTAB *databases = NULL;
static Desk desks[PHI_DESKS];
static TimestampTz no_room_until = 0;	/* 0: there was room */

void
phi_audit_report(const PhiAuditOrder *order, uint32 failed, uint32 again, bool worked)
{
	PhiDesk    *desk = &phi_audit_shared->desks[order->desk];

	/* A new launcher may have given the desk to another. */
	if (pg_atomic_read_u32(&desk->token) == order->token)
		pg_atomic_write_u32(&desk->report, FINISHED | (worked ? WORKED : 0) |
							failed << PHI_CHORES | again);
}

static Database *
database_entry(Oid oid)
{
	bool		found;
	Database   *database = hash_search(databases, &oid, HASH_ENTER, &found);

	if (!found)
	{
		memset(database, 0, sizeof(*database));
		database->oid = oid;
	}
	return database;
}

static bool
has_worker(Oid oid)
{
	for (int i = 0; i < PHI_DESKS; i++)
	{
		if (desks[i].handle != NULL && desks[i].order.database == oid)
			return true;
	}
	return false;
}

static void
scan_databases(uint32 wanted)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		Database   *database = database_entry(form->oid);

		database->seen = true;
		database->connectable = form->datallowconn && !PhiInvalidDatabase(form);
		database->wanted |= wanted;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

static void
forget_unseen(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;

	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		if (!database->seen && !has_worker(database->oid))
			(void) hash_search(databases, &database->oid, HASH_REMOVE, NULL);
		database->seen = false;
	}
}

/*
 * Looks which databases there are; "wanted" is wanted from them all.  Whose
 * slots were there before the look and are not found has been dropped: nobody
 * is connected any more who knows the slot.
 */
static void
look_at_databases(uint32 wanted)
{
	Oid			owners[PHI_WAKE_SLOTS];

	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
		owners[i] = pg_atomic_read_u32(&phi_audit_shared->slots[i].database);
	scan_databases(wanted);
	forget_unseen();
	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		PhiWakeSlot *slot = &phi_audit_shared->slots[i];

		if (!OidIsValid(owners[i]) || hash_search(databases, &owners[i], HASH_FIND, NULL) != NULL)
			continue;
		pg_atomic_write_u64(&slot->written, 0);
		pg_atomic_write_u32(&slot->database, InvalidOid);
	}
}

/* Who has written wants a pass; at once when very much waits and nothing has failed. */
static void
look_at_slots(TimestampTz now)
{
	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		PhiWakeSlot *slot = &phi_audit_shared->slots[i];
		Oid			oid = pg_atomic_read_u32(&slot->database);
		uint64		written = OidIsValid(oid) ? pg_atomic_read_u64(&slot->written) : 0;
		Database   *database;

		if (written == 0)
			continue;
		database = database_entry(oid);
		database->wanted |= PHI_BIT(PHI_CHORE_PASS);
		if (written >= PHI_WAKE_MANY && database->chores[PHI_CHORE_PASS].failures == 0)
			database->chores[PHI_CHORE_PASS].due = now;
	}
	if (pg_atomic_exchange_u32(&phi_audit_shared->overflow, 0) != 0)
		look_at_databases(PHI_BIT(PHI_CHORE_PASS));
}

/* What is counted from now on is for the next pass. */
static void
take_counts(Oid oid)
{
	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		PhiWakeSlot *slot = &phi_audit_shared->slots[i];

		if (pg_atomic_read_u32(&slot->database) == oid)
			(void) pg_atomic_exchange_u64(&slot->written, 0);
	}
}

/* The chores whose time has come. */
static uint32
due_chores(const Database *database, TimestampTz now)
{
	uint32		due = 0;

	for (int i = 0; i < PHI_CHORES; i++)
	{
		if (database->chores[i].due <= now)
			due |= PHI_BIT(i);
	}
	return due;
}

static bool
start_worker(Desk *desk, Database *database, TimestampTz now)
{
	BackgroundWorker worker = {0};
	PhiAuditOrder *order = &desk->order;

	take_counts(database->oid);
	order->database = database->oid;
	order->desk = desk - desks;
	order->token = ++phi_audit_shared->token;
	order->chores = due_chores(database, now);
	database->late_records |= (order->chores & PHI_BIT(PHI_CHORE_CAPACITY)) != 0;
	order->thorough = database->late_records && (order->chores & PHI_BIT(PHI_CHORE_PARTITIONS)) != 0;
	database->late_records &= !order->thorough;
	pg_atomic_write_u32(&phi_audit_shared->desks[order->desk].report, 0);
	pg_atomic_write_u32(&phi_audit_shared->desks[order->desk].token, order->token);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pg_phi", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "phi_audit_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_phi audit worker of database %u", database->oid);
	strlcpy(worker.bgw_type, "pg_phi audit worker", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;
	StaticAssertStmt(sizeof(*order) <= BGW_EXTRALEN, "an order fits");
	memcpy(worker.bgw_extra, order, sizeof(*order));
	desk->started = now;
	desk->reloaded = false;
	return RegisterDynamicBackgroundWorker(&worker, &desk->handle);
}

/* A desk without a worker, or NULL. */
static Desk *
free_desk(void)
{
	for (int i = 0; i < PHI_DESKS; i++)
	{
		if (desks[i].handle == NULL)
			return &desks[i];
	}
	return NULL;
}

static bool
wants_worker(const Database *database, TimestampTz now)
{
	return (database->wanted & due_chores(database, now)) != 0 && !has_worker(database->oid);
}

static void
wait_for_room(TimestampTz now)
{
	if (no_room_until == 0)
		ereport(LOG,
				(errmsg("could not start an audit worker"),
				 errhint("If audit records stay without a checkpoint, raise max_worker_processes.")));
	no_room_until = TimestampTzPlusMilliseconds(now, NO_ROOM_PAUSE);
}

/* Those that cannot be connected to are left until the next round. */
static void
start_wanted(TimestampTz now)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	Desk	   *desk;

	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		if (!wants_worker(database, now))
			continue;
		if (!database->connectable)
			database->wanted = 0;
		else if ((desk = free_desk()) == NULL)
			continue;
		else if (start_worker(desk, database, now))
		{
			database->wanted &= ~desk->order.chores;
			no_room_until = 0;
		}
		else
		{
			desk->handle = NULL;
			database->wanted |= PHI_BIT(PHI_CHORE_PASS);	/* its counts were taken */
			hash_seq_term(&all);
			wait_for_room(now);
			return;
		}
	}
}

/* Before workers are started, for one that is sent to a dropped database complains. */
static void
start_due(TimestampTz now)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	bool		any = false;

	if (now < no_room_until || free_desk() == NULL)
		return;
	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
		any |= wants_worker(database, now);
	if (!any)
		return;
	look_at_databases(0);
	start_wanted(now);
}

/* From the beginning of the last time, or longer and longer after failures. */
static TimestampTz
next_time(PhiChore chore, int failures, bool again, TimestampTz started, TimestampTz now)
{
	if (failures > 0)
		return TimestampTzPlusMilliseconds(now, Min(SHORTEST_PAUSE << Min(failures - 1, 20),
													LONGEST_PAUSE));
	switch (chore)
	{
		case PHI_CHORE_PASS:
			return TimestampTzPlusMilliseconds(started, phi_checkpoint_interval);
		case PHI_CHORE_CAPACITY:
			return TimestampTzPlusMilliseconds(started, ROUND_EVERY);
		case PHI_CHORE_PARTITIONS:
			return again ? TimestampTzPlusMilliseconds(now, SHORTEST_PAUSE) : now;
		case PHI_CHORE_EXPORT:
			break;
	}
	return now;
}

static void
take_report(Desk *desk, TimestampTz now)
{
	uint32		report = pg_atomic_read_u32(&phi_audit_shared->desks[desk->order.desk].report);
	uint32		ordered = desk->order.chores;
	uint32		failed = report & FINISHED ? report >> PHI_CHORES & ALL_CHORES : ordered;
	uint32		again = report & ALL_CHORES;
	uint32		unseen = desk->reloaded ? FOR_SETTINGS & ~failed : 0;
	bool		idle = (report & (FINISHED | WORKED)) == FINISHED && again == 0;
	Database   *database = database_entry(desk->order.database);

	for (int i = 0; i < PHI_CHORES; i++)
	{
		Chore	   *chore = &database->chores[i];

		if ((ordered & PHI_BIT(i)) == 0)
			continue;
		chore->failures = failed & PHI_BIT(i) ? chore->failures + 1 : 0;
		/* Where a log is opened the first pass comes at once. */
		chore->due = idle || (unseen & PHI_BIT(i)) != 0 ? now :
			next_time(i, chore->failures, (again & PHI_BIT(i)) != 0, desk->started, now);
	}
	database->wanted |= (failed | again | unseen) & ordered;
	database->late_records |= desk->order.thorough && ((failed | again) & PHI_BIT(PHI_CHORE_PARTITIONS)) != 0;
}

static void
look_at_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < PHI_DESKS; i++)
	{
		pid_t		pid;
		BgwHandleStatus status;

		if (desks[i].handle == NULL)
			continue;
		status = GetBackgroundWorkerPid(desks[i].handle, &pid);
		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			continue;
		pfree(desks[i].handle);
		desks[i].handle = NULL;
		take_report(&desks[i], now);
	}
}

/* New settings are to be recorded, and may mend what failed. */
static void
reload(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	int			limit = phi_audit_volume_limit;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	look_at_databases(FOR_SETTINGS);
	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		database->chores[PHI_CHORE_PASS] = (Chore) {0};
		database->chores[PHI_CHORE_EXPORT] = (Chore) {0};
		if (limit != phi_audit_volume_limit)
			database->chores[PHI_CHORE_CAPACITY] = (Chore) {0};
	}
	for (int i = 0; i < PHI_DESKS; i++)
		desks[i].reloaded = true;
}

/* Until something is due; whoever writes or ends sets the latch. */
static long
time_to_sleep(TimestampTz next_round, TimestampTz now)
{
	TimestampTz until = next_round;
	HASH_SEQ_STATUS all;
	Database   *database;

	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		for (int i = 0; i < PHI_CHORES; i++)
		{
			if ((database->wanted & PHI_BIT(i)) != 0 && !has_worker(database->oid))
				until = Min(until, database->chores[i].due);
		}
	}
	/* With all desks taken, the end of a worker is waited for. */
	if (free_desk() == NULL)
		until = next_round;
	until = Max(until, no_room_until);
	return Max(TimestampDifferenceMilliseconds(now, until), SHORTEST_SLEEP);
}

static void
leave(int code, Datum arg)
{
	phi_audit_shared->launcher = NULL;
}

static void
begin(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Database)};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	databases = hash_create("audited databases", 64, &control, HASH_ELEM | HASH_BLOBS);
	before_shmem_exit(leave, (Datum) 0);
	phi_audit_shared->launcher = MyLatch;
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
phi_audit_launcher_main(Datum arg)
{
	TimestampTz next_round = 0;

	begin();
	while (!ShutdownRequestPending)
	{
		TimestampTz now;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		look_at_workers();
		now = GetCurrentTimestamp();
		if (now >= next_round)
		{
			look_at_databases(ALL_CHORES);
			next_round = TimestampTzPlusMilliseconds(now, ROUND_EVERY);
		}
		look_at_slots(now);
		start_due(now);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_to_sleep(next_round, now), PG_WAIT_EXTENSION);
	}
	/* Whoever terminated it: the postmaster starts another unless it ends itself. */
	proc_exit(1);
}
