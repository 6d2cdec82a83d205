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
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "audit/audit.h"
#include "audit/events.h"
#include "compat.h"
#include "keys/login.h"
#include "keys/scan.h"
#include "value/guard.h"

/* A command that runs; restored on the way out, whether by return or by error. */
typedef struct Frame
{
	uint64		number;
	Node	   *command;
	const char *tag;
	bool		is_definition;
} Frame;

/* What a command touched, until it is written. */
typedef struct Touched
{
	uint64		number;			/* of the frame; 0: outside of any */
	Frame	   *frame;
	int			level;			/* of the subtransaction */
	PhiSubject	subject;
	ObjectAccessType access;
	bool		written;
	StringInfoData lost;		/* triggers and policies of ours that were dropped */
} Touched;

static object_access_hook_type prev_access = NULL;
static ProcessUtility_hook_type prev_utility = NULL;
static planner_hook_type prev_planner = NULL;
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorEnd_hook_type prev_end = NULL;

static Frame *current = NULL;
static uint64 frames = 0;
static List *touched = NIL;
static MemoryContext context = NULL;	/* of the list */

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

/* The extension's own script: one record tells of the command that runs it. */
static bool
in_our_script(void)
{
	return creating_extension && CurrentExtensionObject == get_extension_oid("pg_phi", true);
}

/* What changes no definition, or none that is worth a record. */
static bool
is_upkeep(Node *command)
{
	return IsA(command, VacuumStmt) || IsA(command, ReindexStmt) || IsA(command, ClusterStmt) ||
		IsA(command, RefreshMatViewStmt) || IsA(command, CommentStmt) || IsA(command, SecLabelStmt);
}

static bool
is_definition(Node *command)
{
	return !is_upkeep(command) && GetCommandLogLevel(command) == LOGSTMT_DDL;
}

static Touched *
find_touched(uint64 number, const PhiSubject *subject)
{
	ListCell   *cell;

	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		if (t->number != number)
			continue;
		if (OidIsValid(subject->relid) ? t->subject.relid == subject->relid :
			t->subject.object.classId == subject->object.classId &&
			t->subject.object.objectId == subject->object.objectId)
			return t;
	}
	return NULL;
}

static void
add_touched(ObjectAccessType access, Oid class, Oid object)
{
	MemoryContext old;
	PhiSubject	subject;
	Touched    *t;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pg_phi audit events", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	subject = phi_subject(class, object);
	/* What is dropped now cannot turn out to count later. */
	if (subject.counts || access != OAT_DROP)
	{
		t = find_touched(current != NULL ? current->number : 0, &subject);
		if (t == NULL)
		{
			t = palloc0(sizeof(Touched));
			t->number = current != NULL ? current->number : 0;
			t->frame = current;
			t->level = GetCurrentTransactionNestLevel();
			t->access = access;
			initStringInfo(&t->lost);
			touched = lappend(touched, t);
			t->subject = subject;
		}
		else if (!t->subject.counts)
			t->subject = subject;
		if (access == OAT_DROP && class == TriggerRelationId && phi_is_our_trigger(object))
			appendStringInfo(&t->lost, "; without %s", getObjectDescription(&subject.object, false));
		else if (access == OAT_DROP && class == PolicyRelationId)
			appendStringInfo(&t->lost, "; without %s", getObjectDescription(&subject.object, false));
		else if (access == OAT_DROP && class == RelationRelationId)
			t->access = OAT_DROP;
	}
	MemoryContextSwitchTo(old);
}

static bool
is_internal(ObjectAccessType access, void *arg)
{
	switch (access)
	{
		case OAT_POST_CREATE:
			return arg != NULL && ((ObjectAccessPostCreate *) arg)->is_internal;
		case OAT_POST_ALTER:
			return arg != NULL && ((ObjectAccessPostAlter *) arg)->is_internal;
		case OAT_DROP:
			return arg != NULL && (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) != 0;
		default:
			return true;
	}
}

static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_access)
		prev_access(access, class, object, sub, arg);
	if (is_internal(access, arg) || (current != NULL && is_upkeep(current->command)) ||
		!phi_audit_ready() || in_our_script())
		return;
	add_touched(access, class, object);
	if (access == OAT_POST_ALTER && class == InheritsRelationId)
		add_touched(access, RelationRelationId, ((ObjectAccessPostAlter *) arg)->auxiliary_id);
}

/* When it was a function's C code, there is no command to tell of. */
static const char *
operation_of(const Touched *t)
{
	if (t->frame != NULL && t->frame->is_definition)
		return t->frame->tag;
	switch (t->access)
	{
		case OAT_POST_CREATE:
			return "CREATE";
		case OAT_DROP:
			return "DROP";
		default:
			return "ALTER";
	}
}

static void
write_touched(Touched *t)
{
	bool		has_command = t->frame != NULL && t->frame->is_definition;
	StringInfoData detail;
	char	   *what;

	/* It was made, or became one, meanwhile. */
	if (!t->subject.counts)
		t->subject = phi_subject(t->subject.object.classId, t->subject.object.objectId);
	if (!t->subject.counts || find_touched(t->number, &t->subject) != t)
		return;
	initStringInfo(&detail);
	if (!OidIsValid(t->subject.relid))
		appendStringInfoString(&detail, t->subject.name);
	what = has_command ? phi_describe_definition(t->frame->command) : NULL;
	if (what != NULL)
		appendStringInfo(&detail, "%s%s", detail.len > 0 ? ": " : "", what);
	else if (t->frame != NULL && !has_command)
		appendStringInfo(&detail, "%sby a function in %s", detail.len > 0 ? ": " : "", t->frame->tag);
	if (t->access != OAT_DROP && t->lost.len > 0)
		appendStringInfoString(&detail, t->lost.data + (detail.len > 0 ? 0 : 2));
	phi_audit_event_write(operation_of(t), OidIsValid(t->subject.relid) ? t->subject.name : NULL,
						  detail.data);
}

static void
forget_all(void)
{
	touched = NIL;
	if (context != NULL)
		MemoryContextReset(context);
}

/* What the frame touched, and all that frames within it left: 0 is all. */
static void
write_all(uint64 from)
{
	MemoryContext old;
	ListCell   *cell;

	if (touched == NIL)
		return;
	CommandCounterIncrement();	/* to see what was made */
	old = MemoryContextSwitchTo(context);
	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		if (t->number < from || t->written)
			continue;
		write_touched(t);
		t->written = true;
	}
	MemoryContextSwitchTo(old);
	while (touched != NIL && ((Touched *) llast(touched))->number >= from)
		touched = list_truncate(touched, list_length(touched) - 1);
	if (touched == NIL)
		forget_all();
}

/* As looked up now: nothing tells that an object was taken from its extension. */
static bool
log_is_in_place(Oid extension)
{
	const char *const needed[] = {"audit_log", "audit_record_id"};
	Oid			schema = get_namespace_oid("phi", true);

	for (int i = 0; i < (int) lengthof(needed); i++)
	{
		Oid			relid = OidIsValid(schema) ? get_relname_relid(needed[i], schema) : InvalidOid;

		if (!OidIsValid(relid) || getExtensionOfObject(RelationRelationId, relid) != extension)
			return false;
	}
	return true;
}

/* The way to be rid of the log is to drop the extension; see the server's log. */
static void
check_log(void)
{
	Oid			extension;

	CommandCounterIncrement();
	extension = get_extension_oid("pg_phi", true);
	if (!OidIsValid(extension))
		ereport(LOG,
				(errhidestmt(true),
				 errmsg("extension \"pg_phi\" is dropped with its audit log by \"%s\", logged in as \"%s\"",
						GetUserNameFromId(GetUserId(), true), phi_login())));
	else if (!log_is_in_place(extension))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log cannot be renamed, moved or taken from its extension"),
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
		add_touched(OAT_POST_ALTER, RelationRelationId, relid);
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
before_command(Frame *frame)
{
	phi_watch();
	if (IsA(frame->command, AlterSystemStmt) && phi_audit_ready())
		write_rights(frame->command, frame->tag);
}

static void
after_command(Frame *frame, bool was_ready, const QueryCompletion *completion)
{
	phi_watch();
	if (was_ready && !creating_extension)
		check_log();
	if (IsA(frame->command, CreateExtensionStmt))
		CommandCounterIncrement();	/* to see the log */
	if (frame->is_definition && (!phi_audit_ready() || in_our_script()))
		return;
	if (IsA(frame->command, AlterTableStmt))
		add_altered_table((AlterTableStmt *) frame->command);
	write_all(frame->number);
	if (IsA(frame->command, CopyStmt) && phi_audit_ready())
		write_copy((CopyStmt *) frame->command, completion);
	else if (frame->is_definition && !IsA(frame->command, AlterSystemStmt))
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
	Frame		frame = {.number = ++frames,.command = statement->utilityStmt};
	Frame	   *outer = current;
	bool		is_transaction = IsA(frame.command, TransactionStmt);	/* which frees the tree */
	bool		was_ready;

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
	was_ready = frame.is_definition && phi_audit_ready();
	before_command(&frame);
	current = &frame;
	PG_TRY();
	{
		run_utility(statement, text, read_only, place, params, environment, dest, completion);
		after_command(&frame, was_ready, completion);
	}
	PG_FINALLY();
	{
		current = outer;
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

		if (IsCatalogRelationOid(relid) && phi_audit_ready() && !in_our_script())
			phi_audit_event_write(GetCommandTagName(CreateCommandTag((Node *) statement)),
								  quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
															 get_rel_name(relid)),
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
		phi_watch();
		write_all(0);
	}
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_all();
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId me, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		if (t->level < level)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			t->level = level - 1;
		else
			touched = foreach_delete_current(touched, cell);
	}
}

void
phi_events_init(void)
{
	RegisterXactCallback(at_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
	prev_access = object_access_hook;
	object_access_hook = object_access;
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
