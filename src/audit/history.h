/*
 * history.h
 *		Old versions of rows, in the history of their table.
 */
#ifndef PHI_AUDIT_HISTORY_H
#define PHI_AUDIT_HISTORY_H

#include "access/htup.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

typedef struct PhiHistory PhiHistory;

/*
 * The history that the trigger of "root" names by its arguments, for rows of
 * "rel", which is the table itself or one of its partitions; NULL: none is kept.
 * "key" are the columns of rel's primary key.  In the current memory context.
 */
extern PhiHistory *phi_describe_history(Relation rel, Oid root, int nargs, char **args,
										int key_columns, const AttrNumber *key);

extern Oid	phi_history_relation(const PhiHistory *history);
extern const char *phi_history_name(const PhiHistory *history);
extern const char *phi_history_keys(const PhiHistory *history);
extern TimestampTz phi_history_since(const PhiHistory *history);

/* Why nothing can be kept until phi.audit() is called again; NULL: it can. */
extern const char *phi_history_problem(const PhiHistory *history);

/* ERROR 55000 when there is a problem. */
extern void phi_check_history(const PhiHistory *history);

/*
 * When a command's changes end the state before them: later than those of the
 * commands before it in the transaction, in whatever order their triggers fire.
 */
extern TimestampTz phi_command_time(CommandId command);

/* The command that made a version of a row, or (ended) that updated or deleted it. */
extern CommandId phi_command_of(Relation rel, HeapTuple tuple, bool ended);

/*
 * Keeps a version of a row that has ended, with what ended it; of one that has
 * begun (INSERT) the key, and other short values that are not encrypted.
 */
extern void phi_keep_version(PhiHistory *history, const Datum *values, const bool *nulls,
							 const char *change, TimestampTz until, int64 record);

/* All rows of a table, which is locked against all others. */
extern void phi_keep_all(PhiHistory *history, Relation rel, int64 record);

#endif							/* PHI_AUDIT_HISTORY_H */
