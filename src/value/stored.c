/*
 * stored.c
 *		What definitions must not keep: literals of encrypted types, indexes that
 *		tell or mix up values, and columns of composites that hold values; and a
 *		warning of checks that dumps come to grief on.
 *
 * A literal is encrypted, for the clinic of the moment, when it is analysed.
 * In a view, a default, a policy it would be that clinic's for good, and under
 * any other clinic silently match nothing.  So what was just written to the
 * catalogue is read back, whatever command wrote it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_publication_rel.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "guc.h"
#include "value/guard.h"
#include "value/value.h"

/* Where expressions are kept, and how their row is found. */
typedef struct Catalogue
{
	Oid			relation;
	Oid			index;
	AttrNumber	key;			/* column with the OID of the object */
	AttrNumber	sub;			/* column with the number in it, or 0 */
	AttrNumber	expressions[2];
} Catalogue;

static const Catalogue catalogues[] = {
	{AttrDefaultRelationId, AttrDefaultIndexId, Anum_pg_attrdef_adrelid,
	Anum_pg_attrdef_adnum, {Anum_pg_attrdef_adbin, 0}},
	{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, 0,
	{Anum_pg_constraint_conbin, 0}},
	{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, 0,
	{Anum_pg_rewrite_ev_qual, Anum_pg_rewrite_ev_action}},
	{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, 0,
	{Anum_pg_policy_polqual, Anum_pg_policy_polwithcheck}},
	{TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, 0,
	{Anum_pg_trigger_tgqual, 0}},
	{ProcedureRelationId, ProcedureOidIndexId, Anum_pg_proc_oid, 0,
	{Anum_pg_proc_prosqlbody, Anum_pg_proc_proargdefaults}},
	{TypeRelationId, TypeOidIndexId, Anum_pg_type_oid, 0,
	{Anum_pg_type_typdefaultbin, 0}},
	{IndexRelationId, IndexRelidIndexId, Anum_pg_index_indexrelid, 0,
	{Anum_pg_index_indexprs, Anum_pg_index_indpred}},
#ifdef Anum_pg_publication_rel_prqual
	{PublicationRelRelationId, PublicationRelObjectIndexId, Anum_pg_publication_rel_oid, 0,
	{Anum_pg_publication_rel_prqual, 0}},
#endif
};

static object_access_hook_type prev_access = NULL;

static bool
refuse_literals(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
	{
		Const	   *literal = (Const *) node;

		if (!literal->constisnull && phi_contains_encrypted(literal->consttype))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a literal of type %s cannot be stored in a definition",
							format_type_be(literal->consttype)),
					 errdetail("It would be encrypted for one clinic, for good."),
					 errhint("Write a literal of the base type, as in 'Sato'::text: it is encrypted when it is used.")));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, refuse_literals, context, 0);
	return expression_tree_walker(node, refuse_literals, context);
}

/* The expression in a column; NULL when there is none. */
static Node *
read_expression(HeapTuple tuple, TupleDesc desc, AttrNumber column)
{
	bool		isnull = true;
	Datum		value = (Datum) 0;

	if (column != 0)
		value = heap_getattr(tuple, column, desc, &isnull);
	return isnull ? NULL : stringToNode(TextDatumGetCString(value));
}

bool
phi_contains_encrypted(Oid type)
{
	int32		typmod;

	if (type < FirstNormalObjectId)
		return false;
	if (phi_type_within(type, &typmod) != NULL)
		return true;
	type = getBaseType(type);
	if (OidIsValid(get_element_type(type)))
		return phi_contains_encrypted(get_element_type(type));
	if (type_is_range(type))
		return phi_contains_encrypted(get_range_subtype(type));
	return OidIsValid(get_typ_typrelid(type)) && phi_has_encrypted_columns(get_typ_typrelid(type));
}

static void
check_index_column(Oid access_method, Oid type, int32 class, Oid opclass)
{
	bool		is_equality;

	if (!phi_contains_encrypted(type))
		return;
	if (phi_type_by_oid(getBaseType(type)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("indexes on arrays, ranges and composites of encrypted values are not supported")));
	is_equality = access_method == BTREE_AM_OID &&
		phi_is_equality_family(get_opclass_family(opclass), type);
	if (access_method != HASH_AM_OID && !phi_allow_ordered_index && !is_equality)
		phi_refuse_ordered_index();
	(void) phi_type_within(type, &class);
	if (is_equality && class < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an index for equality needs a column that declares its data class"),
				 errhint("Declare it, such as by ALTER TABLE ... ALTER COLUMN ... TYPE enctext(general).")));
}

/* A relation's row, even if it is too new for the caches; to be freed. */
static Form_pg_class
read_class(Oid relation)
{
	Relation	catalogue = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Form_pg_class result = NULL;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalogue, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		result = palloc(sizeof(FormData_pg_class));
		memcpy(result, GETSTRUCT(tuple), CLASS_TUPLE_SIZE);
	}
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return result;
}

static Oid
access_method_of(Oid relation)
{
	Form_pg_class class = read_class(relation);

	return class != NULL && (class->relkind == RELKIND_INDEX ||
							 class->relkind == RELKIND_PARTITIONED_INDEX) ? class->relam : InvalidOid;
}

/*
 * ANALYZE would keep samples of composites, and results are not cast in them.
 * The other way about: rows of this table may be a column of another.
 */
static void
check_column(Form_pg_class class, Form_pg_attribute column, bool is_added)
{
	int32		typmod;

	if (column->attnum <= 0 || column->attisdropped || !phi_contains_encrypted(column->atttypid))
		return;
	if (phi_type_within(column->atttypid, &typmod) == NULL &&
		class->relkind != RELKIND_COMPOSITE_TYPE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" is of a composite type that holds encrypted values, which is not supported",
						NameStr(column->attname)),
				 errhint("Give each encrypted value a column of its own.")));
	if (is_added && OidIsValid(class->reltype))
	{
		Relation	relation = relation_open(class->oid, NoLock);

		find_composite_type_dependencies(class->reltype, relation, NULL);
		relation_close(relation, NoLock);
	}
}

/* Of a relation that was made, or a column of it that was added or changed. */
static void
check_columns(Oid relation, int sub, bool is_added)
{
	Form_pg_class class = read_class(relation);
	Relation	catalogue;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	if (class == NULL || (class->relkind != RELKIND_RELATION && class->relkind != RELKIND_MATVIEW &&
						  class->relkind != RELKIND_PARTITIONED_TABLE &&
						  (class->relkind != RELKIND_COMPOSITE_TYPE || sub == 0)))
		return;
	catalogue = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	ScanKeyInit(&keys[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(sub));
	scan = systable_beginscan(catalogue, AttributeRelidNumIndexId, true, SnapshotSelf,
							  sub == 0 ? 1 : 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		check_column(class, (Form_pg_attribute) GETSTRUCT(tuple), is_added && sub != 0);
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
}

static void
check_index(HeapTuple tuple, TupleDesc desc, List *expressions)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);
	bool		isnull;
	oidvector  *opclasses = (oidvector *)
		DatumGetPointer(heap_getattr(tuple, Anum_pg_index_indclass, desc, &isnull));
	Oid			access_method = access_method_of(index->indexrelid);
	ListCell   *next = list_head(expressions);

	for (int i = 0; i < index->indnkeyatts; i++)
	{
		AttrNumber	column = index->indkey.values[i];
		Oid			type;
		int32		class = -1;
		Oid			collation;

		if (column != 0)
			get_atttypetypmodcoll(index->indrelid, column, &type, &class, &collation);
		else
		{
			type = exprType(lfirst(next));
			class = exprTypmod(lfirst(next));
			next = lnext(expressions, next);
		}
		check_index_column(access_method, type, class, opclasses->values[i]);
	}
}

/* Whether a function or operator is given an encrypted value. */
static bool
reads_encrypted(Node *node, void *context)
{
	List	   *arguments = NIL;
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
		arguments = ((FuncExpr *) node)->args;
	else if (IsA(node, OpExpr) || IsA(node, DistinctExpr) || IsA(node, NullIfExpr))
		arguments = ((OpExpr *) node)->args;
	else if (IsA(node, ScalarArrayOpExpr))
		arguments = ((ScalarArrayOpExpr *) node)->args;
	foreach(cell, arguments)
	{
		if (phi_contains_encrypted(exprType(lfirst(cell))))
			return true;
	}
	return expression_tree_walker(node, reads_encrypted, context);
}

/*
 * A dump restores a check with the table, before its rows: then each row is
 * checked by a session that can't read it, and refused.
 */
static void
check_constraint(HeapTuple tuple, Node *expression)
{
	Form_pg_constraint constraint = (Form_pg_constraint) GETSTRUCT(tuple);

	if (constraint->contype == CONSTRAINT_CHECK && constraint->convalidated &&
		(constraint->conislocal || OidIsValid(constraint->contypid)) &&
		reads_encrypted(expression, NULL))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("check constraint \"%s\" keeps dumps from being restored",
						NameStr(constraint->conname)),
				 errdetail("It reads encrypted values, which the session that restores a dump cannot."),
				 errhint("Drop it, and add it with NOT VALID by ALTER TABLE or ALTER DOMAIN: it holds for all new rows, and dumps restore it after them.")));
}

static void
check_row(const Catalogue *catalogue, Oid object, int sub)
{
	Relation	relation = table_open(catalogue->relation, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], catalogue->key, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	ScanKeyInit(&keys[1], catalogue->sub, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(sub));
	scan = systable_beginscan(relation, catalogue->index, true, SnapshotSelf,
							  catalogue->sub ? 2 : 1, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Node	   *first = read_expression(tuple, desc, catalogue->expressions[0]);
		Node	   *second = read_expression(tuple, desc, catalogue->expressions[1]);

		refuse_literals(first, NULL);
		refuse_literals(second, NULL);
		if (catalogue->relation == IndexRelationId)
			check_index(tuple, desc, (List *) first);
		if (catalogue->relation == ConstraintRelationId)
			check_constraint(tuple, first);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

/* What visiting a constant takes. */
typedef struct ConstantVisit
{
	PhiConstantVisitor visit;
	void	   *context;
	ObjectAddress object;
} ConstantVisit;

static bool
visit_constant(Node *node, void *context)
{
	ConstantVisit *visit = context;

	if (node == NULL)
		return false;
	if (IsA(node, Const) && !((Const *) node)->constisnull &&
		phi_contains_encrypted(((Const *) node)->consttype))
		visit->visit(((Const *) node)->consttype, ((Const *) node)->constvalue,
					 &visit->object, visit->context);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, visit_constant, context, 0);
	return expression_tree_walker(node, visit_constant, context);
}

/* The first column is the object's OID; of an index, its relation's. */
static void
visit_catalogue(const Catalogue *catalogue, ConstantVisit *visit)
{
	Relation	relation = table_open(catalogue->relation, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		isnull;

	visit->object.classId = catalogue->relation == IndexRelationId ? RelationRelationId :
		catalogue->relation;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		visit->object.objectId = DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull));
		if (visit->object.objectId < FirstNormalObjectId)
			continue;
		for (int i = 0; i < 2; i++)
			visit_constant(read_expression(tuple, desc, catalogue->expressions[i]), visit);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

void
phi_visit_constants(PhiConstantVisitor visit, void *context)
{
	ConstantVisit state = {.visit = visit,.context = context};

	for (int i = 0; i < (int) lengthof(catalogues); i++)
		visit_catalogue(&catalogues[i], &state);
}

static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_access)
		prev_access(access, class, object, sub, arg);
	if (access != OAT_POST_CREATE && access != OAT_POST_ALTER)
		return;
	/* REFRESH ... CONCURRENTLY compares rows in a table of its own. */
	if (class == RelationRelationId && object >= FirstNormalObjectId && !phi_in_refresh())
		check_columns(object, sub, access == OAT_POST_CREATE);
	if (class == CastRelationId && access == OAT_POST_CREATE)
		phi_mend_types(object);
	/* An index comes as a relation, and its column 0 as the whole. */
	if (class == RelationRelationId && access == OAT_POST_CREATE && sub == 0)
		class = IndexRelationId;
	for (int i = 0; i < (int) lengthof(catalogues); i++)
	{
		if (catalogues[i].relation == class)
			check_row(&catalogues[i], object, sub);
	}
}

void
phi_stored_init(void)
{
	prev_access = object_access_hook;
	object_access_hook = object_access;
}
