/*
 * protect.h
 *		Converting a table's columns while it is in use.
 */
#ifndef PHI_PROTECT_H
#define PHI_PROTECT_H

#include "access/genam.h"
#include "access/htup.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "protect/convert.h"

/* The table of a job and its shadow, opened. */
typedef struct PhiPair
{
	Relation	from;
	Relation	shadow;
	PhiConverter *converter;
} PhiPair;

/*
 * Opens both, the table for reading.  False, with nothing opened, when the
 * table's file is not "filenode" any more: what was copied is of no use then.
 */
extern bool phi_open_pair(PhiPair *pair, Oid from, Oid shadow, Oid filenode,
						  const char *clinic_column);
extern void phi_close_pair(PhiPair *pair);

/* Changed keys of a table's rows, as the trigger has logged them. */
typedef struct PhiChanges
{
	int			rows;			/* of the log */
	ItemPointerData *tids;
	int			n;				/* different keys */
	MinimalTuple *keys;
} PhiChanges;

/* Those that the snapshot sees; in the current memory context. */
extern PhiChanges *phi_read_changes(int32 job, Snapshot snapshot);
extern void phi_delete_changes(const PhiChanges *changes);

/* A unique index of the table by which its rows are told apart. */
typedef struct PhiKeySearch
{
	Relation	index;			/* of the relation that is searched */
	Relation	rel;
	int			n;				/* columns of the key */
	ScanKeyData keys[INDEX_MAX_KEYS];
	TupleTableSlot *key;		/* a logged key */
	TupleTableSlot *row;		/* what was found */
	IndexScanDesc scan;
} PhiKeySearch;

/* "like": the columns of the key are those of this index of "table". */
extern PhiKeySearch *phi_begin_search(Relation rel, Oid index, Relation table, Oid like,
									  Snapshot snapshot);
extern void phi_search_key(PhiKeySearch *search, MinimalTuple key);
extern TupleTableSlot *phi_next_match(PhiKeySearch *search);
extern void phi_end_search(PhiKeySearch *search);

/* Sums over the plain content of rows, whatever their order. */
typedef struct PhiSums
{
	int64		rows;
	int64		unknown;		/* rows whose clinic is not known; not in the sums */
	uint64		sum[2];
} PhiSums;

/* Of the table as of the snapshot, and of its shadow as it is now. */
extern void phi_sum_pair(PhiPair *pair, Snapshot snapshot, PhiSums *table, PhiSums *shadow);

#endif							/* PHI_PROTECT_H */
