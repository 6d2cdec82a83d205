/*
 * table.c
 *		What writing records of a table's changes takes, kept per process.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "audit/table.h"
#include "compat.h"

static HTAB *tables = NULL;

/* The trigger that records rows; its arguments are those of phi.audit(). */
static const Trigger *
row_trigger(Relation rel, Oid function)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid == function && TRIGGER_FOR_ROW(trigger->tgtype))
			return trigger;
	}
	return NULL;
}

/* The trigger that it was cloned from, and that one's table; InvalidOid: from none. */
static Oid
parent_of(Oid trigger, Oid *relation)
{
	Relation	catalogue = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			parent = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalogue, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		parent = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		*relation = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	}
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return parent;
}

/* The table that phi.audit() was called for: partitions have clones of its trigger. */
static Oid
root_of(Relation rel, const Trigger *trigger)
{
	Oid			root = RelationGetRelid(rel);
	Oid			next = trigger != NULL ? trigger->tgoid : InvalidOid;

	while (OidIsValid(next))
		next = parent_of(next, &root);
	return root;
}

/* Types whose text is the same whatever the session's settings are. */
static bool
has_stable_text(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case UUIDOID:
		case BOOLOID:
		case OIDOID:
			return true;
		default:
			return false;
	}
}

static void
describe_key_column(PhiAuditedTable *table, Relation rel, AttrNumber attnum)
{
	PhiKeyColumn *key = &table->key[table->key_columns++];
	Oid			type = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid;
	Oid			function;
	bool		is_varlena;

	key->column = 0;
	while (phi_digester_attnum(table->digester, key->column) != attnum)
		key->column++;
	getTypeOutputInfo(type, &function, &is_varlena);
	fmgr_info(function, &key->out);
	if (!phi_digester_is_encrypted(table->digester, key->column))
		table->key_needs_settings |= !has_stable_text(type);
}

static bool
describe_key_of(PhiAuditedTable *table, Relation rel, Oid index)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	bool		primary;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	form = (Form_pg_index) GETSTRUCT(tuple);
	primary = form->indisprimary;
	if (primary)
	{
		table->key = palloc0(form->indnkeyatts * sizeof(PhiKeyColumn));
		for (int i = 0; i < form->indnkeyatts; i++)
			describe_key_column(table, rel, form->indkey.values[i]);
	}
	ReleaseSysCache(tuple);
	return primary;
}

/* The server's own cache of it leaves deferrable ones out. */
static void
describe_key(PhiAuditedTable *table, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		if (describe_key_of(table, rel, lfirst_oid(cell)))
			break;
	}
	list_free(indexes);
}

char *
phi_qualified_name(const char *schema, const char *name)
{
	bool		quote_all = quote_all_identifiers;
	char	   *result;

	quote_all_identifiers = false;
	result = quote_qualified_identifier(schema, name);
	quote_all_identifiers = quote_all;
	return result;
}

char *
phi_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return phi_qualified_name(get_namespace_name(get_rel_namespace(relid)), name);
}

static void
describe_history(PhiAuditedTable *table, Relation rel, const Trigger *trigger)
{
	AttrNumber	key[INDEX_MAX_KEYS];

	for (int i = 0; i < table->key_columns; i++)
		key[i] = phi_digester_attnum(table->digester, table->key[i].column);
	table->history = phi_describe_history(rel, table->root, trigger->tgnargs, trigger->tgargs,
										  table->key_columns, key);
	/* What is missing now may be there the next time, without a message to us. */
	if (table->history != NULL && phi_history_problem(table->history) != NULL)
		table->valid = false;
}

static void
describe_table(PhiAuditedTable *table, Relation rel, Oid function)
{
	const Trigger *trigger = row_trigger(rel, function);
	MemoryContext old = MemoryContextSwitchTo(table->context);

	table->root = root_of(rel, trigger);
	table->name = phi_relation_name(table->root);
	if (table->root == RelationGetRelid(rel))
		table->digester = phi_digester(RelationGetDescr(rel), RelationGetDescr(rel));
	else
	{
		Relation	root = table_open(table->root, AccessShareLock);

		table->digester = phi_digester(RelationGetDescr(rel), RelationGetDescr(root));
		table_close(root, AccessShareLock);
	}
	describe_key(table, rel);
	if (trigger != NULL)
		describe_history(table, rel, trigger);
	MemoryContextSwitchTo(old);
}

static void
make_tables(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(PhiAuditedTable)};

	tables = hash_create("pg_phi audited tables", 64, &control, HASH_ELEM | HASH_BLOBS);
}

PhiAuditedTable *
phi_audited_table(Relation rel, Oid function)
{
	PhiAuditedTable *table;
	bool		found;

	if (tables == NULL)
		make_tables();
	table = hash_search(tables, &RelationGetRelid(rel), HASH_ENTER, &found);
	if (found && table->valid)
		return table;
	if (!found)
		memset((char *) table + sizeof(table->relid), 0, sizeof(PhiAuditedTable) - sizeof(table->relid));
	/* The old one may be in use, by a change that made this one happen. */
	if (table->context != NULL)
		MemoryContextSetParent(table->context, TopTransactionContext);
	table->context = AllocSetContextCreate(TopMemoryContext, "pg_phi audited table",
										   ALLOCSET_SMALL_SIZES);
	memset((char *) table + offsetof(PhiAuditedTable, root), 0,
		   sizeof(PhiAuditedTable) - offsetof(PhiAuditedTable, root));
	/* First, for looking up may find that something changes meanwhile. */
	table->valid = true;
	PG_TRY();
	{
		describe_table(table, rel, function);
	}
	PG_CATCH();
	{
		table->valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return table;
}

/* Whoever writes need have no right on the schema. */
bool
phi_refuses_insert(Relation rel)
{
	Oid			schema = get_namespace_oid("phi", true);

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Oid			function = rel->trigdesc->triggers[i].tgfoid;

		if (get_func_namespace(function) == schema &&
			strcmp(get_func_name(function), "refuse_insert") == 0)
			return true;
	}
	return false;
}

PhiAuditedTable *
phi_find_audited_table(Relation rel)
{
	List	   *name = list_make2(makeString("phi"), makeString("audit_change"));
	Oid			function = LookupFuncName(name, 0, NULL, false);

	return row_trigger(rel, function) != NULL ? phi_audited_table(rel, function) : NULL;
}

static void
forget(Oid relid)
{
	HASH_SEQ_STATUS scan;
	PhiAuditedTable *table;

	if (tables == NULL)
		return;
	hash_seq_init(&scan, tables);
	while ((table = hash_seq_search(&scan)) != NULL)
	{
		if (relid == InvalidOid || relid == table->relid || relid == table->root ||
			(table->history != NULL && relid == phi_history_relation(table->history)))
			table->valid = false;
	}
}

static void
forget_relation(Datum arg, Oid relid)
{
	forget(relid);
}

static void
forget_all(Datum arg, int cacheid, uint32 hashvalue)
{
	forget(InvalidOid);
}

void
phi_audited_tables_init(void)
{
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_all, (Datum) 0);
}
