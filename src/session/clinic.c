/*
 * clinic.c
 *		The setting phi.clinic, whose check hook authorises.
 *
 * As for "role" and "session_authorization", PostgreSQL's handling of settings
 * does the rest: SET LOCAL ends with the transaction, a savepoint rolls it
 * back, DISCARD ALL resets it, ALTER ROLE and connection options give it at
 * login.  The "extra" of the setting is the session's state; assigning is no
 * more than to point at it.
 *
 * The grant is that of the session user: SET ROLE and SECURITY DEFINER change
 * nothing, and a clinic opened by one session user is not open to another
 * (SET SESSION AUTHORIZATION).
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/inval.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keys/keys.h"
#include "keys/scan.h"
#include "session/grants.h"
#include "session/session.h"

void		(*phi_before_open) (const PhiSession *session) = NULL;

static PhiSession *current = NULL;
static bool has_literals = false;

static PhiSession *
make_session(const char *code)
{
	Size		size = offsetof(PhiSession, code) + strlen(code) + 1;
	PhiSession *session = phi_guc_malloc(size);

	if (session != NULL)
	{
		memset(session, 0, size);
		strcpy(session->code, code);
	}
	return session;
}

/* Reads the grant; false with a GUC_check message when there is none. */
static bool
authorize(PhiSession *session)
{
	int32		clinic_id = phi_find_clinic(session->code);

	session->role = GetSessionUserId();
	session->epoch = phi_grants_epoch;
	if (clinic_id < 0)
	{
		GUC_check_errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
		GUC_check_errmsg("extension \"pg_phi\" is not installed in this database");
		GUC_check_errhint("Run CREATE EXTENSION pg_phi as a superuser.");
		return false;
	}
	if (clinic_id == 0)
	{
		GUC_check_errcode(ERRCODE_UNDEFINED_OBJECT);
		GUC_check_errmsg("clinic \"%s\" does not exist", session->code);
		GUC_check_errhint("A custodian makes clinics with phi.create_clinic().");
		return false;
	}
	if (phi_is_keeper(session->role))
	{
		GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
		GUC_check_errmsg("permission denied for clinic \"%s\"", session->code);
		GUC_check_errdetail("Key custodians and auditors may not open a clinic.");
		return false;
	}
	if (!phi_find_grant(session->role, clinic_id, &session->classes))
	{
		GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
		GUC_check_errmsg("permission denied for clinic \"%s\"", session->code);
		GUC_check_errdetail("Session user \"%s\" was not granted this clinic.",
							GetUserNameFromId(session->role, false));
		GUC_check_errhint("Grant it with phi.grant_clinic(). Being superuser is no grant.");
		return false;
	}
	session->clinic_id = clinic_id;
	session->open = true;
	return true;
}

bool
phi_check_clinic(char **newval, void **extra, GucSource source)
{
	PhiSession *session;

	/*
	 * ALTER ROLE ... SET: the login is what decides.  Physical replication has
	 * no database, so nothing to open.
	 */
	if (*newval == NULL || **newval == '\0' || source == PGC_S_TEST ||
		(am_walsender && !OidIsValid(MyDatabaseId)))
		return true;
	if (!InitializingParallelWorker && !IsTransactionState())
	{
		GUC_check_errmsg("phi.clinic can be set in a session only");
		return false;
	}
	/* Code of another, run by maintenance. SECURITY DEFINER may: see above. */
	if (!InitializingParallelWorker && InSecurityRestrictedOperation())
	{
		GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
		GUC_check_errmsg("phi.clinic cannot be set within a security-restricted operation");
		return false;
	}
	session = make_session(*newval);
	if (session == NULL)
		return false;
	session->source = source;
	if (!InitializingParallelWorker && !authorize(session))
	{
		phi_guc_free(session);
		return false;
	}
	if (!InitializingParallelWorker && phi_before_open != NULL)
		phi_before_open(session);
	*extra = session;
	return true;
}

/* Plans with literals of another clinic would silently find nothing. */
static void
drop_literals(const PhiSession *next)
{
	int32		before = current ? current->clinic_id : 0;
	int32		after = next ? next->clinic_id : 0;

	if (!has_literals || before == after)
		return;
	has_literals = false;
	ResetPlanCache();
}

void
phi_assign_clinic(const char *newval, void *extra)
{
	drop_literals(extra);
	current = extra;
}

/* Literals of a key that was rotated must not be stored under it any more. */
static void
keys_changed(Datum arg, Oid relid)
{
	if (!has_literals || !phi_concerns(relid, "data_key"))
		return;
	has_literals = false;
	ResetPlanCache();
}

void
phi_session_note_literal(void)
{
	has_literals = true;
}

/*
 * The session's grant may be gone, be back, or name other classes now.  In a
 * parallel worker it is read here for the first time: the setting is restored
 * there before the session user is.
 */
static void
read_grant_again(void)
{
	uint32		classes;

	if (!OidIsValid(current->role))
	{
		current->role = GetSessionUserId();
		current->clinic_id = phi_find_clinic(current->code);
	}

	current->epoch = phi_grants_epoch;
	current->open = current->clinic_id > 0 &&
		phi_find_clinic(current->code) == current->clinic_id &&
		phi_find_grant(current->role, current->clinic_id, &classes) &&
		!phi_is_keeper(current->role);
	if (current->open)
		current->classes = classes;
}

const PhiSession *
phi_session(void)
{
	/* What leaves through replication stays encrypted. */
	if (current == NULL || am_walsender || HistoricSnapshotActive())
		return NULL;
	if (unlikely(current->epoch != phi_grants_epoch))
		read_grant_again();
	return current->open && current->role == GetSessionUserId() ? current : NULL;
}

const PhiSession *
phi_require_session(const char *what)
{
	const PhiSession *session = phi_session();

	if (session == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot %s in a sealed session", what),
				 errdetail("No clinic is open."),
				 errhint("Open one that you were granted: SET phi.clinic = 'code'.")));
	return session;
}

bool
phi_session_user_has_grant(void)
{
	static uint64 epoch = 0;
	static Oid	role = InvalidOid;
	static bool answer = false;

	if (epoch != phi_grants_epoch || role != GetSessionUserId())
	{
		epoch = phi_grants_epoch;
		role = GetSessionUserId();
		answer = phi_has_any_grant(role);
	}
	return answer;
}

bool
phi_session_user_lacks(int32 clinic_id, int class)
{
	static uint64 epoch = 0;
	static Oid	role = InvalidOid;
	static int32 clinic = 0;
	static uint32 classes = 0;

	if (superuser_arg(GetSessionUserId()) || !phi_session_user_has_grant())
		return false;
	if (epoch != phi_grants_epoch || role != GetSessionUserId() || clinic != clinic_id)
	{
		uint32		granted;

		/* Who cannot open it has no use for its values. */
		if (!phi_find_grant(GetSessionUserId(), clinic_id, &granted) ||
			phi_is_keeper(GetSessionUserId()))
			granted = PHI_ALL_CLASSES;
		epoch = phi_grants_epoch;
		role = GetSessionUserId();
		clinic = clinic_id;
		classes = granted;
	}
	return !(classes & PHI_CLASS_BIT(class));
}

void
phi_session_init(void)
{
	phi_grants_init();
	CacheRegisterRelcacheCallback(keys_changed, (Datum) 0);
}
