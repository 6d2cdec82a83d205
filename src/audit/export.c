/*
 * export.c
 *		phi.checkpoint_command: what brings checkpoints out of the reach of whoever
 *		rewrites the log.
 *
 * In the order of their sizes, each until the command succeeds for it; after a
 * crash it may get one again.  While no command is set checkpoints count as
 * handed on: one that is set later begins with the next.
 */
#include "postgres.h"

#include <sys/wait.h>

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "audit/chores.h"
#include "guc.h"
#include "keys/run.h"

#define TIMEOUT 30000			/* ms, for a command */
#define BURST 2000				/* ms, after which the database is left for a moment */

/* The checkpoint that is handed on; note is NULL: there is none. */
static int64 size;
static char *note = NULL;
static char database[NAMEDATALEN];
static bool accepted;

static void
read_next(void)
{
	bool		isnull;

	if (note != NULL)
		pfree(note);
	note = NULL;
	SPI_connect();
	if (SPI_execute("SELECT c.size, c.note FROM phi.audit_checkpoint c, phi.audit_state s "
					"WHERE c.size > s.exported ORDER BY c.size LIMIT 1", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read phi.audit_checkpoint");
	if (SPI_processed == 1)
	{
		size = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		note = MemoryContextStrdup(TopMemoryContext,
								   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	strlcpy(database, get_database_name(MyDatabaseId), NAMEDATALEN);
}

static void
mark(const char *sql, int64 exported)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(exported)};

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update phi.audit_state");
	SPI_finish();
}

static void
mark_exported(void)
{
	mark("UPDATE phi.audit_state SET exported = $1", size);
}

static void
mark_all(void)
{
	mark("UPDATE phi.audit_state s SET exported = c.size "
		 "FROM (SELECT max(size) AS size FROM phi.audit_checkpoint) c WHERE c.size > s.exported + $1", 0);
}

/* Names of databases may hold anything: they are not for a shell to read. */
static void
hand_on(void)
{
	PhiRun		run;

	accepted = false;
	setenv("PHI_CHECKPOINT_SIZE", psprintf(INT64_FORMAT, size), 1);
	setenv("PHI_DATABASE", database, 1);
	phi_run_with_input("checkpoints", phi_checkpoint_command, note, strlen(note), TIMEOUT, &run);
	accepted = !run.timed_out && run.status == 0;
	if (!accepted)
		ereport(WARNING,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("phi.checkpoint_command failed for checkpoint " INT64_FORMAT " of database \"%s\"",
						size, database),
				 errdetail("%s. It said: %s", run.timed_out ? "It took too long" : wait_result_to_str(run.status),
						   run.errors),
				 errhint("It is tried again, at longer and longer intervals; a reload tries at once.")));
}

bool
phi_export_checkpoints(bool *more)
{
	instr_time	begin;

	INSTR_TIME_SET_CURRENT(begin);
	*more = false;
	if (phi_checkpoint_command[0] == '\0')
		return phi_attempt(mark_all);
	for (;;)
	{
		instr_time	now;

		if (!phi_attempt(read_next))
			return false;
		if (note == NULL)
			return true;
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, begin);
		*more = INSTR_TIME_GET_MILLISEC(now) > BURST;
		if (*more)
			return true;
		if (!phi_attempt_outside(hand_on) || !accepted || !phi_attempt(mark_exported))
			return false;
	}
}
