/*
 * protected.c
 *		On which objects commands are recorded.
 *
 * Tables with encrypted columns, tables that are audited or isolated, histories,
 * and all that is in schema phi or belongs to the extension.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_publication_rel.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "audit/events.h"
#include "audit/table.h"
#include "value/guard.h"

/* What belongs to a relation, and where its row names it. */
typedef struct Part
{
	Oid			class;
	Oid			index;
	AttrNumber	oid;
	AttrNumber	relation;
} Part;

static const Part parts[] = {
	{TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, Anum_pg_trigger_tgrelid},
	{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, Anum_pg_policy_polrelid},
	{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, Anum_pg_rewrite_ev_class},
	{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, Anum_pg_constraint_conrelid},
	{StatisticExtRelationId, StatisticExtOidIndexId, Anum_pg_statistic_ext_oid,
	Anum_pg_statistic_ext_stxrelid},
	{PublicationRelRelationId, PublicationRelObjectIndexId, Anum_pg_publication_rel_oid,
	Anum_pg_publication_rel_prrelid},
};

static Oid
relation_of_part(const Part *part, Oid object)
{
	Relation	catalogue = table_open(part->class, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, part->oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(catalogue, part->index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = DatumGetObjectId(heap_getattr(tuple, part->relation,
											   RelationGetDescr(catalogue), &isnull));
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return result;
}

/* InvalidOid when the object is, or is part of, no relation that is there. */
static Oid
relation_of(Oid class, Oid object)
{
	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		if (parts[i].class == class)
			return relation_of_part(&parts[i], object);
	}
	/* Of these the command gives the relation itself. */
	if (class == AttrDefaultRelationId || class == InheritsRelationId || class == IndexRelationId)
		class = RelationRelationId;
	if (class != RelationRelationId)
		return InvalidOid;
	switch (get_rel_relkind(object))
	{
		case '\0':
			return InvalidOid;
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return IndexGetRelation(object, true);
		default:
			return object;
	}
}

static bool
is_ours(Oid class, Oid object)
{
	Oid			extension = get_extension_oid("pg_phi", true);

	if (!OidIsValid(extension))
		return false;
	if (class == ExtensionRelationId)
		return object == extension;
	return getExtensionOfObject(class, object) == extension;
}

static Oid
our_schema(void)
{
	return get_namespace_oid("phi", true);
}

/* Functions of triggers that keep the trail. */
static bool
is_trail_function(Oid function)
{
	char	   *name;

	if (get_func_namespace(function) != our_schema())
		return false;
	name = get_func_name(function);
	return name != NULL && (strcmp(name, "audit_change") == 0 || strcmp(name, "refuse_change") == 0 ||
							 strcmp(name, "refuse_insert") == 0);
}

static bool
is_audited(Oid relid)
{
	Relation	catalogue = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalogue, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = is_trail_function(((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid);
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return found;
}

static bool
is_isolated(Oid relid)
{
	Relation	catalogue = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&keys[0], Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_policy_polname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("phi_isolation"));
	scan = systable_beginscan(catalogue, PolicyPolrelidPolnameIndexId, true, NULL, 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return found;
}

static bool
is_protected(Oid relid)
{
	char		kind = get_rel_relkind(relid);
	Oid			schema = get_rel_namespace(relid);

	if (isAnyTempNamespace(schema) || IsCatalogNamespace(schema) || IsToastNamespace(schema))
		return false;
	if (schema == our_schema() || is_ours(RelationRelationId, relid))
		return true;
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_MATVIEW)
		return false;
	return phi_has_encrypted_columns(relid) || is_audited(relid) || is_isolated(relid);
}

/* Of an object that is no relation's. */
static bool
is_in_our_room(Oid class, Oid object)
{
	AttrNumber	column;
	Relation	catalogue;
	HeapTuple	tuple;
	bool		isnull = true;
	Oid			schema = InvalidOid;

	/* The type of a table's rows, or of arrays, comes and goes with another. */
	if (class == TypeRelationId &&
		(OidIsValid(get_typ_typrelid(object)) || OidIsValid(get_element_type(object))))
		return false;
	if (is_ours(class, object))
		return true;
	if (class == NamespaceRelationId)
		return object == our_schema();
	if (!is_objectclass_supported(class) ||
		(column = get_object_attnum_namespace(class)) == InvalidAttrNumber)
		return false;
	catalogue = table_open(class, AccessShareLock);
	tuple = get_catalog_object_by_oid(catalogue, get_object_attnum_oid(class), object);
	if (HeapTupleIsValid(tuple))
		schema = DatumGetObjectId(heap_getattr(tuple, column, RelationGetDescr(catalogue), &isnull));
	table_close(catalogue, AccessShareLock);
	return !isnull && schema == our_schema();
}

bool
phi_is_our_trigger(Oid trigger)
{
	static const Part function = {
		TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, Anum_pg_trigger_tgfoid
	};
	Oid			oid = relation_of_part(&function, trigger);

	return OidIsValid(oid) && get_func_namespace(oid) == our_schema();
}

PhiSubject
phi_subject(Oid class, Oid object)
{
	PhiSubject	subject = {.relid = relation_of(class, object)};

	ObjectAddressSet(subject.object, class, object);
	if (OidIsValid(subject.relid))
	{
		char	   *name = get_rel_name(subject.relid);

		if (name == NULL)
			return subject;
		subject.name = phi_qualified_name(get_namespace_name(get_rel_namespace(subject.relid)), name);
		subject.counts = is_protected(subject.relid);
	}
	else if (class != RelationRelationId && is_in_our_room(class, object))
	{
		char	   *name = getObjectIdentity(&subject.object, true);

		if (name != NULL)
			subject.name = psprintf("%s %s", getObjectTypeDescription(&subject.object, true), name);
		subject.counts = subject.name != NULL;
	}
	return subject;
}
