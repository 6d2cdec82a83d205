/*
 * wake.h
 *		Counts of records that wait for a worker, by database.
 */
#ifndef PHI_AUDIT_WAKE_H
#define PHI_AUDIT_WAKE_H

#include "port/atomics.h"
#include "storage/latch.h"

#define PHI_WAKE_SLOTS 256
#define PHI_WAKE_MANY 20000		/* records that are not left waiting */
#define PHI_DESKS 2				/* workers at a time */

typedef struct PhiWakeSlot
{
	pg_atomic_uint32 database;	/* 0: free */
	pg_atomic_uint64 written;	/* since the last pass began */
} PhiWakeSlot;

/* Where a worker of the order with this token leaves its report. */
typedef struct PhiDesk
{
	pg_atomic_uint32 token;
	pg_atomic_uint32 report;
} PhiDesk;

typedef struct PhiAuditShared
{
	Latch	   *volatile launcher;	/* NULL: it does not run */
	pg_atomic_uint32 overflow;	/* databases without a slot have written */
	uint32		token;			/* last one given out */
	PhiServerStart start;
	PhiDesk		desks[PHI_DESKS];
	PhiWakeSlot slots[PHI_WAKE_SLOTS];
} PhiAuditShared;

extern PhiAuditShared *phi_audit_shared;

extern void phi_wake_init(void);

#endif							/* PHI_AUDIT_WAKE_H */
