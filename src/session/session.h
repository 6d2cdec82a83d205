/*
 * session.h
 *		Who the session works for: its clinic and its data classes.
 */
#ifndef PHI_SESSION_H
#define PHI_SESSION_H

#include "utils/guc.h"

typedef struct PhiSession
{
	int32		clinic_id;
	bool		open;			/* false: the grant is gone */
	uint32		classes;		/* PHI_CLASS_BIT()s that were granted */
	Oid			role;			/* the session user whose grant it is; 0: not read yet */
	uint64		epoch;			/* of the grants when they were last read */
	GucSource	source;			/* SET, connection option, role setting */
	char		code[FLEXIBLE_ARRAY_MEMBER];
} PhiSession;

/*
 * The session's clinic; NULL when it is sealed.  Reads the grant again when
 * grants have changed, so a revocation stops a session that is at work.
 */
extern const PhiSession *phi_session(void);

/* ERROR 42501 when the session is sealed; "what" completes "cannot ...". */
extern const PhiSession *phi_require_session(const char *what);

/* Whether the session user holds a grant of any clinic. */
extern bool phi_session_user_has_grant(void);

/*
 * Whether the session user could open the clinic, but not read the class then:
 * what he does to its values now he could make use of later.
 */
extern bool phi_session_user_lacks(int32 clinic_id, int class);

/* Called before a clinic is opened; may raise an error. */
extern void (*phi_before_open) (const PhiSession *session);

/* Hooks of the setting phi.clinic. */
extern bool phi_check_clinic(char **newval, void **extra, GucSource source);
extern void phi_assign_clinic(const char *newval, void *extra);

/*
 * To be called when a literal was encrypted into a plan: the plan is good for
 * this clinic only.
 */
extern void phi_session_note_literal(void);

extern void phi_session_init(void);

#endif							/* PHI_SESSION_H */
