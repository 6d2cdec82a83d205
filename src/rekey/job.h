/*
 * job.h
 *		Jobs of the background workers, as their tables hold them.
 */
#ifndef PHI_JOB_H
#define PHI_JOB_H

#include "datatype/timestamp.h"
#include "rekey/recrypt.h"
#include "storage/lock.h"

/* Blocks that a transaction rekeys, and that a lane leaves to the others. */
#define PHI_BATCH_BLOCKS 64

/* A row of phi.rekey_job. */
typedef struct PhiJob
{
	int32		job;
	bool		is_shred;		/* else a rekey */
	bool		rewrite;		/* else online */
	bool		running;		/* neither paused, cancelled nor over */
	int			workers;
	int			rate;			/* rows/s of all workers; 0: no limit */
	int			pass;			/* 0: not begun */
	PhiTarget	target;
} PhiJob;

/*
 * A row of phi.rekey_lane: one worker's share of a table in one pass.  With n
 * lanes a table's lane i does every n-th run of PHI_BATCH_BLOCKS blocks.
 */
typedef struct PhiLane
{
	int64		lane_id;
	Oid			relid;
	int			lane;
	int			lanes;
	BlockNumber next;			/* block to begin with */
	BlockNumber blocks;			/* of the table, when the pass began */
} PhiLane;

/*
 * All of these run in a transaction with a snapshot, as the extension's owner.
 * False: there is no such job.
 */
extern bool phi_read_job(int32 job, PhiJob *result);

/* Reads again what may change while the job runs: all but the target. */
extern bool phi_refresh_job(PhiJob *job);

/* Begins pass "pass", with lanes for every table, unless that is done already. */
extern void phi_begin_pass(const PhiJob *job, int pass);

/* Whether the job's pass has lanes at all, done or not. */
extern bool phi_has_lanes(const PhiJob *job);

/* List of PhiLane that are not done. */
extern List *phi_open_lanes(const PhiJob *job);

/* False when the lane is done. */
extern bool phi_read_lane(int64 lane_id, PhiLane *lane);

/* Adds what was done and moves the lane on; failures are recorded. */
extern void phi_advance_lane(const PhiJob *job, const PhiLane *lane,
							 const PhiTally *tally, bool done);

/* Sets the point from which the job's speed is reckoned. */
extern void phi_mark_start(int32 job);

/* Values encrypted again, and rows skipped, by the job's pass. */
extern void phi_found_in_pass(const PhiJob *job, int64 *values, int64 *skipped);

/* Tables in which the job's pass has moved rows. */
extern List *phi_changed_tables(const PhiJob *job);

/* Indexes in which copies of values lie that are under keys that are not active. */
extern List *phi_stale_indexes(void);

/* For phi.rekey_progress. */
extern void phi_set_phase(int32 job, const char *phase);

/* "failed" with the error, or "done". */
extern void phi_finish_job(int32 job, const char *state, const char *error);

/* Runs one of the extension's functions with the job's number. */
extern void phi_call_for_job(const char *function, int32 job);

/*
 * Session locks that tell who is at work; gone with the process.  False: it is
 * taken.
 */
extern bool phi_lock_job(int32 job);
extern bool phi_lock_lane(int64 lane_id);
extern void phi_unlock_lane(int64 lane_id);

#endif							/* PHI_JOB_H */
