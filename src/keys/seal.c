/*
 * seal.c
 *		What seal.sql needs from C: sealing the server, and lifting the seal.
 *
 * The order is what counts.  The vault is closed first: from then on no process
 * gets at a master key, and none is at work with one.  Then all that hold data
 * keys are made to drop them: they noted that before they unwrapped any.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/holders.h"
#include "keys/login.h"
#include "keys/master.h"
#include "keys/vault.h"

#define PATIENCE 1000			/* ms, before a process is terminated */

PG_FUNCTION_INFO_V1(phi_login_name);
PG_FUNCTION_INFO_V1(phi_apply_seal);
PG_FUNCTION_INFO_V1(phi_lift_seal);
PG_FUNCTION_INFO_V1(phi_seal_status);

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

/* phi.lift_seal() returns boolean: whether there was anything to lift */
Datum
phi_lift_seal(PG_FUNCTION_ARGS)
{
	bool		lifted = phi_master_unlock();

	if (lifted)
		ereport(LOG,
				(errmsg("server unsealed by \"%s\"", phi_login())));
	PG_RETURN_BOOL(lifted);
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
