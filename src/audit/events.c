/*
 * events.c
 *		Records of commands: what they touch is noted while they run, and written
 *		when they end.
 *
 * Every command counts, whether a client, a function or a DO block runs it.
 * What a command touches is told by the object access hook, so that cascades and
 * partitions are not missed; what it does is read off its parse tree.  A command
 * that commits while it runs (CREATE INDEX CONCURRENTLY) has its records written
 * before that.
 *
 * A superuser who writes system catalogues himself passes by all of this: so
 * that he does is recorded, though not what.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "audit/audit.h"
#include "audit/events.h"
#include "audit/log.h"
#include "audit/table.h"
#include "compat.h"
#include "keys/login.h"

static ProcessUtility_hook_type prev_utility = NULL;
static planner_hook_type prev_planner = NULL;
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorEnd_hook_type prev_end = NULL;

static uint64 frames = 0;

void
phi_audit_event_write(const char *operation, const char *relation, const char *detail)
{
	PhiAuditRecord record = {.operation = operation,.relation = relation,.detail = detail};
	bool		was_read_only = XactReadOnly;

	if (!phi_audit_ready())
		return;
	PG_TRY();
	{
		XactReadOnly = false;
		phi_audit_write(&record);
	}
	PG_FINALLY();
	{
		XactReadOnly = was_read_only;
	}
	PG_END_TRY();
}

int
phi_plain_names(void)
{
	int			level;

	if (likely(!quote_all_identifiers))
		return 0;
	level = NewGUCNestLevel();
	(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
phi_plain_names_end(int level)
{
	if (level > 0)
		AtEOXact_GUC(true, level);
}

static bool
is_definition(Node *command)
{
	return !phi_is_upkeep(command) && GetCommandLogLevel(command) == LOGSTMT_DDL;
}

/* As looked up now: nothing tells that an object was taken from its extension. */
static bool
log_is_in_place(void)
{
	const char *const needed[] = {"audit_log", "audit_record_id", "audit_state"};
	Oid			extension = get_extension_oid("pg_phi", true);
	Oid			schema = get_namespace_oid("phi", true);

	if (!OidIsValid(extension) || !IsTransactionState())
		return false;
	for (int i = 0; i < (int) lengthof(needed); i++)
	{
		Oid			relid = OidIsValid(schema) ? get_relname_relid(needed[i], schema) : InvalidOid;

		if (!OidIsValid(relid) || getExtensionOfObject(RelationRelationId, relid) != extension)
			return false;
	}
	return phi_audit_columns_fit(get_relname_relid("audit_log", schema));
}

/* The way to be rid of the log is to drop the extension; see the server's log. */
static void
check_log(void)
{
	CommandCounterIncrement();
	if (!OidIsValid(get_extension_oid("pg_phi", true)))
		ereport(LOG,
				(errhidestmt(true),
				 errmsg("extension \"pg_phi\" is dropped with its audit log by \"%s\", logged in as \"%s\"",
						GetUserNameFromId(GetUserId(), true), phi_login())));
	else if (!log_is_in_place())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log cannot be renamed, moved, given other columns or taken from its extension"),
				 errdetail("What happened after that would not be recorded."),
				 errhint("DROP EXTENSION pg_phi removes it, with all else that belongs to the extension.")));
}

/* COPY into our tables: a dump that is restored, or somebody who writes grants. */
static void
write_copy(const CopyStmt *copy, const QueryCompletion *completion)
{
	PhiSubject	subject;
	Oid			relid;

	if (!copy->is_from || copy->relation == NULL)
		return;
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relid))
		return;
	subject = phi_subject(RelationRelationId, relid);
	if (IsCatalogRelationOid(relid) || (subject.counts && strncmp(subject.name, "phi.", 4) == 0))
		phi_audit_event_write("COPY", subject.name, completion == NULL ? NULL :
							  psprintf(UINT64_FORMAT " rows", completion->nprocessed));
}

/* In PostgreSQL 15 the switches of row security pass by the hook. */
static void
add_altered_table(const AlterTableStmt *alter)
{
	Oid			relid = RangeVarGetRelid(alter->relation, NoLock, true);
	ListCell   *cell;

	foreach(cell, alter->cmds)
	{
		const AlterTableCmd *action = lfirst(cell);

		if (action->subtype == AT_DetachPartition || action->subtype == AT_DetachPartitionFinalize)
			return;				/* committed, perhaps */
	}
	if (OidIsValid(relid))
		phi_touch(OAT_POST_ALTER, RelationRelationId, relid, 0);
}

static void
write_rights(Node *command, const char *tag)
{
	StringInfoData detail;
	char	   *relation = NULL;

	initStringInfo(&detail);
	if (phi_describe_rights(command, &detail, &relation))
		phi_audit_event_write(tag, relation, detail.data);
}

/* What its failure would not take back is recorded first. */
static void
before_command(PhiFrame *frame)
{
	int			names = phi_plain_names();

	phi_watch();
	if (IsA(frame->command, AlterSystemStmt) && phi_audit_ready())
		write_rights(frame->command, frame->tag);
	phi_plain_names_end(names);
}

static void
after_command(PhiFrame *frame, bool had_log, const QueryCompletion *completion)
{
	phi_watch();
	if (had_log)
		check_log();
	if (IsA(frame->command, CreateExtensionStmt))
		CommandCounterIncrement();	/* to see the log */
	if (IsA(frame->command, AlterTableStmt) && phi_audit_ready() && !phi_in_own_script())
		add_altered_table((AlterTableStmt *) frame->command);
	phi_write_touched(frame->number);
	if (!(frame->is_definition || IsA(frame->command, CopyStmt)) || !phi_audit_ready() ||
		phi_in_own_script())
		return;
	if (IsA(frame->command, CopyStmt))
		write_copy((CopyStmt *) frame->command, completion);
	else if (!IsA(frame->command, AlterSystemStmt))
		write_rights(frame->command, frame->tag);
}

static void
run_utility(PlannedStmt *statement, const char *text, bool read_only,
			ProcessUtilityContext place, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (prev_utility)
		prev_utility(statement, text, read_only, place, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, text, read_only, place, params, environment, dest,
								completion);
}

static void
utility(PlannedStmt *statement, const char *text, bool read_only,
		ProcessUtilityContext place, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	PhiFrame	frame = {.number = ++frames,.command = statement->utilityStmt};
	PhiFrame   *outer = phi_frame;
	bool		is_transaction = IsA(frame.command, TransactionStmt);	/* which frees the tree */
	bool		had_log;

	/* A part of a command is told of by the whole. */
	if (place == PROCESS_UTILITY_SUBCOMMAND || IsParallelWorker() || is_transaction)
	{
		if (is_transaction && place != PROCESS_UTILITY_SUBCOMMAND)
			phi_watch();
		run_utility(statement, text, read_only, place, params, environment, dest, completion);
		return;
	}
	frame.tag = CreateCommandName(frame.command);
	frame.is_definition = is_definition(frame.command);
	had_log = frame.is_definition && !creating_extension && !IsBinaryUpgrade && log_is_in_place();
	before_command(&frame);
	phi_frame = &frame;
	PG_TRY();
	{
		int			names;

		run_utility(statement, text, read_only, place, params, environment, dest, completion);
		names = phi_plain_names();
		after_command(&frame, had_log, completion);
		phi_plain_names_end(names);
	}
	PG_FINALLY();
	{
		phi_frame = outer;
	}
	PG_END_TRY();
}

static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	phi_watch();
	return prev_planner ? prev_planner(query, text, options, params) :
		standard_planner(query, text, options, params);
}

/* Before it is done: the log may be out of reach then. */
static void
record_catalogue_writes(const QueryDesc *query)
{
	const PlannedStmt *statement = query->plannedstmt;
	ListCell   *cell;

	foreach(cell, statement->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(cell), statement->rtable)->relid;

		if (IsCatalogRelationOid(relid) && phi_audit_ready() && !phi_in_own_script())
			phi_audit_event_write(GetCommandTagName(CreateCommandTag((Node *) statement)),
								  phi_relation_name(relid),
								  "system catalogue");
	}
}

static void
start(QueryDesc *query, int flags)
{
	phi_watch();
	if ((flags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
		record_catalogue_writes(query);
	if (prev_start)
		prev_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
end(QueryDesc *query)
{
	if (prev_end)
		prev_end(query);
	else
		standard_ExecutorEnd(query);
	phi_watch();
}

static void
at_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
	{
		int			names = phi_plain_names();

		phi_watch();
		phi_write_touched(0);
		phi_plain_names_end(names);
	}
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		phi_forget_touched();
}

void
phi_events_init(void)
{
	RegisterXactCallback(at_transaction, NULL);
	phi_touched_init();
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	prev_planner = planner_hook;
	planner_hook = plan;
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	prev_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end;
	phi_watch_init();
}
