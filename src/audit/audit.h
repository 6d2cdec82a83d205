/*
 * audit.h
 *		The audit trail: writing a record.
 */
#ifndef PHI_AUDIT_H
#define PHI_AUDIT_H

#include "access/htup.h"
#include "utils/rel.h"

#include "crypto/crypto.h"

/*
 * What a caller knows of what happened; the rest (times, transaction, roles,
 * client, clinic) is filled in.  Never a value of a row in any of it.
 */
typedef struct PhiAuditRecord
{
	const char *operation;		/* INSERT, ALTER TABLE, GRANT ...; never NULL */
	const char *relation;		/* schema-qualified as by quote_identifier, or NULL */
	Datum		row_key;		/* text[], or 0 */
	Datum		columns;		/* text[], or 0 */
	int32		digest_key;		/* id of the key of the digests; 0: none */
	const uint8 *old_digest;	/* PHI_DIGEST_SIZE bytes, or NULL */
	const uint8 *new_digest;
	const char *detail;			/* or NULL */
} PhiAuditRecord;

/*
 * Whether there is a log that can be written: the extension is installed in
 * this database, its log was opened here, and the server is neither in recovery
 * nor being upgraded.
 */
extern bool phi_audit_ready(void);

/*
 * Writes a record in this transaction, below the executor: no right on the log
 * is needed, and none lets anybody else write it.  ERROR when it cannot: what
 * was to be recorded is then undone with it.  Returns the record's id.  Some
 * hundred bytes stay in the current memory context.
 */
extern int64 phi_audit_write(const PhiAuditRecord *record);

/* For a row that was put into a table below the executor. */
extern void phi_insert_index_entries(Relation rel, HeapTuple tuple);

extern void phi_audit_init(void);

#endif							/* PHI_AUDIT_H */
