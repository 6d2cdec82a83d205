/*
 * carry.c
 *		Whether a query puts nothing into indexes but what its rows have.
 *
 * Who copies values that he may not read into an index, beside or before his
 * guesses, sees by the index which guess is right.  So the hash of such a value
 * is refused, unless an UPDATE of other columns carries it along.  A session
 * that is sealed, or of another clinic, can't guess, but the same user can
 * later: in tables of his own it is held to the classes that he was granted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

static void
check_updated_columns(Oid relation, Bitmapset *columns, uint32 classes)
{
	int			i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
	{
		AttrNumber	attnum = i + FirstLowInvalidHeapAttributeNumber;
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (attnum <= 0)
			continue;
		get_atttypetypmodcoll(relation, attnum, &type, &typmod, &collation);
		if (phi_type_within(type, &typmod) != NULL && typmod >= 0 &&
			!(classes & PHI_CLASS_BIT(typmod)))
			phi_report_access(PHI_CLASS_NOT_HELD, typmod);
	}
}

/* Also a table that one could own by SET ROLE. */
static bool
is_own(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		own;

	if (!HeapTupleIsValid(tuple))
		return false;
	own = is_member_of_role(GetSessionUserId(), ((Form_pg_class) GETSTRUCT(tuple))->relowner);
	ReleaseSysCache(tuple);
	return own;
}

static bool
has_column_without_class(Oid relid)
{
	Relation	relation = relation_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	bool		found = false;

	for (int i = 0; i < desc->natts && !found; i++)
	{
		int32		class = TupleDescAttr(desc, i)->atttypmod;

		found = !TupleDescAttr(desc, i)->attisdropped &&
			phi_type_within(TupleDescAttr(desc, i)->atttypid, &class) != NULL && class < 0;
	}
	relation_close(relation, NoLock);
	return found;
}

/* Functions may give any value, whatever their arguments are. */
static bool
has_index_on_expression(Oid relid)
{
	Relation	relation = relation_open(relid, AccessShareLock);
	bool		found = false;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
			found |= index->rd_index->indkey.values[i] == 0 &&
				phi_type_by_oid(index->rd_opcintype[i]) != NULL;
		index_close(index, AccessShareLock);
	}
	relation_close(relation, NoLock);
	return found;
}

/*
 * A table of one's own may have columns without a class, to copy to and guess
 * at; also by an UPDATE of another column, if the index is partial.
 */
static bool
writes_to_own(const PlannedStmt *plan)
{
	ListCell   *cell;

	foreach(cell, plan->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(cell), plan->rtable)->relid;

		if (is_own(relid) && (plan->commandType != CMD_UPDATE ||
							  has_column_without_class(relid) || has_index_on_expression(relid)))
			return true;
	}
	return false;
}

/*
 * UPDATE, MERGE and ON CONFLICT DO UPDATE, also in WITH, put all values of a
 * row into indexes again.  What a plain INSERT puts there is new, but a session
 * that can't make values of its own may copy; and the rest puts nothing there.
 */
static bool
writes_again(const PlannedStmt *plan, bool copies)
{
	if (plan->hasModifyingCTE)
		return true;
	if (plan->commandType == CMD_INSERT)
		return copies || ((ModifyTable *) plan->planTree)->onConflictAction == ONCONFLICT_UPDATE;
	return plan->commandType != CMD_SELECT && plan->commandType != CMD_DELETE;
}

/* Whether what an index is searched for may be a value that one may not read. */
static bool
is_doubtful_key(Node *key, const PhiSession *session)
{
	int32		class = exprTypmod(key);

	if (IsA(key, Var) || phi_type_within(exprType(key), &class) == NULL)
		return false;
	if (session == NULL)
		return true;
	return !IsA(key, Const) && (class < 0 || !(session->classes & PHI_CLASS_BIT(class)));
}

static bool
has_doubtful_key(PlanState *state, void *session)
{
	ListCell   *cell;
	ListCell   *arg;

	foreach(cell, phi_index_conditions(state->plan))
	{
		List	   *args = IsA(lfirst(cell), OpExpr) ? ((OpExpr *) lfirst(cell))->args :
			IsA(lfirst(cell), ScalarArrayOpExpr) ? ((ScalarArrayOpExpr *) lfirst(cell))->args : NIL;

		foreach(arg, args)
		{
			if (is_doubtful_key(lfirst(arg), session))
				return true;
		}
	}
	return planstate_tree_walker(state, has_doubtful_key, session);
}

/*
 * A value that has its column's class already passes no cast, so nothing else
 * keeps a session from copying values that it can't read; or from writing back
 * the NULLs that it read for them.
 */
bool
phi_check_updates(PlannedStmt *plan, PlanState *state)
{
	const PhiSession *session = phi_session();
	bool		copies = session == NULL || session->classes == PHI_ALL_CLASSES;
	ListCell   *cell;

	foreach(cell, copies ? NIL : plan->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind == RTE_RELATION)
			check_updated_columns(rte->relid, PhiUpdatedColumns(plan, rte), session->classes);
	}
	/* Who was granted nothing can make no use of an index. */
	if (session == NULL && (!phi_session_user_has_grant() || superuser_arg(GetSessionUserId())))
		return true;
	return writes_again(plan, copies) && !writes_to_own(plan) &&
		!has_doubtful_key(state, unconstify(PhiSession *, session));
}

bool
phi_command_only_carries(Node *command)
{
	const PhiSession *session = phi_session();
	Oid			relid;

	if (!IsA(command, CopyStmt) || !((CopyStmt *) command)->is_from ||
		(session != NULL && session->classes != PHI_ALL_CLASSES))
		return false;
	relid = RangeVarGetRelid(((CopyStmt *) command)->relation, NoLock, true);
	return OidIsValid(relid) && !is_own(relid);
}
