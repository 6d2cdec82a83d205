/*
 * guard.c
 *		Plans and commands that would tell or keep more than they should.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "commands/prepare.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_type.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
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
 * so does not run.
 */
static bool
check_expression(Node *node, void *session)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) || IsA(node, FieldSelect) || IsA(node, SubscriptingRef))
	{
		int32		class = exprTypmod(node);
		uint32		classes = ((const PhiSession *) session)->classes;

		if (phi_type_within(exprType(node), &class) != NULL && class >= 0 &&
			!(classes & PHI_CLASS_BIT(class)))
			phi_report_access(PHI_CLASS_NOT_HELD, class);
	}
	return expression_tree_walker(node, check_expression, session);
}

List *
phi_index_conditions(Plan *plan)
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
	check_expression((Node *) phi_index_conditions(state->plan), session);
	return planstate_tree_walker(state, check_plan, session);
}

bool
phi_is_equality_family(Oid family, Oid type)
{
	int32		typmod;
	const PhiType *encrypted = phi_type_within(type, &typmod);

	return encrypted != NULL && OidIsValid(family) && encrypted->equality_family == family;
}

/* Whether a key column of a btree index is sorted by the plaintext. */
static bool
is_ordered(Relation index)
{
	int32		typmod;

	if (index->rd_rel->relam != BTREE_AM_OID)
		return false;
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		Oid			type = TupleDescAttr(RelationGetDescr(index), i)->atttypid;

		if (phi_type_within(type, &typmod) != NULL &&
			!phi_is_equality_family(index->rd_opfamily[i], type))
			return true;
	}
	return false;
}

void
phi_hide_index_order(RelOptInfo *rel)
{
	ListCell   *cell;

	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, cell);

		for (int i = 0; i < index->nkeycolumns && index->sortopfamily != NULL; i++)
		{
			if (!phi_is_equality_family(index->opfamily[i], index->opcintype[i]))
				continue;
			index->sortopfamily = NULL;
			/* Nor are its ends looked at for estimates, which takes the order for granted. */
			index->hypothetical = true;
		}
	}
}

/* Reading by such an index tells the order of its values. */
static bool
check_index_order(PlanState *state, void *context)
{
	Relation	index = NULL;

	if (IsA(state, IndexScanState))
		index = ((IndexScanState *) state)->iss_RelationDesc;
	else if (IsA(state, IndexOnlyScanState))
		index = ((IndexOnlyScanState *) state)->ioss_RelationDesc;
	if (index != NULL && is_ordered(index))
		phi_refuse_ordered_index();
	return planstate_tree_walker(state, check_index_order, context);
}

void
phi_check_index_conditions(PlanState *state, const PhiSession *session)
{
	if (state != NULL && session != NULL && session->classes != PHI_ALL_CLASSES)
		check_plan(state, unconstify(PhiSession *, session));
}

void
phi_check_ordered_indexes_of(Oid relid)
{
	Relation	relation;
	ListCell   *cell;

	if (phi_allow_ordered_index)
		return;
	relation = table_open(relid, AccessShareLock);
	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_ordered(index))
			phi_refuse_ordered_index();
		index_close(index, AccessShareLock);
	}
	table_close(relation, NoLock);
}

bool
phi_has_encrypted_columns(Oid relid)
{
	Relation	relation = relation_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	bool		found = false;

	for (int i = 0; i < desc->natts && !found; i++)
		found = phi_contains_encrypted(TupleDescAttr(desc, i)->atttypid);
	relation_close(relation, NoLock);
	return found;
}

/*
 * An ordered index that was allowed once is kept in its order only while it is
 * allowed: see phi_enc_cmp.
 */
void
phi_check_ordered_indexes(PlannedStmt *plan, PlanState *state)
{
	ListCell   *cell;

	if (phi_allow_ordered_index)
		return;
	if (state != NULL)
		check_index_order(state, NULL);
	if (plan->commandType == CMD_DELETE)
		return;
	foreach(cell, plan->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(cell), plan->rtable)->relid;

		if (phi_has_encrypted_columns(relid))
			phi_check_ordered_indexes_of(relid);
	}
}

static void
refuse_statistics(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("extended statistics on encrypted columns, or on expressions beside them, are not supported"),
			 errdetail("They would keep values, or what expressions make of them, in the catalogue.")));
}

static void
check_statistics_column(Oid relation, const char *column)
{
	AttrNumber	attnum = get_attnum(relation, column);

	if (attnum != InvalidAttrNumber && phi_contains_encrypted(get_atttype(relation, attnum)))
		refuse_statistics();
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

		/* An expression can get at a column in more ways than one. */
		if (element->name != NULL)
			check_statistics_column(relation, element->name);
		else if (phi_has_encrypted_columns(relation))
			refuse_statistics();
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
	/* A cached plan would not renew what it stores, either. */
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

/* A command that puts rows into a table without a plan of its own. */
static void
check_target(RangeVar *target)
{
	Oid			relid = target ? RangeVarGetRelid(target, NoLock, true) : InvalidOid;
	char		kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';

	if (kind == RELKIND_RELATION || kind == RELKIND_MATVIEW || kind == RELKIND_PARTITIONED_TABLE)
		phi_check_ordered_indexes_of(relid);
}

/* A rekey does not look into ranges, so there are none. */
static void
check_range(CreateRangeStmt *command)
{
	ListCell   *cell;

	foreach(cell, command->params)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "subtype") == 0 &&
			phi_contains_encrypted(typenameTypeId(NULL, defGetTypeName(option))))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("range types over encrypted types are not supported"),
					 errhint("Use two columns.")));
	}
}

void
phi_check_command(Node *command)
{
	switch (nodeTag(command))
	{
		case T_CreateStatsStmt:
			check_statistics((CreateStatsStmt *) command);
			break;
		case T_CreateRangeStmt:
			check_range((CreateRangeStmt *) command);
			break;
		case T_CreateTableAsStmt:
			check_create_table_as((CreateTableAsStmt *) command);
			break;
		case T_ExplainStmt:
			if (IsA(((ExplainStmt *) command)->query, Query) &&
				((Query *) ((ExplainStmt *) command)->query)->commandType == CMD_UTILITY)
				phi_check_command(((Query *) ((ExplainStmt *) command)->query)->utilityStmt);
			break;
		case T_CopyStmt:
			if (((CopyStmt *) command)->is_from)
				check_target(((CopyStmt *) command)->relation);
			break;
		case T_RefreshMatViewStmt:
			check_target(((RefreshMatViewStmt *) command)->relation);
			break;
		default:
			break;
	}
}

/* Partitions would be chosen by an order that depends on who asks. */
void
phi_check_partition_key(CreateStmt *command)
{
	Relation	relation;
	PartitionKey key;

	if (command->partspec == NULL)
		return;
	relation = table_openrv(command->relation, AccessShareLock);
	key = RelationGetPartitionKey(relation);
	for (int i = 0; key != NULL && i < key->partnatts; i++)
	{
		if (phi_contains_encrypted(key->parttypid[i]))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("encrypted columns cannot be partition keys")));
	}
	table_close(relation, NoLock);
}
