/*
 * hooks.c
 *		The hooks of parser, planner, executor and utility commands.
 *
 * They tell a client's own query from one that a function or command runs, and
 * the definition of an object from its use; result.c and guard.c do the rest.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "tcop/utility.h"
#include "utils/inval.h"

#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

static post_parse_analyze_hook_type prev_analyze = NULL;
static planner_hook_type prev_planner = NULL;
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorRun_hook_type prev_run = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;
static ProcessUtility_hook_type prev_utility = NULL;

/* Where we are: restored on the way out, whether by return or by error. */
typedef struct Place
{
	int			depth;			/* planner, executor and commands around us */
	Node	   *command;		/* innermost, outside of planner and executor */
	bool		only_carries;	/* see phi_check_updates */
} Place;

static Place place = {0, NULL, false};
static bool literal_made = false;

bool
phi_in_definition(void)
{
	return place.command != NULL && phi_is_definition(place.command);
}

bool
phi_in_command(void)
{
	return place.command != NULL;
}

bool
phi_only_carries(void)
{
	return place.only_carries;
}

bool
phi_in_copy(void)
{
	return place.command != NULL && IsA(place.command, CopyStmt);
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

static Place
enter(int step, Node *command)
{
	Place		before = place;

	place.depth += step;
	place.command = command;
	place.only_carries = false;
	return before;
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
	phi_check_materialized_view(query);
	if (place.depth == 0 && pstate->p_post_columnref_hook == NULL)
		phi_cast_results(query);
}

static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	Place		before = enter(1, NULL);
	PlannedStmt *result;

	PG_TRY();
	{
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
	Place		before = enter(1, NULL);

	PG_TRY();
	{
		if (prev_start)
			prev_start(query, flags);
		else
			standard_ExecutorStart(query, flags);
		(void) phi_check_updates(query->plannedstmt);
		phi_check_ordered_indexes(query->plannedstmt);
		phi_check_index_conditions(query->planstate);
	}
	PG_FINALLY();
	{
		place = before;
	}
	PG_END_TRY();
}

static void
run(QueryDesc *query, ScanDirection direction, uint64 count PHI_RUN_PARAMETER)
{
	Place		before;

	/* A cursor that is read on must not outlive a revoked grant. */
	if (place.depth == 0)
		AcceptInvalidationMessages();
	before = enter(1, NULL);
	PG_TRY();
	{
		place.only_carries = phi_check_updates(query->plannedstmt);
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
	Place		before = enter(1, NULL);

	PG_TRY();
	{
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

/* What runs code of the user's, which may do anything. */
static bool
runs_code(Node *command)
{
	return IsA(command, CallStmt) || IsA(command, DoStmt) || IsA(command, TransactionStmt);
}

static void
utility(PlannedStmt *statement, const char *text, bool read_only,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *command = statement->utilityStmt;
	bool		transparent = is_transparent(command);
	Place		before = enter(transparent ? 0 : 1,
							   transparent || runs_code(command) ? NULL : command);

	PG_TRY();
	{
		phi_check_command(command);
		if (prev_utility)
			prev_utility(statement, text, read_only, context, params,
						 environment, dest, completion);
		else
			standard_ProcessUtility(statement, text, read_only, context, params,
									environment, dest, completion);
	}
	PG_FINALLY();
	{
		place = before;
		if (IsA(command, CopyStmt))
			literal_made = false;
	}
	PG_END_TRY();
}

void
phi_hooks_init(void)
{
	prev_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = analyze;
	prev_planner = planner_hook;
	planner_hook = plan;
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	prev_run = ExecutorRun_hook;
	ExecutorRun_hook = run;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
