/*
 * hooks.c
 *		The hooks of parser, planner, executor and utility commands.
 *
 * They tell a client's own query from one that a function or command runs, and
 * the definition of an object from its use; result.c and guard.c do the rest.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "commands/prepare.h"
#include "executor/executor.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"

#include "compat.h"
#include "value/guard.h"
#include "value/renew.h"
#include "value/value.h"

static post_parse_analyze_hook_type prev_analyze = NULL;
static planner_hook_type prev_planner = NULL;
static get_relation_info_hook_type prev_relation_info = NULL;
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorRun_hook_type prev_run = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;
static ProcessUtility_hook_type prev_utility = NULL;

/* EXECUTE analyses again as PREPARE did, wherever it is called from. */
typedef enum CastMode
{
	CAST_AT_TOP,
	CAST_ALWAYS,
	CAST_NEVER
} CastMode;

/* Where we are: restored on the way out, whether by return or by error. */
typedef struct Place
{
	int			depth;			/* planner, executor and commands around us */
	NodeTag		command;		/* innermost, outside of planner and executor */
	bool		full;			/* VACUUM FULL */
	bool		stores;			/* what its query returns */
	bool		only_carries;	/* see phi_check_updates */
	CastMode	cast;			/* of results */
	QueryDesc  *query;			/* that runs here */
	const struct Place *outer;
} Place;

static Place place = {0};
static bool literal_made = false;

/* Commands that build indexes anew and run no expressions but the indexes'. */
bool
phi_in_rebuild(void)
{
	return place.command == T_IndexStmt || place.command == T_ReindexStmt ||
		place.command == T_ClusterStmt || place.full;
}

bool
phi_only_carries(void)
{
	return place.only_carries;
}

bool
phi_in_refresh(void)
{
	for (const Place *p = &place; p != NULL; p = p->outer)
	{
		if (p->command == T_RefreshMatViewStmt)
			return true;
	}
	return false;
}

bool
phi_in_copy(void)
{
	return place.command == T_CopyStmt;
}

void
phi_literal_made(void)
{
	literal_made = true;
}

/* Only what is analysed or planned keeps literals: parameters are not kept. */
static void
note_literals(void)
{
	if (literal_made)
		phi_session_note_literal();
	literal_made = false;
}

static void
enter(Place *before, int step, NodeTag command)
{
	*before = place;
	place.depth += step;
	place.command = command;
	place.full = place.stores = false;
	place.only_carries = false;
	place.cast = CAST_AT_TOP;
	place.query = NULL;
	place.outer = before;
}

/* A query must not open a clinic in which it would not have been let run. */
static void
before_open(const PhiSession *session)
{
	for (const Place *p = &place; p != NULL; p = p->outer)
	{
		if (p->query != NULL)
			phi_check_index_conditions(p->query->planstate, session);
	}
}

static bool
in_trigger(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(fcinfo)) > 0;
}

static bool
is_to_cast(ParseState *pstate)
{
	if (place.cast != CAST_AT_TOP)
		return place.cast == CAST_ALWAYS;
	return place.depth == 0 && pstate->p_post_columnref_hook == NULL && !in_trigger();
}

/*
 * Queries of functions also come at depth 0, from a deferred trigger or the
 * arguments of EXECUTE; the names of their variables are looked up by a hook.
 */
static void
analyze(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (prev_analyze)
		prev_analyze(pstate, query, jstate);
	note_literals();
	if (is_to_cast(pstate))
		phi_plain_for_client(pstate, query);
}

static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	Place		before;
	PlannedStmt *result;

	bool		is_stored = place.stores;

	enter(&before, 1, T_Invalid);
	PG_TRY();
	{
		phi_renew_targets(query, is_stored);
		result = prev_planner ? prev_planner(query, text, options, params) :
			standard_planner(query, text, options, params);
		note_literals();
	}
	PG_FINALLY();
	{
		place = before;
	}
	PG_END_TRY();
	return result;
}

static void
start(QueryDesc *query, int flags)
{
	Place		before;

	enter(&before, 1, T_Invalid);
	PG_TRY();
	{
		if (prev_start)
			prev_start(query, flags);
		else
			standard_ExecutorStart(query, flags);
		phi_check_ordered_indexes(query->plannedstmt, query->planstate);
	}
	PG_FINALLY();
	{
		place = before;
	}
	PG_END_TRY();
}

/* Each time it runs on: the session may have become another. */
static void
check_query(QueryDesc *query)
{
	place.query = query;
	place.only_carries = phi_check_updates(query->plannedstmt, query->planstate);
	phi_check_index_conditions(query->planstate, phi_session());
}

static void
run(QueryDesc *query, ScanDirection direction, uint64 count PHI_RUN_PARAMETER)
{
	Place		before;

	/* A cursor that is read on must not outlive a revoked grant. */
	if (place.depth == 0)
		AcceptInvalidationMessages();
	enter(&before, 1, T_Invalid);
	PG_TRY();
	{
		check_query(query);
		if (prev_run)
			prev_run(query, direction, count PHI_RUN_ARGUMENT);
		else
			standard_ExecutorRun(query, direction, count PHI_RUN_ARGUMENT);
	}
	PG_FINALLY();
	{
		place = before;
	}
	PG_END_TRY();
}

static void
finish(QueryDesc *query)
{
	Place		before;

	enter(&before, 1, T_Invalid);
	PG_TRY();
	{
		check_query(query);		/* what WITH modifies is completed here */
		if (prev_finish)
			prev_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		place = before;
	}
	PG_END_TRY();
}

/* Commands that run a query whose result goes to the client. */
static bool
is_transparent(Node *command)
{
	return IsA(command, PrepareStmt) || IsA(command, ExecuteStmt) ||
		IsA(command, DeclareCursorStmt) || IsA(command, ExplainStmt) ||
		IsA(command, FetchStmt);
}

static CastMode
cast_of_prepared(const char *name)
{
	PreparedStatement *prepared = FetchPreparedStatement(name, false);
	ListCell   *cell;

	if (prepared == NULL)
		return CAST_AT_TOP;
	foreach(cell, prepared->plansource->query_list)
	{
		if (phi_has_cast_results(lfirst_node(Query, cell)))
			return CAST_ALWAYS;
	}
	return CAST_NEVER;
}

static bool
is_vacuum_full(VacuumStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "full") == 0 && defGetBoolean(option))
			return true;
	}
	return false;
}

/* EXPLAIN ANALYZE does it too. */
static bool
stores_result(Node *command)
{
	if (IsA(command, ExplainStmt) && IsA(((ExplainStmt *) command)->query, Query))
		command = ((Query *) ((ExplainStmt *) command)->query)->utilityStmt;
	return command != NULL &&
		(IsA(command, CreateTableAsStmt) || IsA(command, RefreshMatViewStmt));
}

static void
utility(PlannedStmt *statement, const char *text, bool read_only,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *command = statement->utilityStmt;
	const NodeTag tag = nodeTag(command);	/* for a ROLLBACK frees the tree */
	Place		before;

	enter(&before, is_transparent(command) ? 0 : 1, tag);
	if (tag == T_ExecuteStmt)
		place.cast = cast_of_prepared(((ExecuteStmt *) command)->name);
	else if (tag == T_VacuumStmt)
		place.full = is_vacuum_full((VacuumStmt *) command);
	place.stores = stores_result(command);
	PG_TRY();
	{
		phi_check_command(command);
		place.only_carries = phi_command_only_carries(command);
		if (prev_utility)
			prev_utility(statement, text, read_only, context, params,
						 environment, dest, completion);
		else
			standard_ProcessUtility(statement, text, read_only, context, params,
									environment, dest, completion);
		if (tag == T_CreateStmt)
			phi_check_partition_key((CreateStmt *) command);
	}
	PG_FINALLY();
	{
		place = before;
		if (tag == T_CopyStmt)
			literal_made = false;
	}
	PG_END_TRY();
}

static void
relation_info(PlannerInfo *root, Oid relation, bool inherits, RelOptInfo *rel)
{
	if (prev_relation_info)
		prev_relation_info(root, relation, inherits, rel);
	phi_hide_index_order(rel);
}

void
phi_hooks_init(void)
{
	phi_before_open = before_open;
	prev_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = analyze;
	prev_planner = planner_hook;
	planner_hook = plan;
	prev_relation_info = get_relation_info_hook;
	get_relation_info_hook = relation_info;
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	prev_run = ExecutorRun_hook;
	ExecutorRun_hook = run;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
