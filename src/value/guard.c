/*
 * guard.c
 *		No index search in columns of a class that the session does not hold.
 *
 * "=" finds such values equal to nothing, but an index finds its candidates
 * before "=" rejects them, and their number can be seen (EXPLAIN ANALYZE,
 * statistics, time): whoever may guess could search.  So a plan that would do
 * so does not start.  Checks of foreign keys are exempt: they compare values
 * of the tables with each other, and tell no more than the constraint does.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"

#include "compat.h"
#include "value/value.h"

static bool
check_expression(Node *node, void *session)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		uint32		classes = ((const PhiSession *) session)->classes;

		if (var->vartypmod >= 0 && phi_type_by_oid(var->vartype) != NULL &&
			!(classes & PHI_CLASS_BIT(var->vartypmod)))
			phi_report_access(PHI_CLASS_NOT_HELD, var->vartypmod);
		return false;
	}
	return expression_tree_walker(node, check_expression, session);
}

static List *
index_conditions(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			return ((IndexScan *) plan)->indexqualorig;
		case T_IndexOnlyScan:
			return ((IndexOnlyScan *) plan)->indexqual;
		case T_BitmapIndexScan:
			return ((BitmapIndexScan *) plan)->indexqualorig;
		default:
			return NIL;
	}
}

static bool
check_plan(PlanState *state, void *session)
{
	check_expression((Node *) index_conditions(state->plan), session);
	return planstate_tree_walker(state, check_plan, session);
}

void
phi_check_index_conditions(PlanState *state)
{
	const PhiSession *session = phi_session();

	if (state == NULL || session == NULL || session->classes == PHI_ALL_CLASSES ||
		InNoForceRLSOperation())
		return;
	check_plan(state, unconstify(PhiSession *, session));
}
