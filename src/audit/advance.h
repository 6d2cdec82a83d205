/*
 * advance.h
 *		Sequencing the audit log.
 */
#ifndef PHI_AUDIT_ADVANCE_H
#define PHI_AUDIT_ADVANCE_H

/*
 * One sequencing pass and, when there is something new, a checkpoint, in the
 * caller's transaction.  Does nothing in a database whose log is not open.
 * Returns whether there is a new checkpoint; *pending: whether committed records
 * are left because older transactions still run.
 */
extern bool phi_audit_advance(bool *pending);

#endif							/* PHI_AUDIT_ADVANCE_H */
