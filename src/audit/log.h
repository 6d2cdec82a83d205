/*
 * log.h
 *		What the parts of the audit log share.
 */
#ifndef PHI_AUDIT_LOG_H
#define PHI_AUDIT_LOG_H

/* "<system identifier>/<OID of the database>", palloc'ed. */
extern char *phi_audit_system_name(void);

/*
 * A checkpoint of the tree as phi.audit_state has it, unless it is the last one
 * or there is no key to sign with: it is made up for at a later pass.  Within SPI.
 */
extern bool phi_audit_sign_tree(void);

/* Functions that send text convert it to the client's encoding: not in "work". */
extern void phi_run_in_utf8(void (*work) (void *), void *argument);

/* Whether a relation's columns are those of records. */
extern bool phi_audit_columns_fit(Oid relid);

#endif							/* PHI_AUDIT_LOG_H */
