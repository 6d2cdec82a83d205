/*
 * swap.c
 *		A table takes over the files of its shadow.
 *
 * As CLUSTER does it at its end: the rows of pg_class exchange what names their
 * files.  The table keeps its OID, its name, and all that depends on it.
 *
 * Before that the table is emptied, so that PostgreSQL itself changes the types
 * of its columns, its indexes and whatever else, in no time.  The shadow may
 * have been meddled with by its owner: so all that the files' form depends on
 * is compared.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(phi_empty_table);
PG_FUNCTION_INFO_V1(phi_swap_files);
PG_FUNCTION_INFO_V1(phi_settle_table);

/* phi.empty_table(oid) returns void: of a table that is locked exclusively */
Datum
phi_empty_table(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel = table_open(relid, AccessExclusiveLock);
	Oid			toast = rel->rd_rel->reltoastrelid;
	ReindexParams params = {0};

	CheckTableNotInUse(rel, "CALL");
	TransferPredicateLocksToHeapRelation(rel);
	PhiSetNewFile(rel);
	table_close(rel, NoLock);
	if (OidIsValid(toast))
	{
		rel = table_open(toast, AccessExclusiveLock);
		PhiSetNewFile(rel);
		table_close(rel, NoLock);
	}
	CommandCounterIncrement();
	reindex_relation(relid, REINDEX_REL_PROCESS_TOAST, &params);
	PG_RETURN_VOID();
}

static void
refuse(const char *what, Oid relation)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s of \"%s\" and of its copy differ", what, get_rel_name(relation)),
			 errhint("Cancel the job with phi.cancel_protect(), and begin again.")));
}

static void
compare_columns(Relation rel, Relation shadow)
{
	TupleDesc	one = RelationGetDescr(rel);
	TupleDesc	other = RelationGetDescr(shadow);

	if (one->natts != other->natts || rel->rd_rel->relam != shadow->rd_rel->relam ||
		rel->rd_rel->relpersistence != shadow->rd_rel->relpersistence ||
		rel->rd_rel->relkind != RELKIND_RELATION || shadow->rd_rel->relkind != RELKIND_RELATION)
		refuse("the columns", RelationGetRelid(rel));
	for (int i = 0; i < one->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(one, i);
		Form_pg_attribute b = TupleDescAttr(other, i);

		if (a->atttypid != b->atttypid || a->attlen != b->attlen || a->attbyval != b->attbyval ||
			a->attalign != b->attalign || a->attisdropped != b->attisdropped ||
			(!a->attisdropped && a->atttypmod != b->atttypmod))
			refuse("the columns", RelationGetRelid(rel));
	}
}

/* An expression or a predicate, as it is written. */
static char *
index_text(Relation index, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, index->rd_indextuple, column, &isnull);

	if (isnull)
		return "";
	return text_to_cstring(DatumGetTextPP(DirectFunctionCall2(pg_get_expr, value,
															  ObjectIdGetDatum(index->rd_index->indrelid))));
}

static oidvector *
index_classes(Relation index)
{
	bool		isnull;

	return (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
														 Anum_pg_index_indclass, &isnull));
}

/* What an operator class was told, as in gist_trgm_ops(siglen=32). */
static char *
class_options(Relation index, int i)
{
	Datum		options = get_attoptions(RelationGetRelid(index), i + 1);

	return options == (Datum) 0 ? "" : OidOutputFunctionCall(F_ARRAY_OUT, options);
}

static bool
same_columns(Relation index, Relation copy)
{
	Form_pg_index a = index->rd_index;
	Form_pg_index b = copy->rd_index;

	if (a->indnatts != b->indnatts || a->indnkeyatts != b->indnkeyatts)
		return false;
	for (int i = 0; i < a->indnatts; i++)
	{
		if (a->indkey.values[i] != b->indkey.values[i] ||
			strcmp(class_options(index, i), class_options(copy, i)) != 0)
			return false;
	}
	for (int i = 0; i < a->indnkeyatts; i++)
	{
		if (index_classes(index)->values[i] != index_classes(copy)->values[i] ||
			index->rd_indcollation[i] != copy->rd_indcollation[i] ||
			index->rd_indoption[i] != copy->rd_indoption[i])
			return false;
	}
	return true;
}

static void
compare_indexes(Relation index, Relation copy, Relation rel, Relation shadow)
{
	if (index->rd_index->indrelid != RelationGetRelid(rel) ||
		copy->rd_index->indrelid != RelationGetRelid(shadow) ||
		index->rd_rel->relam != copy->rd_rel->relam ||
		index->rd_rel->relpersistence != copy->rd_rel->relpersistence ||
		(index->rd_index->indisunique && index->rd_index->indimmediate && !copy->rd_index->indisunique) ||
		!copy->rd_index->indisvalid || !copy->rd_index->indisready ||
		!same_columns(index, copy) ||
		strcmp(index_text(index, Anum_pg_index_indexprs),
			   index_text(copy, Anum_pg_index_indexprs)) != 0 ||
		strcmp(index_text(index, Anum_pg_index_indpred),
			   index_text(copy, Anum_pg_index_indpred)) != 0)
		refuse("the definitions", RelationGetRelid(index));
}

#define SWAP(type, a, b) do { type swapped_ = (a); (a) = (b); (b) = swapped_; } while (0)

/*
 * The file that comes is of another transaction: under wal_level = minimal what
 * is written to it has to be logged.  The one that goes is not written any more.
 */
static void
forget_new_file(Relation rel)
{
	rel->rd_createSubid = InvalidSubTransactionId;
	rel->PhiLastNewFile = InvalidSubTransactionId;
	rel->PhiFirstNewFile = InvalidSubTransactionId;
}

static void
swap_classes(Form_pg_class one, Form_pg_class other)
{
	SWAP(Oid, one->relfilenode, other->relfilenode);
	SWAP(Oid, one->reltablespace, other->reltablespace);
	SWAP(Oid, one->reltoastrelid, other->reltoastrelid);
	SWAP(int32, one->relpages, other->relpages);
	SWAP(float4, one->reltuples, other->reltuples);
	SWAP(int32, one->relallvisible, other->relallvisible);
	SWAP(TransactionId, one->relfrozenxid, other->relfrozenxid);
	SWAP(MultiXactId, one->relminmxid, other->relminmxid);
}

/* The table with values out of line depends on the one that they belong to. */
static void
link_toast(Oid toast, Oid relid)
{
	ObjectAddress owner;
	ObjectAddress owned;

	if (!OidIsValid(toast))
		return;
	if (deleteDependencyRecordsFor(RelationRelationId, toast, false) != 1)
		elog(ERROR, "TOAST table %u does not have one dependency", toast);
	ObjectAddressSet(owner, RelationRelationId, relid);
	ObjectAddressSet(owned, RelationRelationId, toast);
	recordDependencyOn(&owned, &owner, DEPENDENCY_INTERNAL);
}

static void
swap_files(Oid one, Oid other)
{
	Relation	classes = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple_one = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(one));
	HeapTuple	tuple_other = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(other));
	Relation	rel_one = relation_open(one, AccessExclusiveLock);
	Relation	rel_other = relation_open(other, AccessExclusiveLock);
	Form_pg_class class_one;
	Form_pg_class class_other;

	if (!HeapTupleIsValid(tuple_one) || !HeapTupleIsValid(tuple_other))
		elog(ERROR, "cache lookup failed for relation %u or %u", one, other);
	class_one = (Form_pg_class) GETSTRUCT(tuple_one);
	class_other = (Form_pg_class) GETSTRUCT(tuple_other);
	if (!OidIsValid(class_one->relfilenode) || !OidIsValid(class_other->relfilenode))
		elog(ERROR, "relation %u or %u has no file of its own", one, other);
	swap_classes(class_one, class_other);
	forget_new_file(rel_one);
	CatalogTupleUpdate(classes, &tuple_one->t_self, tuple_one);
	CatalogTupleUpdate(classes, &tuple_other->t_self, tuple_other);
	link_toast(class_one->reltoastrelid, one);
	link_toast(class_other->reltoastrelid, other);
	relation_close(rel_one, NoLock);
	relation_close(rel_other, NoLock);
	table_close(classes, RowExclusiveLock);
	/* Neither entry may keep the other's file open. */
	RelationCloseSmgrByOid(one);
	RelationCloseSmgrByOid(other);
}

/* An index that older snapshots may not use stays one of that kind. */
static void
carry_check(Relation index, Relation copy)
{
	Relation	indexes;
	HeapTuple	tuple;

	if (!copy->rd_index->indcheckxmin)
		return;
	indexes = table_open(IndexRelationId, RowExclusiveLock);
	tuple = SearchSysCacheCopy1(INDEXRELID, ObjectIdGetDatum(RelationGetRelid(index)));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", RelationGetRelid(index));
	((Form_pg_index) GETSTRUCT(tuple))->indcheckxmin = true;
	CatalogTupleUpdate(indexes, &tuple->t_self, tuple);
	table_close(indexes, RowExclusiveLock);
}

static Oid *
read_oids(ArrayType *array, int *n)
{
	if (ARR_NDIM(array) > 1 || ARR_HASNULL(array))
		elog(ERROR, "a list of relations is malformed");
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (Oid *) ARR_DATA_PTR(array);
}

static void
swap_indexes(Relation rel, Relation shadow, ArrayType *indexes, ArrayType *copies)
{
	List	   *all = RelationGetIndexList(rel);
	int			n;
	int			n_copies;
	Oid		   *index_oids = read_oids(indexes, &n);
	Oid		   *copy_oids = read_oids(copies, &n_copies);

	if (n != n_copies || n != list_length(all))
		refuse("the indexes", RelationGetRelid(rel));
	for (int i = 0; i < n; i++)
	{
		Relation	index = index_open(index_oids[i], AccessExclusiveLock);
		Relation	copy = index_open(copy_oids[i], AccessExclusiveLock);

		all = list_delete_oid(all, index_oids[i]);
		compare_indexes(index, copy, rel, shadow);
		carry_check(index, copy);
		index_close(index, NoLock);
		index_close(copy, NoLock);
		swap_files(index_oids[i], copy_oids[i]);
	}
	if (all != NIL)
		refuse("the indexes", RelationGetRelid(rel));
}

/*
 * phi.swap_files(relation oid, shadow oid, indexes oid[], copies oid[]) returns
 *		void: the n-th copy is the shadow's for the n-th index
 */
Datum
phi_swap_files(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Oid			shadow_oid = PG_GETARG_OID(1);
	Relation	rel = table_open(relid, AccessExclusiveLock);
	Relation	shadow = table_open(shadow_oid, AccessExclusiveLock);

	CheckTableNotInUse(rel, "CALL");
	CheckTableNotInUse(shadow, "CALL");
	compare_columns(rel, shadow);
	swap_indexes(rel, shadow, PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_ARRAYTYPE_P(3));
	table_close(rel, NoLock);
	table_close(shadow, NoLock);
	swap_files(relid, shadow_oid);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/*
 * phi.settle_table(oid) returns void: gives the TOAST table that came with the
 * files its usual name, when the shadow is dropped
 */
Datum
phi_settle_table(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel = table_open(relid, AccessExclusiveLock);
	Oid			toast = rel->rd_rel->reltoastrelid;
	Relation	toast_rel;
	List	   *indexes;
	char		name[NAMEDATALEN];

	table_close(rel, NoLock);
	if (!OidIsValid(toast))
		PG_RETURN_VOID();
	toast_rel = table_open(toast, AccessExclusiveLock);
	indexes = RelationGetIndexList(toast_rel);
	table_close(toast_rel, NoLock);
	snprintf(name, sizeof(name), "pg_toast_%u", relid);
	RenameRelationInternal(toast, name, true, false);
	snprintf(name, sizeof(name), "pg_toast_%u_index", relid);
	RenameRelationInternal(linitial_oid(indexes), name, true, true);
	CommandCounterIncrement();
	ResetRelRewrite(toast);
	PG_RETURN_VOID();
}
