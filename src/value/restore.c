/*
 * restore.c
 *		What pg_restore and pg_upgrade leave undone.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "keys/scan.h"
#include "value/guard.h"
#include "value/value.h"

#define PATIENCE_MS 10000
#define INTERVAL_MS 50

static bool
has_keys(void)
{
	PhiScan		scan;
	bool		found;

	if (!phi_scan_begin(&scan, "data_key", "data_key_pkey", 0, NULL))
		return false;
	found = HeapTupleIsValid(phi_scan_next(&scan));
	phi_scan_end(&scan);
	return found;
}

static bool
is_restored_table(RangeVar *name)
{
	Oid			relid = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
	char		kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	Relation	table;
	bool		result;

	if (kind != RELKIND_RELATION && kind != RELKIND_MATVIEW)
		return false;
	if (!phi_has_encrypted_columns(relid))
		return false;
	table = table_open(relid, AccessShareLock);
	result = RelationGetNumberOfBlocks(table) > 0;
	table_close(table, AccessShareLock);
	return result;
}

/*
 * pg_restore --jobs knows that an index needs the rows of its table, not that
 * it needs those of phi.data_key.  It hands out rows before indexes, so they
 * are on their way: who writes them holds a lock that conflicts with ours.
 */
void
phi_await_keys(Node *command)
{
	RangeVar   *target = IsA(command, IndexStmt) ? ((IndexStmt *) command)->relation :
		IsA(command, AlterTableStmt) ? ((AlterTableStmt *) command)->relation : NULL;
	Oid			keys;

	if (target == NULL || phi_session() != NULL || !superuser() || has_keys() ||
		!is_restored_table(target))
		return;
	keys = phi_relation_oid("data_key");
	for (int waited = 0; OidIsValid(keys) && waited < PATIENCE_MS && !has_keys(); waited += INTERVAL_MS)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(INTERVAL_MS * 1000L);
		LockRelationOid(keys, ShareLock);
		UnlockRelationOid(keys, ShareLock);
	}
}

/* Arrays are analysed as their elements say: the extension's script sets that. */
static void
mend_array(Oid type)
{
	HeapTuple	element = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type row = (Form_pg_type) GETSTRUCT(element);
	HeapTuple	array = SearchSysCacheCopy1(TYPEOID, ObjectIdGetDatum(row->typarray));

	if (HeapTupleIsValid(array) &&
		((Form_pg_type) GETSTRUCT(array))->typanalyze != row->typanalyze)
	{
		Relation	types = table_open(TypeRelationId, RowExclusiveLock);

		((Form_pg_type) GETSTRUCT(array))->typanalyze = row->typanalyze;
		CatalogTupleUpdate(types, &array->t_self, array);
		table_close(types, RowExclusiveLock);
	}
	ReleaseSysCache(element);
}

/*
 * pg_upgrade makes the extension's objects one by one, without its script.  A
 * type's casts come after the type.
 */
void
phi_mend_types(Oid cast)
{
	Relation	casts;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!IsBinaryUpgrade)
		return;
	casts = table_open(CastRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_cast_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(cast));
	scan = systable_beginscan(casts, CastOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		phi_type_by_oid(((Form_pg_cast) GETSTRUCT(tuple))->castsource) != NULL)
		mend_array(((Form_pg_cast) GETSTRUCT(tuple))->castsource);
	systable_endscan(scan);
	table_close(casts, AccessShareLock);
}
