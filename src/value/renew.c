/*
 * renew.c
 *		Storing nothing under a key that is not active any more.
 *
 * What a session encrypts comes under the active key.  But a value that it has
 * in hand since before a rotation, in a variable, a cursor that was kept, a
 * parameter, would be stored as it is: a column's value goes into a column of
 * the same type and class without a cast.  So the planner puts one there.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"

#include "compat.h"

#include "value/renew.h"
#include "value/types.h"

/* The class cast of the type, which does nothing else when the class is -1. */
static Expr *
renew(Expr *value, const PhiType *type)
{
	Oid			cast;

	if (find_typmod_coercion_function(type->oid, &cast) != COERCION_PATH_FUNC)
		elog(ERROR, "type %s has no class cast", type->name);
	return (Expr *) makeFuncExpr(cast, type->oid,
								 list_make3(value,
											makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
													  Int32GetDatum(-1), false, true),
											makeBoolConst(false, false)),
								 InvalidOid, InvalidOid, COERCE_IMPLICIT_CAST);
}

/* What a cast has just encrypted, or a null. */
static bool
is_new(Expr *value)
{
	return (IsA(value, FuncExpr) && ((FuncExpr *) value)->funcformat != COERCE_EXPLICIT_CALL) ||
		(IsA(value, Const) && ((Const *) value)->constisnull);
}

static void
renew_list(List *targets)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);
		const PhiType *type = target->resjunk ? NULL :
			phi_type_by_oid(exprType((Node *) target->expr));

		if (type != NULL && !is_new(target->expr))
			target->expr = renew(target->expr, type);
	}
}

void
phi_renew_targets(Query *query)
{
	ListCell   *cell;

	foreach(cell, query->cteList)
	{
		Node	   *inner = lfirst_node(CommonTableExpr, cell)->ctequery;

		if (IsA(inner, Query))
			phi_renew_targets((Query *) inner);
	}
	if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		renew_list(query->targetList);
	if (query->onConflict != NULL)
		renew_list(query->onConflict->onConflictSet);
	foreach(cell, PhiMergeActions(query))
		renew_list(PhiMergeTargets(lfirst(cell)));
}
