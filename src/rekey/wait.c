/*
 * wait.c
 *		Waiting for transactions that may still store a value under an old key.
 *
 * As CREATE INDEX CONCURRENTLY waits, by the locks and snapshots of others:
 * phi_key_hold_for_write() has each transaction that encrypts hold a lock on
 * phi.data_key to its end.  A transaction that only copies what it has read
 * holds a lock on the table that it read from.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keys/holders.h"
#include "keys/scan.h"
#include "rekey/tables.h"
#include "rekey/wait.h"

PG_FUNCTION_INFO_V1(phi_wait_for_writers);
PG_FUNCTION_INFO_V1(phi_wait_for_readers);

void
phi_wait_for_encrypters(void)
{
	LOCKTAG		tag;

	/* A rotation that was prepared and is committed by now did not tell. */
	phi_keys_changed();
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, phi_relation_oid("data_key"));
	/* Conflicts with the ROW SHARE of those who encrypt. */
	WaitForLockers(tag, ExclusiveLock, false);
}

/* Again and again: a snapshot can be handed on (SET TRANSACTION SNAPSHOT). */
static void
wait_for_older_snapshots(void)
{
	TransactionId limit = GetLatestSnapshot()->xmin;
	VirtualTransactionId *others;
	int			n;

	do
	{
		others = GetCurrentVirtualXIDs(limit, true, false,
									   PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &n);
		for (int i = 0; i < n; i++)
			(void) VirtualXactLock(others[i], true);
		pfree(others);
	} while (n > 0);
}

void
phi_wait_for_copiers(void)
{
	List	   *tables = phi_protected_tables();
	List	   *tags = NIL;
	ListCell   *cell;

	foreach(cell, tables)
	{
		LOCKTAG    *tag = palloc(sizeof(LOCKTAG));

		SET_LOCKTAG_RELATION(*tag, MyDatabaseId, lfirst_oid(cell));
		tags = lappend(tags, tag);
	}
	if (tags != NIL)
		WaitForLockersMultiple(tags, AccessExclusiveLock, false);
	list_free_deep(tags);
	wait_for_older_snapshots();
}

/* phi.wait_for_writers() returns void */
Datum
phi_wait_for_writers(PG_FUNCTION_ARGS)
{
	phi_wait_for_encrypters();
	PG_RETURN_VOID();
}

/* phi.wait_for_readers() returns void */
Datum
phi_wait_for_readers(PG_FUNCTION_ARGS)
{
	phi_wait_for_copiers();
	PG_RETURN_VOID();
}
