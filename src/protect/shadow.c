/*
 * shadow.c
 *		What a job needs beside the rows: the shadow itself, locks, and commands
 *		in the name of others.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext_data.h"
#include "catalog/pg_type.h"
#include "commands/cluster.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keys/scan.h"

PG_FUNCTION_INFO_V1(phi_calling_role);
PG_FUNCTION_INFO_V1(phi_make_shadow);
PG_FUNCTION_INFO_V1(phi_type_changes);
PG_FUNCTION_INFO_V1(phi_run_command);
PG_FUNCTION_INFO_V1(phi_hold_protect);
PG_FUNCTION_INFO_V1(phi_release_protect);
PG_FUNCTION_INFO_V1(phi_lock_relations);
PG_FUNCTION_INFO_V1(phi_older_snapshots);
PG_FUNCTION_INFO_V1(phi_rewrite_statistics);

/* phi.calling_role() returns oid: whose SECURITY DEFINER functions are left out */
Datum
phi_calling_role(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(GetOuterUserId());
}

/*
 * phi.make_shadow(relation oid, name text) returns oid: an empty table with the
 * same columns, dropped ones too, and owner.  Logical decoding skips its rows.
 */
Datum
phi_make_shadow(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			shadow;

	shadow = PhiMakeShadow(rel);
	table_close(rel, NoLock);
	RenameRelationInternal(shadow, name, true, false);
	CommandCounterIncrement();
	PG_RETURN_OID(shadow);
}

static List *
parse_one(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a step of the plan is not one statement")));
	return statements;
}

/*
 * phi.type_changes(text) returns text: of an ALTER TABLE, those of its actions
 * that change types, for an empty table
 */
Datum
phi_type_changes(PG_FUNCTION_ARGS)
{
	List	   *statements = parse_one(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Node	   *statement = linitial_node(RawStmt, statements)->stmt;
	StringInfoData actions;
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the step \"alter\" of the plan is not ALTER TABLE")));
	initStringInfo(&actions);
	foreach(cell, castNode(AlterTableStmt, statement)->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);
		ColumnDef  *column;
		Oid			type;
		int32		typmod;

		if (command->subtype != AT_AlterColumnType)
			continue;
		column = castNode(ColumnDef, command->def);
		typenameTypeIdAndMod(NULL, column->typeName, &type, &typmod);
		appendStringInfo(&actions, "%sALTER COLUMN %s TYPE %s%s%s USING NULL",
						 actions.len > 0 ? ", " : "", quote_identifier(command->name),
						 format_type_extended(type, typmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
						 column->collClause != NULL ? " COLLATE " : "",
						 column->collClause != NULL ? NameListToQuotedString(column->collClause->collname) : "");
	}
	PG_RETURN_TEXT_P(cstring_to_text(actions.data));
}

/*
 * phi.run_command(statement text, role oid, restricted boolean) returns void:
 * restricted for code that the role may have put into the way of others
 */
Datum
phi_run_command(PG_FUNCTION_ARGS)
{
	char	   *sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			restricted = PG_GETARG_BOOL(2) ?
		SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS : 0;
	Oid			user;
	int			sec_context;
	int			nest_level;
	int			result;

	(void) parse_one(sql);
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(PG_GETARG_OID(1),
						   sec_context | SECURITY_LOCAL_USERID_CHANGE | restricted);
	nest_level = NewGUCNestLevel();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute(sql, false, 0);
	if (result < 0)
		elog(ERROR, "a step of the plan failed: %s", SPI_result_code_string(result));
	SPI_finish();
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);
	PG_RETURN_VOID();
}

/*
 * A lock of the session's that tells who works for a job.  Of the server's own
 * kind, for those are let go when a transaction fails.
 */
static void
job_tag(LOCKTAG *tag, int32 job)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, phi_relation_oid("protect_job"), (Oid) job, 0);
}

/* phi.hold_protect(int) returns boolean: false when somebody else has it */
Datum
phi_hold_protect(PG_FUNCTION_ARGS)
{
	LOCKTAG		tag;

	job_tag(&tag, PG_GETARG_INT32(0));
	PG_RETURN_BOOL(LockHeldByMe(&tag, ExclusiveLock) ||
				   LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL);
}

/* phi.release_protect(int) returns void */
Datum
phi_release_protect(PG_FUNCTION_ARGS)
{
	LOCKTAG		tag;

	job_tag(&tag, PG_GETARG_INT32(0));
	if (LockHeldByMe(&tag, ExclusiveLock))
		(void) LockRelease(&tag, ExclusiveLock, true);
	PG_RETURN_VOID();
}

/*
 * phi.lock_relations(oid[]) returns void: in ACCESS EXCLUSIVE MODE, in this order,
 * views too
 */
Datum
phi_lock_relations(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Oid		   *relations = (Oid *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	for (int i = 0; i < n; i++)
		LockRelationOid(relations[i], AccessExclusiveLock);
	PG_RETURN_VOID();
}

static bool
is_among(Datum name, Datum *names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID, name, names[i])))
			return true;
	}
	return false;
}

/*
 * phi.older_snapshots(text[]) returns text[]: transactions of this database that
 * have a snapshot.  Given what it has returned, those that are still there.
 */
Datum
phi_older_snapshots(PG_FUNCTION_ARGS)
{
	ArrayBuildState *result = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	VirtualTransactionId *others;
	Datum	   *known = NULL;
	int			n_known = 0;
	int			n;

	if (!PG_ARGISNULL(0))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
						  &known, NULL, &n_known);
	others = GetCurrentVirtualXIDs(InvalidTransactionId, true, false,
								   PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		name = CStringGetTextDatum(psprintf("%d/%u", others[i].backendId,
														others[i].localTransactionId));

		if (PG_ARGISNULL(0) || is_among(name, known, n_known))
			result = accumArrayResult(result, name, false, TEXTOID, CurrentMemoryContext);
	}
	PG_RETURN_DATUM(makeArrayResult(result, CurrentMemoryContext));
}

/*
 * phi.rewrite_statistics() returns void: writes the planner's statistics anew,
 * without what was deleted from them
 */
Datum
phi_rewrite_statistics(PG_FUNCTION_ARGS)
{
	ClusterParams params = {0};

	cluster_rel(StatisticRelationId, InvalidOid, &params);
	CommandCounterIncrement();
	cluster_rel(StatisticExtDataRelationId, InvalidOid, &params);
	PG_RETURN_VOID();
}
