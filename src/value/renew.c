/*
 * renew.c
 *		Storing nothing under a key that is not active any more.
 *
 * What a session encrypts comes under the active key.  But a value that it has
 * in hand since before a rotation, in a variable, a cursor that was kept, a
 * parameter, would be stored as it is: a column's value goes into a column of
 * the same type and class without a cast.  So the planner puts a function there.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"

#include "compat.h"
#include "value/guard.h"
#include "value/renew.h"
#include "value/walk.h"

PG_FUNCTION_INFO_V1(phi_renew_any);

extern Datum phi_base_to_enc(PG_FUNCTION_ARGS);
extern Datum phi_encrypt(PG_FUNCTION_ARGS);

static Datum
renew_one(const PhiType *type, Datum value, void *context)
{
	return phi_renew(type, value);
}

/*
 * phi.renew(anyelement, integer) returns anyelement: of an encrypted type or an
 * array; the number is the type modifier, that is not to be lost
 */
Datum
phi_renew_any(PG_FUNCTION_ARGS)
{
	PhiWalk    *walk = fcinfo->flinfo->fn_extra;

	if (walk == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		walk = phi_walk_of_type(get_fn_expr_argtype(fcinfo->flinfo, 0));
		MemoryContextSwitchTo(old);
		if (walk == NULL)
			PG_RETURN_DATUM(PG_GETARG_DATUM(0));
		fcinfo->flinfo->fn_extra = walk;
	}
	PG_RETURN_DATUM(phi_walk(walk, PG_GETARG_DATUM(0), renew_one, NULL));
}

/* The function, by its place in the extension. */
static Oid
renew_function(void)
{
	Oid			arguments[2] = {ANYELEMENTOID, INT4OID};
	List	   *name = list_make2(makeString("phi"), makeString("renew"));

	return LookupFuncName(name, 2, arguments, false);
}

/* What has just been encrypted, or a null. */
static bool
is_new(Expr *value)
{
	FmgrInfo	function;

	if (IsA(value, Const))
		return ((Const *) value)->constisnull;
	if (!IsA(value, FuncExpr))
		return false;
	fmgr_info(((FuncExpr *) value)->funcid, &function);
	return function.fn_addr == phi_base_to_enc || function.fn_addr == phi_encrypt;
}

static Expr *
renew(Expr *value)
{
	Const	   *typmod = makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
								   Int32GetDatum(exprTypmod((Node *) value)), false, true);

	/* In the shape of a length coercion: the server reads the modifier from it. */
	return (Expr *) makeFuncExpr(renew_function(), exprType((Node *) value),
								 list_make2(value, typmod), exprCollation((Node *) value),
								 InvalidOid, COERCE_IMPLICIT_CAST);
}

static void
renew_list(List *targets)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (!target->resjunk && phi_contains_encrypted(exprType((Node *) target->expr)) &&
			!is_new(target->expr))
			target->expr = renew(target->expr);
	}
}

/* Its columns may be sorted or grouped by. */
static void
renew_select(Query *query)
{
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (phi_contains_encrypted(exprType((Node *) target->expr)))
		{
			phi_wrap_query(query);
			renew_list(query->targetList);
			return;
		}
	}
}

void
phi_renew_targets(Query *query, bool is_stored)
{
	ListCell   *cell;

	foreach(cell, query->cteList)
	{
		Node	   *inner = lfirst_node(CommonTableExpr, cell)->ctequery;

		if (IsA(inner, Query))
			phi_renew_targets((Query *) inner, false);
	}
	if (is_stored && query->commandType == CMD_SELECT)
		renew_select(query);
	if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		renew_list(query->targetList);
	if (query->onConflict != NULL)
		renew_list(query->onConflict->onConflictSet);
	foreach(cell, PhiMergeActions(query))
		renew_list(PhiMergeTargets(lfirst(cell)));
}
