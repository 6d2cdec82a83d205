/*
 * chores.h
 *		What a worker does in a database.  Each is called in a transaction with an
 *		active snapshot, as the extension's owner, unless it says otherwise.
 */
#ifndef PHI_AUDIT_CHORES_H
#define PHI_AUDIT_CHORES_H

/* Before the worker's own settings: those that it will change. Needs no transaction. */
extern void phi_remember_settings(void);

/*
 * Records that the server was stopped and started, and which settings have
 * changed, since the log was last looked after.
 */
extern void phi_note_server(void);

#endif							/* PHI_AUDIT_CHORES_H */
