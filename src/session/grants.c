/*
 * grants.c
 *		Reading phi.clinic and phi.clinic_grant from C.
 *
 * As in keys/catalog.c rows are read under a catalogue snapshot, so that a
 * session can be opened at login and in the middle of any query.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "keys/keys.h"
#include "session/grants.h"

/* Columns; keys.sql and session.sql have the tables. */
#define CLINIC_ID 1
#define CLINIC_CODE 2
#define GRANT_CLINIC_ID 1
#define GRANT_GRANTEE 2
#define GRANT_CLASSES 3

uint64		phi_grants_epoch = 1;

static Oid	clinic_oid = InvalidOid;
static Oid	grant_oid = InvalidOid;

/* A scan of one table by an index of it. */
typedef struct TableScan
{
	Relation	rel;
	SysScanDesc scan;
} TableScan;

static bool
begin_scan(TableScan *scan, Oid *oid, const char *table, const char *index,
		   int nkeys, ScanKey key)
{
	*oid = phi_relation_oid(table);
	if (!OidIsValid(*oid))
		return false;
	scan->rel = table_open(*oid, AccessShareLock);
	scan->scan = systable_beginscan(scan->rel,
									phi_relation_oid(index), true, NULL,
									nkeys, key);
	return true;
}

static Datum
column(TableScan *scan, HeapTuple tuple, int attnum)
{
	bool		isnull;

	return heap_getattr(tuple, attnum, RelationGetDescr(scan->rel), &isnull);
}

static void
end_scan(TableScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->rel, AccessShareLock);
}

int32
phi_find_clinic(const char *code)
{
	TableScan	scan;
	ScanKeyData key;
	HeapTuple	tuple;
	int32		found = 0;

	ScanKeyInit(&key, CLINIC_CODE, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(code));
	if (!begin_scan(&scan, &clinic_oid, "clinic", "clinic_code_key", 1, &key))
		return -1;
	tuple = systable_getnext(scan.scan);
	if (HeapTupleIsValid(tuple))
		found = DatumGetInt32(column(&scan, tuple, CLINIC_ID));
	end_scan(&scan);
	return found;
}

char *
phi_clinic_code(int32 clinic_id)
{
	TableScan	scan;
	ScanKeyData key;
	HeapTuple	tuple;
	char	   *code = NULL;

	ScanKeyInit(&key, CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	if (!begin_scan(&scan, &clinic_oid, "clinic", "clinic_pkey", 1, &key))
		return NULL;
	tuple = systable_getnext(scan.scan);
	if (HeapTupleIsValid(tuple))
		code = TextDatumGetCString(column(&scan, tuple, CLINIC_CODE));
	end_scan(&scan);
	return code;
}

bool
phi_find_grant(Oid role, int32 clinic_id, uint32 *classes)
{
	TableScan	scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found = false;

	*classes = 0;
	ScanKeyInit(&key, GRANT_CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	if (!begin_scan(&scan, &grant_oid, "clinic_grant", "clinic_grant_pkey", 1, &key))
		return false;
	while (HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
	{
		Oid			grantee = DatumGetObjectId(column(&scan, tuple, GRANT_GRANTEE));

		if (!is_member_of_role_nosuper(role, grantee))
			continue;
		*classes |= (uint32) DatumGetInt32(column(&scan, tuple, GRANT_CLASSES));
		found = true;
	}
	end_scan(&scan);
	/* What is general in a clinic is open to all who work for it. */
	*classes |= PHI_CLASS_BIT(PHI_CLASS_GENERAL);
	return found;
}

/* The smallest grantee above "above"; InvalidOid when there is none. */
static Oid
next_grantee(Oid above)
{
	TableScan	scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Oid			grantee = InvalidOid;

	ScanKeyInit(&key, GRANT_GRANTEE, BTGreaterStrategyNumber, F_OIDGT,
				ObjectIdGetDatum(above));
	if (!begin_scan(&scan, &grant_oid, "clinic_grant", "clinic_grant_grantee", 1, &key))
		return InvalidOid;
	tuple = systable_getnext(scan.scan);
	if (HeapTupleIsValid(tuple))
		grantee = DatumGetObjectId(column(&scan, tuple, GRANT_GRANTEE));
	end_scan(&scan);
	return grantee;
}

/* Grantees are few, however many clinics there are. */
bool
phi_has_any_grant(Oid role)
{
	Oid			grantee = InvalidOid;

	while (OidIsValid(grantee = next_grantee(grantee)))
	{
		if (is_member_of_role_nosuper(role, grantee))
			return true;
	}
	return false;
}

bool
phi_is_keeper(Oid role)
{
	static const char *const keepers[] = {"phi_custodian", "phi_auditor"};

	for (int i = 0; i < (int) lengthof(keepers); i++)
	{
		Oid			keeper = get_role_oid(keepers[i], true);

		if (OidIsValid(keeper) && is_member_of_role_nosuper(role, keeper))
			return true;
	}
	return false;
}

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == clinic_oid || relid == grant_oid)
		phi_grants_epoch++;
}

static void
membership_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	phi_grants_epoch++;
}

void
phi_grants_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, membership_changed, (Datum) 0);
}
