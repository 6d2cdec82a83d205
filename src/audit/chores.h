/*
 * chores.h
 *		What a worker does in a database.  Each is called in a transaction with an
 *		active snapshot, as the extension's owner, unless it says otherwise.
 */
#ifndef PHI_AUDIT_CHORES_H
#define PHI_AUDIT_CHORES_H

/*
 * Does something in a transaction of its own with an active snapshot, or outside
 * of any; false when it failed, which is logged.
 */
extern bool phi_attempt(void (*chore) (void));
extern bool phi_attempt_outside(void (*chore) (void));

/* Keeps those that the worker is about to change for itself. */
extern void phi_remember_settings(void);

/*
 * Records that the server was stopped and started, and which settings have
 * changed, since the log was last looked after.
 */
extern void phi_note_server(void);

/*
 * Hands new checkpoints to phi.checkpoint_command; false when it failed, "more"
 * when there are others for the next time.  Makes transactions itself.
 */
extern bool phi_export_checkpoints(bool *more);

#endif							/* PHI_AUDIT_CHORES_H */
