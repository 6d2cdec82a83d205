/*
 * lanes.h
 *		Working through the lanes of a rekey job.
 */
#ifndef PHI_LANES_H
#define PHI_LANES_H

#include "rekey/job.h"

/*
 * Rekeys one lane to its end, batch by batch, each in a transaction of its own.
 * Ends the process when the job is paused, cancelled or has failed.
 */
extern void phi_work_lane(PhiJob *job, int64 lane_id);

/* VACUUM, outside of a transaction. */
extern void phi_vacuum_table(Oid relid);

/* REINDEX INDEX CONCURRENTLY, likewise; if it fails that is only logged. */
extern void phi_rebuild_index(Oid index);

/* Waits, unless it is told to end or to read its settings again. */
extern void phi_nap(long ms);

#endif							/* PHI_LANES_H */
