/*
 * upgrade.c
 *		What pg_upgrade leaves undone.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

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
