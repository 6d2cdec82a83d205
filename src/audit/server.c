/*
 * server.c
 *		Records of what happened to the server while nobody was connected: that it
 *		stopped and started, and that settings are others.
 *
 * Found by comparing with what was recorded last, so that nothing is missed
 * whenever the worker comes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "audit/audit.h"
#include "audit/chores.h"
#include "audit/launcher.h"

PG_FUNCTION_INFO_V1(phi_is_secret_setting);

static char *replication_role = NULL;

void
phi_remember_settings(void)
{
	replication_role = MemoryContextStrdup(TopMemoryContext,
										   GetConfigOption("session_replication_role", false, false));
}

static void
write_event(const char *operation, const char *detail)
{
	PhiAuditRecord record = {.operation = operation, .detail = detail};

	phi_audit_write(&record);
}

/* How pg_control was left. */
static char *
end_of_server(const PhiServerStart *start)
{
	const char *at = pstrdup(timestamptz_to_str(time_t_to_timestamptz(start->before_at)));

	switch (start->before)
	{
		case DB_SHUTDOWNED:
			return psprintf("shut down at %s", at);
		case DB_SHUTDOWNED_IN_RECOVERY:
			return psprintf("shut down in recovery at %s", at);
		default:
			return psprintf("not shut down cleanly; last sign of life at %s", at);
	}
}

static void
note_start(bool has_started, TimestampTz recorded)
{
	const PhiServerStart *start = phi_server_start();
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(start->at)};

	if (has_started && recorded == start->at)
		return;
	/* When there was no time to compare with, the log has just begun. */
	if (has_started)
	{
		write_event("SERVER STOP", end_of_server(start));
		write_event("SERVER START", psprintf("PostgreSQL %s, at %s", PG_VERSION, timestamptz_to_str(start->at)));
	}
	if (SPI_execute_with_args("UPDATE phi.audit_state SET server_start = $1", 1, types, values,
							  NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not note the start of the server");
}

static void
note_settings(void)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(replication_role)};
	SPITupleTable *changes;
	uint64		n;

	if (SPI_execute_with_args("SELECT c FROM phi.changed_settings($1) c", 1, types, values,
							  NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not compare the settings");
	changes = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
		write_event("SETTING", SPI_getvalue(changes->vals[i], changes->tupdesc, 1));
	if (SPI_execute_with_args("UPDATE phi.audit_state SET settings = phi.audit_settings($1) WHERE settings IS DISTINCT FROM phi.audit_settings($1)",
							  1, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not note the settings");
}

void
phi_note_server(void)
{
	bool		isnull;
	Datum		recorded;

	SPI_connect();
	if (SPI_execute("SELECT server_start FROM phi.audit_state", false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read phi.audit_state");
	recorded = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	note_start(!isnull, isnull ? 0 : DatumGetTimestampTz(recorded));
	note_settings();
	SPI_finish();
}

/* phi.is_secret_setting(text) returns boolean */
Datum
phi_is_secret_setting(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL((GetConfigOptionFlags(name, true) & GUC_SUPERUSER_ONLY) != 0);
}
