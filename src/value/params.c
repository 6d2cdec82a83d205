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
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"

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
	bool		change;			/* else only count */
	int			params;			/* encrypted parameters */
	int			fitting;		/* of them where text fits */
	Oid		   *types;
} Search;

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

	search->fitting++;
	if (!search->change)
		return;
	param->paramtype = type;
	search->types[param->paramid - 1] = type;
}

/* The same operator for other types; 0: there is none. */
static Oid
operator_for(Oid operator, Oid left, Oid right)
{
	return OpernameGetOprid(list_make2(makeString("pg_catalog"),
									   makeString(get_opname(operator))), left, right);
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
		!is_param(linitial(expression->args)))
		return;
	change_param(search, linitial(expression->args), TEXTOID);
	if (search->change)
		expression->funcid = encrypting_function(type);
}

/* What is stored or shown as it is; gives what stands in its place. */
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

static bool
visit(Node *node, void *context)
{
	Search	   *search = context;

	if (node == NULL)
		return false;
	if (is_param(node) || is_array_param(node))
		search->params++;
	else if (IsA(node, OpExpr))
		visit_operator(search, (OpExpr *) node);
	else if (IsA(node, ScalarArrayOpExpr))
		visit_array(search, (ScalarArrayOpExpr *) node);
	else if (IsA(node, FuncExpr))
		visit_coercion(search, (FuncExpr *) node);
	else if (IsA(node, TargetEntry))
		((TargetEntry *) node)->expr = (Expr *)
			visit_value(search, (Node *) ((TargetEntry *) node)->expr);
	else if (IsA(node, Query))
	{
		visit_values(search, ((Query *) node)->rtable);
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
	if (search.fitting < search.params)
		return;
	search.change = true;
	search.types = *variable->types;
	(void) visit((Node *) query, &search);
}
