/*
 * partition.c
 *		What partitions.sql needs from C.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "keys/scan.h"

PG_FUNCTION_INFO_V1(phi_lock_for_partition);
PG_FUNCTION_INFO_V1(phi_remove_moved_records);

#define LOG_TABLE "audit_log"
#define DEFAULT_TABLE "audit_log_default"
#define COL_AT 2				/* of the log */

/*
 * phi.lock_for_partition(moves boolean) returns boolean
 *
 * Where records are to be moved, readers of the log are kept out from the beginning:
 * one who came meanwhile would make the work vain.
 */
Datum
phi_lock_for_partition(PG_FUNCTION_ARGS)
{
	LOCKMODE	mode = PG_GETARG_BOOL(0) ? AccessExclusiveLock : ShareUpdateExclusiveLock;

	/* What an extension's script makes would be that extension's. */
	if (creating_extension)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(ConditionalLockRelationOid(phi_relation_oid(LOG_TABLE), mode) &&
				   ConditionalLockRelationOid(phi_relation_oid(DEFAULT_TABLE), AccessExclusiveLock));
}

/* phi.remove_moved_records(timestamptz, timestamptz) returns bigint */
Datum
phi_remove_moved_records(PG_FUNCTION_ARGS)
{
	TimestampTz first = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz past = PG_GETARG_TIMESTAMPTZ(1);
	Relation	rel = table_open(phi_relation_oid(DEFAULT_TABLE), AccessExclusiveLock);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	HeapTuple	tuple;
	int64		n = 0;

	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		bool		isnull;
		TimestampTz at = DatumGetTimestampTz(heap_getattr(tuple, COL_AT, RelationGetDescr(rel), &isnull));

		if (at < first || at >= past)
			continue;
		simple_heap_delete(rel, &tuple->t_self);
		n++;
	}
	table_endscan(scan);
	table_close(rel, NoLock);
	PG_RETURN_INT64(n);
}
