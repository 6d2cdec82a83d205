/*
 * guard.c
 *		Plans and commands that would tell or keep more than they should.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "guc.h"
#include "value/guard.h"
#include "value/value.h"

/*
 * No index search in columns of a class that the session does not hold.  "="
 * finds such values equal to nothing, but an index finds its candidates
 * before "=" rejects them, and their number can be seen (EXPLAIN ANALYZE,
 * statistics, time): whoever may guess could search.  So a plan that would do
 * so does not start.  Checks of foreign keys are exempt: they compare values
 * of the tables with each other, and tell no more than the constraint does.
 */
static bool
check_expression(Node *node, void *session)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		int32		class = ((Var *) node)->vartypmod;
		uint32		classes = ((const PhiSession *) session)->classes;

		if (phi_type_within(((Var *) node)->vartype, &class) != NULL && class >= 0 &&
			!(classes & PHI_CLASS_BIT(class)))
			phi_report_access(PHI_CLASS_NOT_HELD, class);
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

/* True when a column without a class is among them: anything may come to it. */
static bool
check_updated_columns(Oid relation, Bitmapset *columns, uint32 classes)
{
	bool		any_class = false;
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
		if (phi_type_within(type, &typmod) == NULL)
			continue;
		if (typmod < 0)
			any_class = true;
		else if (!(classes & PHI_CLASS_BIT(typmod)))
			phi_report_access(PHI_CLASS_NOT_HELD, typmod);
	}
	return any_class;
}

/*
 * In a table of his own, a column without a class could take copies to guess at.
 *
 * A value that has its column's class already passes no cast, so nothing else
 * keeps a session from copying values that it can't read; or from writing back
 * the NULLs that it read for them.
 */
bool
phi_check_updates(PlannedStmt *plan)
{
	const PhiSession *session = phi_session();
	bool		only_carries = plan->commandType == CMD_UPDATE;
	ListCell   *cell;

	if (session == NULL || session->classes == PHI_ALL_CLASSES || InNoForceRLSOperation())
		return true;
	foreach(cell, plan->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind == RTE_RELATION &&
			check_updated_columns(rte->relid, PhiUpdatedColumns(plan, rte),
								  session->classes) &&
			PhiOwnsTable(rte->relid, GetSessionUserId()))
			only_carries = false;
	}
	return only_carries;
}

/* Whether a key column of a btree index is of an encrypted type. */
static bool
is_ordered(Relation index)
{
	int32		typmod;

	if (index->rd_rel->relam != BTREE_AM_OID)
		return false;
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		if (phi_type_within(TupleDescAttr(RelationGetDescr(index), i)->atttypid,
							&typmod) != NULL)
			return true;
	}
	return false;
}

static void
refuse_ordered_indexes(Relation relation)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_ordered(index))
			phi_refuse_ordered_index();
		index_close(index, AccessShareLock);
	}
}

static bool
has_encrypted_columns(TupleDesc desc)
{
	int32		typmod;

	for (int i = 0; i < desc->natts; i++)
	{
		if (phi_type_within(TupleDescAttr(desc, i)->atttypid, &typmod) != NULL)
			return true;
	}
	return false;
}

/*
 * An ordered index that was allowed once is kept in its order only while it is
 * allowed: see phi_enc_cmp.
 */
void
phi_check_ordered_indexes(PlannedStmt *plan)
{
	ListCell   *cell;

	if (phi_allow_ordered_index || plan->commandType == CMD_DELETE)
		return;
	foreach(cell, plan->resultRelations)
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(cell), plan->rtable);
		Relation	relation = table_open(rte->relid, NoLock);

		if (has_encrypted_columns(RelationGetDescr(relation)))
			refuse_ordered_indexes(relation);
		table_close(relation, NoLock);
	}
}

bool
phi_is_definition(Node *command)
{
	switch (nodeTag(command))
	{
		case T_CreateStmt:
		case T_AlterTableStmt:
		case T_ViewStmt:
		case T_IndexStmt:
		case T_RuleStmt:
		case T_CreatePolicyStmt:
		case T_AlterPolicyStmt:
		case T_CreateTrigStmt:
		case T_CreateDomainStmt:
		case T_AlterDomainStmt:
			return true;
		case T_CreateFunctionStmt:
			/* A body that is a string is analysed anew by each session. */
			return ((CreateFunctionStmt *) command)->sql_body != NULL;
		default:
			return false;
	}
}

void
phi_refuse_stored_literal(const char *type_name)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a literal of type %s cannot be stored in a definition", type_name),
			 errdetail("It would be encrypted for one clinic, for good."),
			 errhint("Write a literal of the base type, as in 'Sato'::text: it is encrypted when it is used.")));
}

static bool
refuse_literals(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const) && !((Const *) node)->constisnull &&
		phi_type_by_oid(((Const *) node)->consttype) != NULL)
		phi_refuse_stored_literal(phi_type_by_oid(((Const *) node)->consttype)->name);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, refuse_literals, context, 0);
	return expression_tree_walker(node, refuse_literals, context);
}

void
phi_check_materialized_view(Query *query)
{
	CreateTableAsStmt *command = (CreateTableAsStmt *) query->utilityStmt;

	if (command != NULL && IsA(command, CreateTableAsStmt) &&
		command->objtype == OBJECT_MATVIEW)
		refuse_literals(command->query, NULL);
}

static void
refuse_statistics(Oid relation, const char *column)
{
	AttrNumber	attnum = get_attnum(relation, column);
	int32		typmod;

	if (attnum != InvalidAttrNumber &&
		phi_type_within(get_atttype(relation, attnum), &typmod) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("extended statistics on encrypted column \"%s\" are not supported", column),
				 errdetail("They would keep values, or what expressions make of them, in the catalogue.")));
}

static bool
check_columns(Node *node, void *relation)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		Node	   *name = llast(((ColumnRef *) node)->fields);

		if (IsA(name, String))
			refuse_statistics(*(Oid *) relation, strVal(name));
		return false;
	}
	return raw_expression_tree_walker(node, check_columns, relation);
}

static void
check_statistics(CreateStatsStmt *command)
{
	ListCell   *cell;
	Oid			relation;

	if (list_length(command->relations) != 1 || !IsA(linitial(command->relations), RangeVar))
		return;					/* the server refuses it */
	relation = RangeVarGetRelid(linitial(command->relations), NoLock, true);
	if (!OidIsValid(relation))
		return;
	foreach(cell, command->exprs)
	{
		StatsElem  *element = lfirst_node(StatsElem, cell);

		if (element->name != NULL)
			refuse_statistics(relation, element->name);
		else
			check_columns(element->expr, &relation);
	}
}

static void
check_create_table_as(CreateTableAsStmt *command)
{
	ExecuteStmt *execute;
	PreparedStatement *prepared;
	ListCell   *cell;

	if (!IsA(command->query, Query) ||
		((Query *) command->query)->commandType != CMD_UTILITY)
		return;
	execute = (ExecuteStmt *) ((Query *) command->query)->utilityStmt;
	prepared = FetchPreparedStatement(execute->name, false);
	if (prepared == NULL)
		return;
	foreach(cell, prepared->plansource->query_list)
	{
		if (phi_has_cast_results(lfirst_node(Query, cell)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot create a table from prepared statement \"%s\"", execute->name),
					 errdetail("Its encrypted columns are decrypted for the client and would be stored so."),
					 errhint("Use CREATE TABLE AS with the query itself, or prepare it with phi.result_as_base = off.")));
	}
}

void
phi_check_command(Node *command)
{
	if (IsA(command, CreateStatsStmt))
		check_statistics((CreateStatsStmt *) command);
	else if (IsA(command, CreateTableAsStmt))
		check_create_table_as((CreateTableAsStmt *) command);
}
