/*
 * grants.c
 *		Reading phi.clinic and phi.clinic_grant from C.
 *
 * See keys/scan.c for how rows are read, so that a session can be opened at
 * login and in the middle of any query.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "compat.h"
#include "keys/keys.h"
#include "keys/scan.h"
#include "session/grants.h"

/* Columns; keys.sql and session.sql have the tables. */
#define CLINIC_ID 1
#define CLINIC_CODE 2
#define GRANT_CLINIC_ID 1
#define GRANT_GRANTEE 2
#define GRANT_CLASSES 3

uint64		phi_grants_epoch = 1;

int32
phi_find_clinic(const char *code)
{
	PhiScan		scan;
	ScanKeyData key;
	bool		isnull;
	HeapTuple	tuple;
	int32		found = 0;

	ScanKeyInit(&key, CLINIC_CODE, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(code));
	if (!phi_scan_begin(&scan, "clinic", "clinic_code_key", 1, &key))
		return -1;
	tuple = phi_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		found = DatumGetInt32(phi_scan_column(&scan, tuple, CLINIC_ID, &isnull));
	phi_scan_end(&scan);
	return found;
}

char *
phi_clinic_code(int32 clinic_id)
{
	PhiScan		scan;
	ScanKeyData key;
	bool		isnull;
	HeapTuple	tuple;
	char	   *code = NULL;

	ScanKeyInit(&key, CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	if (!phi_scan_begin(&scan, "clinic", "clinic_pkey", 1, &key))
		return NULL;
	tuple = phi_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		code = TextDatumGetCString(phi_scan_column(&scan, tuple, CLINIC_CODE, &isnull));
	phi_scan_end(&scan);
	return code;
}

/*
 * Whether who logged in made the grant in this very transaction: it counts
 * once it is committed, or a rollback would take the trace of it away.
 */
static bool
is_own_work(Oid role, HeapTuple tuple)
{
	return role == GetAuthenticatedUserId() &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

bool
phi_find_grant(Oid role, int32 clinic_id, uint32 *classes)
{
	PhiScan		scan;
	ScanKeyData key;
	bool		isnull;
	HeapTuple	tuple;
	bool		found = false;

	*classes = 0;
	ScanKeyInit(&key, GRANT_CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	if (!phi_scan_begin(&scan, "clinic_grant", "clinic_grant_pkey", 1, &key))
		return false;
	while (HeapTupleIsValid(tuple = phi_scan_next(&scan)))
	{
		Oid			grantee = DatumGetObjectId(phi_scan_column(&scan, tuple, GRANT_GRANTEE, &isnull));

		if (!is_member_of_role_nosuper(role, grantee) || is_own_work(role, tuple))
			continue;
		*classes |= (uint32) DatumGetInt32(phi_scan_column(&scan, tuple, GRANT_CLASSES, &isnull));
		found = true;
	}
	phi_scan_end(&scan);
	/* What is general in a clinic is open to all who work for it. */
	*classes |= PHI_CLASS_BIT(PHI_CLASS_GENERAL);
	return found;
}

/* The smallest grantee above "above"; InvalidOid when there is none. */
static Oid
next_grantee(Oid above)
{
	PhiScan		scan;
	ScanKeyData key;
	bool		isnull;
	HeapTuple	tuple;
	Oid			grantee = InvalidOid;

	ScanKeyInit(&key, GRANT_GRANTEE, BTGreaterStrategyNumber, F_OIDGT,
				ObjectIdGetDatum(above));
	if (!phi_scan_begin(&scan, "clinic_grant", "clinic_grant_grantee", 1, &key))
		return InvalidOid;
	tuple = phi_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		grantee = DatumGetObjectId(phi_scan_column(&scan, tuple, GRANT_GRANTEE, &isnull));
	phi_scan_end(&scan);
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
	if (phi_concerns(relid, "clinic") || phi_concerns(relid, "clinic_grant"))
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
