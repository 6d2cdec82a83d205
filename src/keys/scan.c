/*
 * scan.c
 *		Reading the extension's own tables from C.
 *
 * Rows are read as the server reads its own catalogues: by index, under a
 * catalogue snapshot, without a look at privileges.  So decrypting works in
 * type output functions, in parallel workers and at login, and for users who
 * may not read the table.
 *
 * A name is not enough to trust a table: in a database of his own anybody can
 * make a schema phi with tables of any shape.  What counts is that the table
 * or index is a member of the extension.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "keys/scan.h"

#define MAX_NAMES 32

/*
 * What was looked up.  When any relation of the database changes it is looked
 * up again, but remembered until then: invalidations name the old OID.
 */
static struct
{
	const char *name;			/* a literal of our own */
	Oid			oid;
	bool		valid;
}			known[MAX_NAMES];

static int	n_known = 0;

static Oid
look_up(const char *name)
{
	Oid			extension = get_extension_oid("pg_phi", true);
	Oid			schema = get_namespace_oid("phi", true);
	Oid			oid;
	Oid			owner;

	if (!OidIsValid(extension) || !OidIsValid(schema))
		return InvalidOid;
	oid = get_relname_relid(name, schema);
	if (!OidIsValid(oid))
		return InvalidOid;
	/* An index belongs to the extension through its table. */
	owner = get_rel_relkind(oid) == RELKIND_INDEX ? IndexGetRelation(oid, true) : oid;
	return OidIsValid(owner) &&
		getExtensionOfObject(RelationRelationId, owner) == extension ? oid : InvalidOid;
}

Oid
phi_relation_oid(const char *name)
{
	int			i = 0;

	while (i < n_known && strcmp(known[i].name, name) != 0)
		i++;
	if (i < n_known && known[i].valid)
		return known[i].oid;
	if (i == MAX_NAMES)
		return look_up(name);
	if (i == n_known)
		known[n_known++].name = name;
	/* First, for looking up may find that something changes meanwhile. */
	known[i].valid = true;
	PG_TRY();
	{
		known[i].oid = look_up(name);
	}
	PG_CATCH();
	{
		known[i].valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	known[i].valid &= OidIsValid(known[i].oid);
	return known[i].oid;
}

bool
phi_concerns(Oid relid, const char *table)
{
	if (relid == InvalidOid)
		return true;
	for (int i = 0; i < n_known; i++)
	{
		if (known[i].oid == relid && strcmp(known[i].name, table) == 0)
			return true;
	}
	return false;
}

bool
phi_scan_begin(PhiScan *scan, const char *table, const char *index,
			   int nkeys, ScanKey keys)
{
	Oid			table_oid = phi_relation_oid(table);
	Oid			index_oid = phi_relation_oid(index);

	if (!OidIsValid(table_oid) || !OidIsValid(index_oid))
		return false;
	scan->rel = table_open(table_oid, AccessShareLock);
	scan->desc = systable_beginscan(scan->rel, index_oid, true, NULL, nkeys, keys);
	return true;
}

HeapTuple
phi_scan_next(PhiScan *scan)
{
	return systable_getnext(scan->desc);
}

Datum
phi_scan_column(PhiScan *scan, HeapTuple tuple, int attnum, bool *isnull)
{
	return heap_getattr(tuple, attnum, RelationGetDescr(scan->rel), isnull);
}

void
phi_scan_end(PhiScan *scan)
{
	systable_endscan(scan->desc);
	table_close(scan->rel, AccessShareLock);
}

static void
forget(Datum arg, int cacheid, uint32 hashvalue)
{
	for (int i = 0; i < n_known; i++)
		known[i].valid = false;
}

void
phi_scan_init(void)
{
	CacheRegisterSyscacheCallback(RELOID, forget, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget, (Datum) 0);
}
