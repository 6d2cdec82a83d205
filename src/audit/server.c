/*
 * server.c
 *		Records of what happened to the server while nobody was connected: that it
 *		stopped and started, and that settings are others.
 *
 * Found by comparing with what was recorded last, so that nothing is missed
 * whenever the worker comes, but a start that ended before a worker came.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "audit/chores.h"
#include "audit/events.h"
#include "audit/launcher.h"

PG_FUNCTION_INFO_V1(phi_is_secret_setting);

static char *replication_role = NULL;

void
phi_remember_settings(void)
{
	replication_role = MemoryContextStrdup(TopMemoryContext,
										   GetConfigOption("session_replication_role", false, false));
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
		phi_audit_event_write("SERVER STOP", NULL, end_of_server(start));
		phi_audit_event_write("SERVER START", NULL, psprintf("PostgreSQL %s, at %s", PG_VERSION, timestamptz_to_str(start->at)));
	}
	if (SPI_execute_with_args("UPDATE phi.audit_state SET server_start = $1", 1, types, values,
							  NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not note the start of the server");
}

/* The first look has nothing to compare with. */
static void
note_settings(bool have_settings)
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
		phi_audit_event_write("SETTING", NULL, SPI_getvalue(changes->vals[i], changes->tupdesc, 1));
	if (have_settings && n == 0)
		return;
	if (SPI_execute_with_args("UPDATE phi.audit_state SET settings = phi.audit_settings($1)", 1, types, values,
							  NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not note the settings");
}

void
phi_note_server(void)
{
	bool		isnull;
	bool		has_started;
	bool		have_settings;
	Datum		recorded;

	SPI_connect();
	if (SPI_execute("SELECT server_start, settings IS NOT NULL FROM phi.audit_state", false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read phi.audit_state");
	recorded = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	has_started = !isnull;
	have_settings = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	note_start(has_started, has_started ? DatumGetTimestampTz(recorded) : 0);
	note_settings(have_settings);
	SPI_finish();
}

/* phi.is_secret_setting(text) returns boolean */
Datum
phi_is_secret_setting(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL((GetConfigOptionFlags(name, true) & GUC_SUPERUSER_ONLY) != 0);
}
