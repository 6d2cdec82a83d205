/*
 * result.c
 *		Results that look like base types.
 *
 * Clients switch on the type of a result column, and know nothing of ours.  So
 * the encrypted output columns of a query that a client sends are cast to
 * their base types while the query is analysed: SELECT and RETURNING at top
 * level, also when prepared, explained or declared as a cursor.  Queries
 * inside functions, COPY, CREATE TABLE AS and INSERT ... SELECT stay as they
 * are.  Whether it is done depends on the user's grants and on settings, never
 * on the clinic of the moment: the result type of a prepared statement must
 * not change.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "guc.h"
#include "value/guard.h"
#include "value/value.h"

/*
 * The base type of an encrypted one, the array of it for an array; InvalidOid
 * for any other.
 */
static Oid
base_type(Oid type)
{
	int32		typmod;
	const PhiType *ours = phi_type_within(type, &typmod);

	if (ours == NULL)
		return InvalidOid;
	return OidIsValid(get_element_type(getBaseType(type))) ?
		get_array_type(ours->base) : ours->base;
}

static bool
is_encrypted(const TargetEntry *entry)
{
	return !entry->resjunk && OidIsValid(base_type(exprType((Node *) entry->expr)));
}

static bool
has_encrypted(List *targets)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		if (is_encrypted(lfirst_node(TargetEntry, cell)))
			return true;
	}
	return false;
}

static Expr *
cast_to_base(Expr *expr)
{
	Oid			from = exprType((Node *) expr);
	Node	   *cast;

	cast = coerce_to_target_type(NULL, (Node *) expr, from, base_type(from), -1,
								 COERCION_EXPLICIT, COERCE_IMPLICIT_CAST, -1);
	assign_expr_collations(NULL, cast);
	return (Expr *) cast;
}

/*
 * Casts in place.  A column that is also sorted or grouped by leaves a hidden
 * copy behind, which is what the clauses then refer to.
 */
static List *
cast_targets(List *targets)
{
	List	   *hidden = NIL;
	int			n = list_length(targets);
	ListCell   *cell;

	foreach(cell, targets)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!is_encrypted(entry))
			continue;
		if (entry->ressortgroupref != 0)
		{
			TargetEntry *copy = makeTargetEntry(copyObject(entry->expr), ++n, NULL, true);

			copy->ressortgroupref = entry->ressortgroupref;
			entry->ressortgroupref = 0;
			hidden = lappend(hidden, copy);
		}
		entry->expr = cast_to_base(entry->expr);
	}
	return list_concat(targets, hidden);
}

/* References to the common table expressions of the query at "level" above. */
static bool
raise_references(Node *node, void *level)
{
	Index	   *depth = level;
	bool		aborted;

	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && rte->ctelevelsup == *depth - 1)
			rte->ctelevelsup++;
		return false;
	}
	if (!IsA(node, Query))
		return expression_tree_walker(node, raise_references, level);
	++*depth;
	aborted = query_tree_walker((Query *) node, raise_references, level,
								QTW_EXAMINE_RTES_BEFORE);
	--*depth;
	return aborted;
}

/* WITH stays on top: what modifies data may be nowhere else. */
static void
raise_with(Query *outer, Query *inner)
{
	Index		depth = 0;

	outer->cteList = inner->cteList;
	outer->hasRecursive = inner->hasRecursive;
	outer->hasModifyingCTE = inner->hasModifyingCTE;
	inner->cteList = NIL;
	inner->hasRecursive = inner->hasModifyingCTE = false;
	raise_references((Node *) inner, &depth);
}

void
phi_wrap_query(Query *query)
{
	Query	   *inner = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	List	   *names = NIL;
	List	   *targets = NIL;
	ListCell   *cell;

	memcpy(inner, query, sizeof(Query));
	foreach(cell, inner->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		TargetEntry *outer;
		Var		   *var;

		if (entry->resjunk)
			continue;
		var = makeVarFromTargetEntry(1, entry);
		outer = makeTargetEntry((Expr *) var, entry->resno, entry->resname, false);
		outer->resorigtbl = entry->resorigtbl;
		outer->resorigcol = entry->resorigcol;
		targets = lappend(targets, outer);
		names = lappend(names, makeString(pstrdup(entry->resname ? entry->resname : "?column?")));
	}
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = inner;
	rte->alias = rte->eref = makeAlias("result", names);
	rte->inFromCl = true;
	ref->rtindex = 1;

	memset(query, 0, sizeof(Query));
	NodeSetTag(query, T_Query);
	query->commandType = CMD_SELECT;
	query->querySource = inner->querySource;
	query->queryId = inner->queryId;
	query->canSetTag = inner->canSetTag;
	query->rtable = list_make1(rte);
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	query->targetList = targets;
	query->stmt_location = inner->stmt_location;
	query->stmt_len = inner->stmt_len;
	raise_with(query, inner);
}

/*
 * DISTINCT and set operations compare the encrypted values, which must stay in
 * their target lists.  Sorts, if they spill, write what is in theirs: wrapped,
 * that is ciphertext, and only rows that are sent are decrypted.  A query that
 * locks rows must stay at top level; it can only be sorted.
 */
static bool
needs_wrapping(const Query *query)
{
	return query->setOperations != NULL || query->distinctClause != NIL ||
		(query->sortClause != NIL && query->rowMarks == NIL);
}

static void
cast_results(Query *query)
{
	if (query->returningList != NIL)
	{
		if (has_encrypted(query->returningList))
			query->returningList = cast_targets(query->returningList);
		return;
	}
	if (query->commandType != CMD_SELECT || !has_encrypted(query->targetList))
		return;
	if (needs_wrapping(query))
		phi_wrap_query(query);
	query->targetList = cast_targets(query->targetList);
}

static bool
wanted(void)
{
	if (phi_result_as_base == PHI_RESULT_AUTO)
		return phi_session_user_has_grant();
	return phi_result_as_base == PHI_RESULT_ON;
}

/* The query that a utility command runs for the client; NULL if none. */
static Query *
query_of_client(Query *query)
{
	Node	   *inner = NULL;

	if (query->commandType != CMD_UTILITY)
		return query;
	if (IsA(query->utilityStmt, DeclareCursorStmt))
		inner = ((DeclareCursorStmt *) query->utilityStmt)->query;
	else if (IsA(query->utilityStmt, ExplainStmt))
		inner = ((ExplainStmt *) query->utilityStmt)->query;
	if (inner == NULL || !IsA(inner, Query) || ((Query *) inner)->commandType == CMD_UTILITY)
		return NULL;
	return (Query *) inner;
}

/* What an implicit cast is applied to; NULL when it is none. */
static Node *
cast_value(Expr *expr)
{
	if (IsA(expr, FuncExpr) && ((FuncExpr *) expr)->funcformat == COERCE_IMPLICIT_CAST &&
		list_length(((FuncExpr *) expr)->args) == 1)
		return linitial(((FuncExpr *) expr)->args);
	if (IsA(expr, ArrayCoerceExpr) &&
		((ArrayCoerceExpr *) expr)->coerceformat == COERCE_IMPLICIT_CAST)
		return (Node *) ((ArrayCoerceExpr *) expr)->arg;
	return NULL;
}

/* Our casts are the only ones from our types that are marked as implicit. */
bool
phi_has_cast_results(Query *query)
{
	ListCell   *cell;

	foreach(cell, query->commandType == CMD_SELECT ? query->targetList : query->returningList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Node	   *value = entry->resjunk ? NULL : cast_value(entry->expr);

		if (value != NULL && OidIsValid(base_type(exprType(value))))
			return true;
	}
	return false;
}

void
phi_plain_for_client(ParseState *pstate, Query *query)
{
	Query	   *of_client = query_of_client(query);

	if (of_client == NULL || !wanted())
		return;
	phi_make_params_plain(pstate, of_client);
	cast_results(of_client);
}
