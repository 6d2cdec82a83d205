/*
 * tables.h
 *		The tables of this database that hold encrypted values.
 */
#ifndef PHI_TABLES_H
#define PHI_TABLES_H

#include "nodes/pg_list.h"
#include "value/walk.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A column with encrypted values, or with arrays or composites of such. */
typedef struct PhiTableColumn
{
	AttrNumber	attnum;
	PhiWalk    *walk;
} PhiTableColumn;

typedef struct PhiTable
{
	Relation	rel;
	int			n;				/* columns with encrypted values */
	PhiTableColumn *columns;
	AttrNumber	last;			/* greatest of their numbers */
} PhiTable;

/* palloc'ed; its n is 0 for a table without such columns. */
extern PhiTable *phi_describe_table(Relation rel);

/*
 * OIDs of all tables, partitions and materialized views that hold encrypted
 * values: what has storage of its own, except temporary tables, which only
 * their session can read.
 */
extern List *phi_protected_tables(void);

/* How often each key is used, by table and column. */
typedef struct PhiUse
{
	int32		key_id;			/* 0: malformed, or of no known key */
	Oid			relid;
	AttrNumber	attnum;
	int64		values;
} PhiUse;

/*
 * List of PhiUse, of all tables in one snapshot, which is taken when they are
 * locked: a row that moves from one to another is counted, and TRUNCATE, which
 * heeds no snapshot, waits.
 */
extern List *phi_count_uses(void);

/* The same of one table. */
extern List *phi_count_table(Relation rel, Snapshot snapshot);

#endif							/* PHI_TABLES_H */
