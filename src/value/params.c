/*
 * params.c
 *		Parameters as base types: what results are for what comes out, for what
 *		goes in.
 *
 * The server gives a parameter of unknown type the type of what it meets, an
 * encrypted one.  It would be encrypted when it is bound, only to be decrypted
 * for a comparison, or encrypted again for its column's class; and clients that
 * ask for the types of parameters would be told one that they don't know.  So
 * it is text, if that fits wherever the statement uses it.  Text alone: the
 * input of other types raises errors that quote the value, where ours do not.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "value/guard.h"
#include "value/types.h"

/* parse_param.c keeps the types that it found in one of these. */
typedef struct VariableTypes
{
	Oid		  **types;
	int		   *n;
} VariableTypes;

typedef struct Search
{
	bool		change;			/* else only look */
	List	   *params;			/* encrypted parameters */
	List	   *fitting;		/* of them where text fits */
	Oid		   *types;
} Search;

extern Datum phi_enc_to_enc(PG_FUNCTION_ARGS);
extern Datum phi_enc_eq(PG_FUNCTION_ARGS);
extern Datum phi_enc_ne(PG_FUNCTION_ARGS);
extern Datum phi_enc_lt(PG_FUNCTION_ARGS);
extern Datum phi_enc_le(PG_FUNCTION_ARGS);
extern Datum phi_enc_gt(PG_FUNCTION_ARGS);
extern Datum phi_enc_ge(PG_FUNCTION_ARGS);

static bool
is_text(Oid type)
{
	const PhiType *encrypted = phi_type_by_oid(type);

	return encrypted != NULL && encrypted->base == TEXTOID;
}

static bool
is_param(Node *node)
{
	return node != NULL && IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		is_text(((Param *) node)->paramtype);
}

static bool
is_array_param(Node *node)
{
	return node != NULL && IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		is_text(get_element_type(((Param *) node)->paramtype));
}

static void
change_param(Search *search, Node *node, Oid type)
{
	Param	   *param = (Param *) node;

	if (!search->change)
	{
		search->fitting = list_append_unique_ptr(search->fitting, node);
		return;
	}
	param->paramtype = type;
	search->types[param->paramid - 1] = type;
}

static PGFunction
c_function(Oid function)
{
	FmgrInfo	info;

	fmgr_info(function, &info);
	return info.fn_addr;
}

static bool
is_comparison(Oid function)
{
	const PGFunction ours[] = {phi_enc_eq, phi_enc_ne, phi_enc_lt, phi_enc_le, phi_enc_gt, phi_enc_ge};
	PGFunction	given = c_function(function);

	for (int i = 0; i < (int) lengthof(ours); i++)
	{
		if (ours[i] == given)
			return true;
	}
	return false;
}

static Oid
catalogue_operator(const char *name, Oid left, Oid right)
{
	return OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString(pstrdup(name))),
							left, right);
}

/*
 * The same operator for other types; 0: there is none, or it is not ours.  It
 * must also be what the name is found to mean when the query is analysed again.
 */
static Oid
operator_for(Oid operator, Oid left, Oid right)
{
	char	   *name = get_opname(operator);
	Oid			given_left;
	Oid			given_right;
	Oid			other;

	op_input_types(operator, &given_left, &given_right);
	if (catalogue_operator(name, given_left, given_right) != operator ||
		!is_comparison(get_opcode(operator)))
		return InvalidOid;
	other = OpernameGetOprid(list_make1(makeString(name)), left, right);
	return other == catalogue_operator(name, left, right) ? other : InvalidOid;
}

static void
visit_operator(Search *search, OpExpr *expression)
{
	Node	   *left;
	Node	   *right;
	bool		is_left;
	Oid			other;

	if (list_length(expression->args) != 2)
		return;
	left = linitial(expression->args);
	right = lsecond(expression->args);
	is_left = is_param(left);
	if (is_left == is_param(right) || !is_text(exprType(left)) || !is_text(exprType(right)))
		return;
	other = operator_for(expression->opno, is_left ? TEXTOID : exprType(left),
						 is_left ? exprType(right) : TEXTOID);
	if (!OidIsValid(other))
		return;
	change_param(search, is_left ? left : right, TEXTOID);
	if (search->change)
	{
		expression->opno = other;
		expression->opfuncid = get_opcode(other);
	}
}

static bool
all_params(List *elements)
{
	ListCell   *cell;

	foreach(cell, elements)
	{
		if (!is_param(lfirst(cell)))
			return false;
	}
	return true;
}

/* IN ($1, $2) and = ANY ($1) */
static void
visit_array(Search *search, ScalarArrayOpExpr *expression)
{
	Node	   *left = linitial(expression->args);
	Node	   *right = lsecond(expression->args);
	Oid			other;
	ListCell   *cell;

	if (!is_text(exprType(left)) || is_param(left))
		return;
	other = operator_for(expression->opno, exprType(left), TEXTOID);
	if (!OidIsValid(other))
		return;
	if (is_array_param(right))
		change_param(search, right, TEXTARRAYOID);
	else if (IsA(right, ArrayExpr) && is_text(((ArrayExpr *) right)->element_typeid) &&
			 all_params(((ArrayExpr *) right)->elements))
	{
		foreach(cell, ((ArrayExpr *) right)->elements)
			change_param(search, lfirst(cell), TEXTOID);
		if (search->change)
		{
			((ArrayExpr *) right)->element_typeid = TEXTOID;
			((ArrayExpr *) right)->array_typeid = TEXTARRAYOID;
		}
	}
	else
		return;
	if (search->change)
	{
		expression->opno = other;
		expression->opfuncid = get_opcode(other);
	}
}

static Oid
encrypting_function(Oid type)
{
	Oid			arguments[3] = {TEXTOID, INT4OID, BOOLOID};

	return LookupFuncName(list_make2(makeString("pg_catalog"),
									 makeString(pstrdup(phi_type_by_oid(type)->name))), 3, arguments, false);
}

/* enctext($1, class, false): encrypts for the class at once. */
static void
visit_coercion(Search *search, FuncExpr *expression)
{
	Oid			type = expression->funcresulttype;

	if (list_length(expression->args) != 3 || !is_text(type) ||
		!is_param(linitial(expression->args)) ||
		c_function(expression->funcid) != phi_enc_to_enc)
		return;
	change_param(search, linitial(expression->args), TEXTOID);
	if (search->change)
		expression->funcid = encrypting_function(type);
}

/* What is stored as it is; gives what stands in its place. */
static Node *
visit_value(Search *search, Node *node)
{
	Oid			type;

	if (!is_param(node))
		return node;
	type = ((Param *) node)->paramtype;
	change_param(search, node, TEXTOID);
	if (!search->change)
		return node;
	return (Node *) makeFuncExpr(encrypting_function(type), type,
								 list_make3(node,
											makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
													  Int32GetDatum(-1), false, true),
											makeBoolConst(false, false)),
								 exprCollation(node), InvalidOid, COERCE_IMPLICIT_CAST);
}

static void
visit_targets(Search *search, List *targets)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		target->expr = (Expr *) visit_value(search, (Node *) target->expr);
	}
}

static void
visit_values(Search *search, List *range_table)
{
	ListCell   *cell;
	ListCell   *row;
	ListCell   *value;

	foreach(cell, range_table)
	{
		if (lfirst_node(RangeTblEntry, cell)->rtekind != RTE_VALUES)
			continue;
		foreach(row, lfirst_node(RangeTblEntry, cell)->values_lists)
			foreach(value, (List *) lfirst(row))
			lfirst(value) = visit_value(search, lfirst(value));
	}
}

/*
 * What is assigned to columns, whose type does not depend on the parameter's.
 * Anywhere else a text would make a text of the result, when the query is
 * analysed again, and decrypt what stands beside it in a UNION.
 */
static void
visit_assigned(Search *search, Query *query)
{
	ListCell   *cell;

	if (query->commandType == CMD_INSERT)
		visit_values(search, query->rtable);
	if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		visit_targets(search, query->targetList);
	if (query->onConflict != NULL)
		visit_targets(search, query->onConflict->onConflictSet);
	foreach(cell, PhiMergeActions(query))
		visit_targets(search, PhiMergeTargets(lfirst(cell)));
}

static bool
visit(Node *node, void *context)
{
	Search	   *search = context;

	if (node == NULL)
		return false;
	if (is_param(node) || is_array_param(node))
		/* INSERT ... SELECT $1 has one node in two places. */
		search->params = list_append_unique_ptr(search->params, node);
	else if (IsA(node, OpExpr))
		visit_operator(search, (OpExpr *) node);
	else if (IsA(node, ScalarArrayOpExpr))
		visit_array(search, (ScalarArrayOpExpr *) node);
	else if (IsA(node, FuncExpr))
		visit_coercion(search, (FuncExpr *) node);
	else if (IsA(node, Query))
	{
		visit_assigned(search, (Query *) node);
		return query_tree_walker((Query *) node, visit, context, 0);
	}
	return expression_tree_walker(node, visit, context);
}

void
phi_make_params_plain(ParseState *pstate, Query *query)
{
	VariableTypes *variable = pstate->p_ref_hook_state;
	Search		search = {0};
	bool		found = false;

	/* Only the extended protocol and PREPARE leave types of parameters open. */
	if (pstate->p_coerce_param_hook == NULL)
		return;
	for (int i = 0; i < *variable->n; i++)
		found |= is_text((*variable->types)[i]) ||
			is_text(get_element_type((*variable->types)[i]));
	if (!found)
		return;
	(void) visit((Node *) query, &search);
	if (list_length(search.fitting) < list_length(search.params))
		return;
	search.change = true;
	search.types = *variable->types;
	(void) visit((Node *) query, &search);
}
