/*
 * seal.c
 *		What seal.sql needs from C: sealing the server, and lifting the seal.
 *
 * The order is what counts.  The vault is closed first: from then on no process
 * gets at a master key, and none is at work with one.  Then all that hold data
 * keys are made to drop them: they noted that before they unwrapped any.
 *
 * The seal is lifted when the transaction commits, so that there is a trace of
 * who did and who approved.  Then nothing may raise an error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "keys/holders.h"
#include "keys/login.h"
#include "keys/marker.h"
#include "keys/master.h"
#include "keys/seal.h"
#include "keys/vault.h"

#define PATIENCE 1000			/* ms, before a process is terminated */

PG_FUNCTION_INFO_V1(phi_login_name);
PG_FUNCTION_INFO_V1(phi_apply_seal);
PG_FUNCTION_INFO_V1(phi_lift_seal);
PG_FUNCTION_INFO_V1(phi_seal_status);

/* What is to be done when the transaction commits; newest first. */
typedef struct Lifting
{
	SubTransactionId subid;
	uint64		epoch;			/* a later phi.seal() is what counts */
	char		by[NAMEDATALEN];
	List	   *ready;			/* of PhiReadyKey */
	struct Lifting *next;
} Lifting;

static Lifting *liftings = NULL;

/* Who logged in, whatever SET SESSION AUTHORIZATION made of him. */
const char *
phi_login(void)
{
	Oid			role = GetAuthenticatedUserId();

	return GetUserNameFromId(OidIsValid(role) ? role : GetSessionUserId(), false);
}

/* phi.login_name() returns name */
Datum
phi_login_name(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(namein, CStringGetDatum(phi_login()));
}

/*
 * phi.apply_seal() returns integer
 *
 * Not undone by a rollback.
 */
Datum
phi_apply_seal(PG_FUNCTION_ARGS)
{
	const char *by = phi_login();
	bool		durable = phi_vault_close(by);
	int			left;

	if (!durable)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("the seal will not outlive the server: could not write file \"pg_phi.sealed\": %m"),
				 errhint("Make room in the data directory and call phi.seal() again.")));
	ereport(LOG,
			(errmsg("server sealed by \"%s\"", by)));
	/* Whoever up the stack is at work with a key gets an error. */
	phi_crypto_wipe();
	phi_keys_note_holding(0);
	left = phi_keys_recall(PATIENCE);
	if (left > 0)
		ereport(WARNING,
				(errmsg_plural("%d process may still hold keys",
							   "%d processes may still hold keys", left, left),
				 errdetail("They were told to end and have not done so yet."),
				 errhint("Call phi.seal() again, or stop the server.")));
	PG_RETURN_INT32(left);
}

static void
report_unsealing(PhiUnsealing result, const char *by)
{
	switch (result)
	{
		case PHI_UNSEALED_FOR_NOW:
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("the server may be sealed again if the machine crashes: could not sync its data directory: %m"),
					 errdetail("It is unsealed now."),
					 errhint("Look after the file system of the data directory.")));
			/* FALLTHROUGH */
		case PHI_UNSEALED:
			ereport(LOG,
					(errmsg("server unsealed by \"%s\"", by)));
			break;
		case PHI_SEALED_ANEW:
			ereport(WARNING,
					(errmsg("the server stays sealed"),
					 errdetail("phi.seal() was called after phi.unseal(), before that was committed.")));
			break;
		case PHI_STAYS_SEALED:
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("the server stays sealed: could not remove the file that seals it: %m"),
					 errhint("Remove \"pg_phi.sealed\" in the data directory, then call phi.unseal() again.")));
			break;
	}
}

static void
lift(const Lifting *lifting)
{
	ListCell   *cell;

	foreach(cell, lifting->ready)
	{
		const PhiReadyKey *key = lfirst(cell);

		/* Otherwise another process was faster, or the server was sealed. */
		(void) phi_vault_combine(key->label, key->threshold, true);
	}
	report_unsealing(phi_vault_unseal(lifting->epoch), lifting->by);
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (liftings == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot prepare a transaction that unseals the server")));
			break;
		case XACT_EVENT_COMMIT:
			/* The newest: it knows of all shares that were given. */
			lift(liftings);
			liftings = NULL;
			break;
		case XACT_EVENT_ABORT:
			liftings = NULL;
			break;
		default:
			break;
	}
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId mine,
				   SubTransactionId parent, void *arg)
{
	for (Lifting *l = liftings; l != NULL && l->subid == mine; l = l->next)
	{
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			l->subid = parent;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			liftings = l->next;
	}
}

void
phi_seal_init(void)
{
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_subtransaction, NULL);
}

static void
check_removable(void)
{
	if (!phi_marker_removable())
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove the file that seals the server: %m"),
				 errdetail("The server stays sealed."),
				 errhint("Give the server's user the right to write its data directory.")));
}

/*
 * phi.lift_seal() returns boolean: whether there is anything to lift, when the
 * transaction commits
 */
Datum
phi_lift_seal(PG_FUNCTION_ARGS)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	uint64		epoch = phi_vault_epoch();
	List	   *ready = phi_master_ready();
	bool		sealed = phi_vault_sealed(NULL);

	if (sealed)
		check_removable();
	if (sealed || ready != NIL)
	{
		Lifting    *lifting = palloc(sizeof(Lifting));

		lifting->subid = GetCurrentSubTransactionId();
		lifting->epoch = epoch;
		strlcpy(lifting->by, phi_login(), NAMEDATALEN);
		lifting->ready = ready;
		lifting->next = liftings;
		liftings = lifting;
	}
	MemoryContextSwitchTo(caller);
	PG_RETURN_BOOL(sealed || ready != NIL);
}

/*
 * phi.seal_status(OUT sealed boolean, OUT since timestamptz, OUT by name,
 *				   OUT provider text, OUT given integer, OUT threshold integer)
 */
Datum
phi_seal_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[6] = {0};
	bool		nulls[6] = {false, true, true, false, true, true};
	PhiSeal		seal;
	bool		sealed = phi_vault_sealed(&seal);
	int			given;
	int			threshold;
	bool		locked = phi_master_locked(&given, &threshold);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(sealed || locked);
	if (sealed || locked)
	{
		/* Custodians' keys are locked since the start. */
		values[1] = TimestampTzGetDatum(!sealed ? PgStartTime :
										time_t_to_timestamptz(seal.since));
		nulls[1] = sealed && seal.since == 0;
	}
	if (sealed && seal.by[0] != '\0')
	{
		values[2] = DirectFunctionCall1(namein, CStringGetDatum(seal.by));
		nulls[2] = false;
	}
	values[3] = CStringGetTextDatum(phi_master_provider());
	if (threshold > 0)
	{
		values[4] = Int32GetDatum(given);
		values[5] = Int32GetDatum(threshold);
		nulls[4] = nulls[5] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
