/*
 * worker.h
 *		The background processes of the audit trail.
 */
#ifndef PHI_AUDIT_WORKER_H
#define PHI_AUDIT_WORKER_H

/*
 * Records of this database were committed, or prepared to be: the worker is to
 * look.  Raises nothing and waits for nobody; called after the commit.
 */
extern void phi_audit_note_written(uint64 records);

extern void phi_audit_worker_init(void);

/* Whether this process is a worker: nobody else's SQL runs in it. */
extern bool phi_is_audit_worker(void);

#endif							/* PHI_AUDIT_WORKER_H */
