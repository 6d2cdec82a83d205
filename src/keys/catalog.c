/*
 * catalog.c
 *		Reading phi.data_key from C.
 *
 * Rows are read as the server reads its own catalogues: by index, under a
 * catalogue snapshot, without a look at privileges.  So decrypting works in
 * type output functions, in parallel workers and at login, and for users who
 * may not read the table.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "keys/catalog.h"

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

Oid			phi_data_key_oid = InvalidOid;

Oid
phi_relation_oid(const char *name)
{
	Oid			schema = get_namespace_oid("phi", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

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

static Datum
column(HeapTuple tuple, TupleDesc desc, int attnum, bool *isnull)
{
	return heap_getattr(tuple, attnum, desc, isnull);
}

/* The columns before "state" are NOT NULL. */
static void
read_row(HeapTuple tuple, TupleDesc desc, PhiKeyRow *row)
{
	bool		isnull;
	Datum		wrapped;

	row->identity.key_id = DatumGetInt32(column(tuple, desc, COL_KEY_ID, &isnull));
	row->identity.clinic_id = DatumGetInt32(column(tuple, desc, COL_CLINIC_ID, &isnull));
	row->identity.class = DatumGetInt16(column(tuple, desc, COL_CLASS, &isnull));
	row->identity.version = DatumGetInt32(column(tuple, desc, COL_VERSION, &isnull));
	row->identity.suite = DatumGetInt16(column(tuple, desc, COL_SUITE, &isnull));
	row->state = state_by_name(TextDatumGetCString(column(tuple, desc, COL_STATE, &isnull)));
	strlcpy(row->label,
			TextDatumGetCString(column(tuple, desc, COL_MASTER_KEY, &isnull)),
			PHI_LABEL_SIZE);
	row->wrapped_len = 0;
	wrapped = column(tuple, desc, COL_WRAPPED, &isnull);
	if (!isnull)
	{
		bytea	   *bytes = DatumGetByteaPP(wrapped);

		/* One that is too long is not copied and so does not unwrap. */
		row->wrapped_len = VARSIZE_ANY_EXHDR(bytes);
		memcpy(row->wrapped, VARDATA_ANY(bytes),
			   Min(row->wrapped_len, PHI_WRAPPED_MAX));
	}
}

static bool
read_first(const char *index, int nkeys, ScanKey keys, PhiKeyRow *row)
{
	Oid			oid = phi_relation_oid("data_key");
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	if (!OidIsValid(oid))
		return false;
	phi_data_key_oid = oid;
	rel = table_open(oid, AccessShareLock);
	scan = systable_beginscan(rel, phi_relation_oid(index), true, NULL, nkeys, keys);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		read_row(tuple, RelationGetDescr(rel), row);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

bool
phi_read_key(int32 key_id, PhiKeyRow *row)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_KEY_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(key_id));
	return read_first("data_key_pkey", 1, &key, row);
}

/* The index is partial: its rows are those in state active. */
bool
phi_read_active_key(int32 clinic_id, int class, PhiKeyRow *row)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], COL_CLINIC_ID, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(clinic_id));
	ScanKeyInit(&keys[1], COL_CLASS, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(class));
	return read_first("data_key_active", 2, keys, row);
}

bool
phi_read_last_key(PhiKeyRow *row)
{
	Relation	rel = table_open(phi_relation_oid("data_key"), AccessShareLock);
	Relation	index = index_open(phi_relation_oid("data_key_pkey"), AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(rel, index, NULL, 0, NULL);
	HeapTuple	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
		read_row(tuple, RelationGetDescr(rel), row);
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}
