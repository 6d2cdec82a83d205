/*
 * catalog.c
 *		Reading phi.data_key from C.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "compat.h"
#include "keys/catalog.h"
#include "keys/scan.h"

/* Columns of phi.data_key; keys.sql has the table. */
enum
{
	COL_KEY_ID = 1,
	COL_CLINIC_ID,
	COL_CLASS,
	COL_VERSION,
	COL_SUITE,
	COL_STATE,
	COL_MASTER_KEY,
	COL_WRAPPED
};

static const char *const state_names[] = {
	"active", "retired", "compromised", "destroyed"
};

/* As PhiKeyState; what is unknown decrypts nothing. */
static PhiKeyState
state_by_name(const char *name)
{
	for (int i = 0; i < (int) lengthof(state_names); i++)
	{
		if (strcmp(state_names[i], name) == 0)
			return (PhiKeyState) i;
	}
	return PHI_KEY_DESTROYED;
}

/* The columns before "wrapped" are NOT NULL. */
static void
read_row(PhiScan *scan, HeapTuple tuple, PhiKeyRow *row)
{
	bool		isnull;
	Datum		value;

	row->identity.key_id = DatumGetInt32(phi_scan_column(scan, tuple, COL_KEY_ID, &isnull));
	row->identity.clinic_id = DatumGetInt32(phi_scan_column(scan, tuple, COL_CLINIC_ID, &isnull));
	row->identity.class = DatumGetInt16(phi_scan_column(scan, tuple, COL_CLASS, &isnull));
	row->identity.version = DatumGetInt32(phi_scan_column(scan, tuple, COL_VERSION, &isnull));
	row->identity.suite = DatumGetInt16(phi_scan_column(scan, tuple, COL_SUITE, &isnull));
	value = phi_scan_column(scan, tuple, COL_STATE, &isnull);
	row->state = state_by_name(TextDatumGetCString(value));
	value = phi_scan_column(scan, tuple, COL_MASTER_KEY, &isnull);
	strlcpy(row->label, TextDatumGetCString(value), PHI_LABEL_SIZE);
	row->wrapped_len = 0;
	value = phi_scan_column(scan, tuple, COL_WRAPPED, &isnull);
	if (!isnull)
	{
		bytea	   *bytes = DatumGetByteaPP(value);

		/* One that is too long is not copied and so does not unwrap. */
		row->wrapped_len = VARSIZE_ANY_EXHDR(bytes);
		memcpy(row->wrapped, VARDATA_ANY(bytes),
			   Min(row->wrapped_len, PHI_WRAPPED_MAX));
	}
}

bool
phi_read_key(int32 key_id, PhiKeyRow *row)
{
	ScanKeyData key;
	PhiScan		scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, COL_KEY_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(key_id));
	if (!phi_scan_begin(&scan, "data_key", "data_key_pkey", 1, &key))
		return false;
	tuple = phi_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		read_row(&scan, tuple, row);
	phi_scan_end(&scan);
	return HeapTupleIsValid(tuple);
}

/* The index has active keys only, but ignore_system_indexes bypasses it. */
bool
phi_read_active_key(int32 clinic_id, int class, PhiKeyRow *row)
{
	ScanKeyData keys[2];
	PhiScan		scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], COL_CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	ScanKeyInit(&keys[1], COL_CLASS, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(class));
	if (!phi_scan_begin(&scan, "data_key", "data_key_active", 2, keys))
		return false;
	while (!found && HeapTupleIsValid(tuple = phi_scan_next(&scan)))
	{
		read_row(&scan, tuple, row);
		found = row->state == PHI_KEY_ACTIVE;
	}
	phi_scan_end(&scan);
	return found;
}

/* New keys have the greatest number; destroyed ones stay with an old label. */
bool
phi_read_last_key(PhiKeyRow *row)
{
	PhiScan		scan;
	Relation	index;
	HeapTuple	tuple;
	bool		found = false;

	if (!OidIsValid(phi_relation_oid("data_key")))
		return false;
	scan.rel = table_open(phi_relation_oid("data_key"), AccessShareLock);
	index = index_open(phi_relation_oid("data_key_pkey"), AccessShareLock);
	scan.desc = systable_beginscan_ordered(scan.rel, index, NULL, 0, NULL);
	while (!found &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan.desc, BackwardScanDirection)))
	{
		read_row(&scan, tuple, row);
		found = row->state != PHI_KEY_DESTROYED;
	}
	systable_endscan_ordered(scan.desc);
	index_close(index, AccessShareLock);
	table_close(scan.rel, AccessShareLock);
	return found;
}
