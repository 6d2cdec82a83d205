/*
 * partition.c
 *		Partitions of the log, and the records that came before them.
 *
 * Records of a month that has no partition go into the default one.  When a
 * partition is attached they move into it: the worker's, and one that comes
 * with a dump, whose own making was recorded in the default partition.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_node.h"
#include "parser/parse_utilcmd.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/chores.h"
#include "compat.h"
#include "keys/scan.h"

PG_FUNCTION_INFO_V1(phi_lock_for_partition);
PG_FUNCTION_INFO_V1(phi_remove_moved_records);

#define LOG_TABLE "audit_log"
#define DEFAULT_TABLE "audit_log_default"
#define COL_AT 2				/* of the log */

static ProcessUtility_hook_type prev_utility = NULL;

/* phi.lock_for_partition() returns boolean */
Datum
phi_lock_for_partition(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ConditionalLockRelationOid(phi_relation_oid(LOG_TABLE), ShareUpdateExclusiveLock) &&
				   ConditionalLockRelationOid(phi_relation_oid(DEFAULT_TABLE), AccessExclusiveLock));
}

/* phi.remove_moved_records(timestamptz, timestamptz) returns bigint */
Datum
phi_remove_moved_records(PG_FUNCTION_ARGS)
{
	TimestampTz first = PG_ARGISNULL(0) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz past = PG_ARGISNULL(1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(1);
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

/* NULL: no limit. */
static Datum
limit_of(List *limits, bool *isnull)
{
	PartitionRangeDatum *limit = linitial_node(PartitionRangeDatum, limits);

	*isnull = limit->kind != PARTITION_RANGE_DATUM_VALUE;
	return *isnull ? (Datum) 0 : castNode(Const, limit->value)->constvalue;
}

static void
move_records(Oid partition, const PartitionBoundSpec *bound)
{
	Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	bool		isnull[2];
	Datum		values[] = {ObjectIdGetDatum(partition), limit_of(bound->lowerdatums, &isnull[0]),
	limit_of(bound->upperdatums, &isnull[1])};
	char		nulls[] = {' ', isnull[0] ? 'n' : ' ', isnull[1] ? 'n' : ' ', '\0'};

	SPI_connect();
	if (SPI_execute_with_args("SELECT phi.move_records($1, $2, $3)", 3, types, values, nulls,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not move audit records into a partition");
	SPI_finish();
}

/* Who may not attach, or what cannot be attached, is left to the server to refuse. */
static void
before_attach(Oid log, const PartitionCmd *command, const char *query)
{
	ParseState *pstate = make_parsestate(NULL);
	Oid			partition;
	Relation	rel;
	PartitionBoundSpec *bound;

	pstate->p_sourcetext = query;
	rel = table_open(log, ShareUpdateExclusiveLock);
	partition = RangeVarGetRelid(command->name, AccessExclusiveLock, true);
	bound = transformPartitionBound(pstate, rel, command->bound);
	if (OidIsValid(partition) && PhiOwnsTable(partition, GetUserId()) && !bound->is_default)
	{
		LockRelationOid(phi_relation_oid(DEFAULT_TABLE), AccessExclusiveLock);
		move_records(partition, bound);
	}
	table_close(rel, NoLock);
	free_parsestate(pstate);
}

/* ALTER TABLE phi.audit_log ATTACH PARTITION, which may not be combined with other changes. */
static void
look_at(PlannedStmt *pstmt, const char *query)
{
	AlterTableStmt *stmt = (AlterTableStmt *) pstmt->utilityStmt;
	AlterTableCmd *command;
	Oid			log;

	if (!IsA(stmt, AlterTableStmt) || list_length(stmt->cmds) != 1)
		return;
	command = linitial_node(AlterTableCmd, stmt->cmds);
	if (command->subtype != AT_AttachPartition)
		return;
	log = phi_relation_oid(LOG_TABLE);
	if (OidIsValid(log) && RangeVarGetRelid(stmt->relation, NoLock, true) == log &&
		PhiOwnsTable(log, GetUserId()))
		before_attach(log, castNode(PartitionCmd, command->def), query);
}

static void
utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	look_at(pstmt, query);
	if (prev_utility)
		prev_utility(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, dest, completion);
}

void
phi_partition_init(void)
{
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
