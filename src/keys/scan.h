/*
 * scan.h
 *		Reading the extension's own tables from C.
 */
#ifndef PHI_SCAN_H
#define PHI_SCAN_H

#include "access/genam.h"
#include "access/skey.h"

/* A scan of a table of schema phi by one of its indexes. */
typedef struct PhiScan
{
	Relation	rel;
	SysScanDesc desc;
} PhiScan;

/*
 * OID of a table or index that belongs to the extension in this database;
 * InvalidOid when there is none, or only one of the same name.
 */
extern Oid	phi_relation_oid(const char *name);

/* False when the table is not there; otherwise phi_scan_end must follow. */
extern bool phi_scan_begin(PhiScan *scan, const char *table, const char *index,
						   int nkeys, ScanKey keys);
extern HeapTuple phi_scan_next(PhiScan *scan);
extern Datum phi_scan_column(PhiScan *scan, HeapTuple tuple, int attnum, bool *isnull);
extern void phi_scan_end(PhiScan *scan);

/* Whether an invalidation of "relid" may concern the table, as last seen. */
extern bool phi_concerns(Oid relid, const char *table);

extern void phi_scan_init(void);

#endif							/* PHI_SCAN_H */
