/*
 * order.h
 *		What values sort by, in the two classes of btree.
 */
#ifndef PHI_ORDER_H
#define PHI_ORDER_H

#include "utils/sortsupport.h"
#include "value/compare.h"

/* A value, as it is sorted. */
typedef struct PhiItem
{
	int32		clinic_id;
	int16		class;			/* -1: a plain value */
	bool		hidden;			/* sorts by PRF: the session may not read it */
	bool		comparable;		/* phi_may_compare_any */
	bool		dead;			/* its key is destroyed */
	bool		cut;			/* "value" is missing: too long, or not read */
	uint8		mark[PHI_MARK_BYTES];
	uint64		prf;			/* if hidden, or in the equality class */
	Datum		value;			/* of the base type, unless hidden, dead or cut */
} PhiItem;

typedef struct PhiOrder
{
	const PhiType *type;
	bool		equality;		/* the equality class, else the default class */
	bool		by_plaintext;	/* for all, whoever asks */
	SortSupportData base;		/* compares values of the base type */
	struct PhiOrder *next;
} PhiOrder;

/* What it needs is allocated in "context". */
extern void phi_init_order(PhiOrder *order, const PhiType *type, bool equality,
						   Oid collation, MemoryContext context);

/*
 * Decrypts; allocates the value, if any, in the current memory context.  With
 * "whole" false the value is cut where the PRF is enough to begin with.
 */
extern void phi_read_item(const PhiOrder *order, Datum datum, bool whole, PhiItem *item);

/* With *known false the answer 0 means only that a value was missing. */
extern int	phi_compare_items(PhiOrder *order, const PhiItem *a, const PhiItem *b, bool *known);

/* ERROR 0A000 while an index of the default class is rebuilt that is not allowed. */
extern void phi_check_rebuild(void);

#endif							/* PHI_ORDER_H */
