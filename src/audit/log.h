/*
 * log.h
 *		What the parts of the audit log share.
 */
#ifndef PHI_AUDIT_LOG_H
#define PHI_AUDIT_LOG_H

#include "audit/merkle.h"

/* In a row of phi.audit_leaf, and below a row of phi.audit_node: complete subtrees of this height. */
#define PHI_ROW_HEIGHT 6
#define PHI_ROW_LEAVES (1 << PHI_ROW_HEIGHT)

/* "<system identifier>/<OID of the database>", palloc'ed. */
extern char *phi_audit_system_name(void);

/* palloc'ed. */
extern bytea *phi_make_bytea(const void *data, Size len);

/*
 * Visits the leaf hashes that a query gives, joined, in its first column; within
 * SPI.  phi_append_leaf is a visitor for whom it is a PhiFrontier.
 */
extern void phi_walk_leaves(const char *sql, int n, Oid *types, Datum *values,
							void (*visit) (const PhiHash *, void *), void *context);
extern void phi_append_leaf(const PhiHash *leaf, void *frontier);

/* All of them, in their order. */
#define PHI_ALL_LEAVES "SELECT hashes FROM phi.audit_leaf ORDER BY first_leaf"

/*
 * A checkpoint of the tree, unless it is the last one or there is no key to sign
 * with: it is made up for at a later pass.  Within SPI.
 */
extern bool phi_audit_sign_tree(const PhiFrontier *tree);

/* Functions that send text convert it to the client's encoding: not in "work". */
extern void phi_run_in_utf8(void (*work) (void *), void *argument);

/* Whether a relation's columns are those of records. */
extern bool phi_audit_columns_fit(Oid relid);

#endif							/* PHI_AUDIT_LOG_H */
