/*
 * worker.h
 *		The background workers that run jobs.
 */
#ifndef PHI_WORKER_H
#define PHI_WORKER_H

extern void phi_rekey_init(void);

/*
 * Settings of a background process: those that a database or role may have for
 * its sessions are not for it.
 */
extern void phi_settle_worker(void);

/* Entry point of a background worker; its argument is the job's number. */
extern PGDLLEXPORT void phi_rekey_main(Datum job);

#endif							/* PHI_WORKER_H */
