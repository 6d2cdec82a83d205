/*
 * recrypt.h
 *		Encrypting stored values again.
 */
#ifndef PHI_RECRYPT_H
#define PHI_RECRYPT_H

#include "rekey/tables.h"
#include "storage/itemptr.h"

/* Which values a job replaces. */
typedef struct PhiTarget
{
	int			n;				/* keys */
	int32	   *keys;			/* ascending */
	/* Or, with a suite: whatever was encrypted with it. */
	uint8		suite;			/* 0: by key */
	int32		clinic_id;		/* 0: any */
	int			class;			/* -1: any */
} PhiTarget;

/* A value that could not be encrypted again. */
typedef struct PhiFailure
{
	ItemPointerData tid;
	AttrNumber	attnum;			/* 0: the row as a whole */
	int32		key_id;			/* 0: not known */
	const char *error;
} PhiFailure;

/* What was done; adds up. */
typedef struct PhiTally
{
	int64		rows;			/* looked at */
	int64		updated;		/* of these */
	int64		moved;			/* of these, by an UPDATE */
	int64		values;			/* encrypted again */
	int64		skipped;		/* rows that others were at work on */
	List	   *failures;		/* of PhiFailure */
} PhiTally;

/*
 * Replaces in values[] and nulls[], a row of the table, all envelopes of the
 * target; false when there is none.  What can't be opened stays as it is and is
 * added to the failures.  ERROR when a key is not to be had.
 */
extern bool phi_recrypt_row(const PhiTable *table, const PhiTarget *target,
							ItemPointer tid, Datum *values, bool *nulls,
							PhiTally *tally);

/* Has the failures of the row that was at one place name the other. */
extern void phi_move_failures(PhiTally *tally, ItemPointer from, ItemPointer to);

/* As phi_recrypt_row, for one value of which no tid is known. */
extern Datum phi_recrypt_datum(const PhiWalk *walk, const PhiTarget *target,
							   Datum value, PhiTally *tally);

/* Whether a value holds an envelope of the target, or one that is malformed. */
extern bool phi_has_target(const PhiWalk *walk, const PhiTarget *target, Datum value);

/* Whether changes of the table are read from the WAL by logical decoding. */
extern bool phi_is_decoded(Relation rel);

/* Whether values of a table can be rekeyed in the bytes where they lie. */
extern bool phi_can_patch(Relation rel, const PhiTarget *target);

/*
 * Does so in blocks first to last - 1.  Returns the set of blocks, counted from
 * "first", that have values which must be moved.  Pages that others have pinned
 * are counted as skipped; if not "patient", their rows are to be moved too.
 */
extern Bitmapset *phi_patch_blocks(PhiTable *table, const PhiTarget *target,
								   BlockNumber first, BlockNumber last,
								   bool patient, PhiTally *tally);

/* How errors of rows are met: "bold", they are errors of the batch. */
typedef enum PhiCare
{
	PHI_BOLD,
	PHI_CAREFUL,				/* each row's are its own; some pass */
	PHI_STRICT					/* nor do those */
} PhiCare;

/*
 * Whether the error that was just raised is that of the table's own code, such
 * as the functions of its indexes, and not of ours or of the keys.
 */
extern bool phi_blame_table;

/* Others' work, that is over in a moment. */
extern bool phi_is_passing(int sqlstate);

/* The search_path that a table's own code is run with. */
extern const char *phi_default_search_path;

/*
 * Rekeys the rows of blocks first to last - 1 by updating them, in the current
 * transaction.  Rows that others have locked or changed are skipped and
 * counted.  Unless it is bold, an error in a row is a failure of that row.
 */
extern void phi_rekey_blocks(PhiTable *table, const PhiTarget *target,
							 BlockNumber first, BlockNumber last, PhiCare care,
							 PhiTally *tally);

/*
 * Gives back the room of rows that have died there, as VACUUM would, but
 * without a look at indexes.
 */
extern void phi_reclaim_blocks(Relation rel, BlockNumber first, BlockNumber last);

/*
 * Rekeys all rows by writing the table and its indexes anew; the table is
 * locked in ACCESS EXCLUSIVE MODE.
 */
extern void phi_rewrite_table(Oid relid, const PhiTarget *target, PhiTally *tally);

#endif							/* PHI_RECRYPT_H */
