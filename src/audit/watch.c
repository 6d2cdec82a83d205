/*
 * watch.c
 *		Records of other roles and of other settings, however they came about.
 *
 * SET ROLE is also set_config(), a connection option, ALTER ROLE ... SET.  So
 * nothing listens for commands: what is now is compared with what was seen last,
 * before and after each of them.  That takes a comparison of some integers.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"

#include "audit/audit.h"
#include "audit/events.h"
#include "audit/table.h"
#include "compat.h"

#define MAX_WATCHED 32

/* What superusers set for a session, and would turn our triggers off with. */
static struct config_generic *watched[MAX_WATCHED];
static int	n_watched = 0;

/* What was seen last. */
typedef struct Seen
{
	Oid			session;
	Oid			role;
	struct
	{
		bool		known;		/* false: its value at login, from the client or role */
		int			value;
		GucSource	source;
	}			settings[MAX_WATCHED];
} Seen;

static Seen seen;
static bool started = false;
static bool committed = false;	/* SET LOCAL is about to end */

/* What was seen before the first change of each subtransaction. */
typedef struct Mark
{
	int			level;
	Seen		before;
} Mark;

static Mark *marks = NULL;
static int	n_marks = 0;
static int	max_marks = 0;

static int
value_of(const struct config_generic *setting)
{
	switch (setting->vartype)
	{
		case PGC_BOOL:
			return *((const struct config_bool *) setting)->variable;
		case PGC_INT:
			return *((const struct config_int *) setting)->variable;
		case PGC_ENUM:
			return *((const struct config_enum *) setting)->variable;
		case PGC_REAL:
			return (int) hash_bytes((const unsigned char *) ((const struct config_real *) setting)->variable,
									sizeof(double));
		case PGC_STRING:
			{
				const char *string = *((const struct config_string *) setting)->variable;

				return string == NULL ? 0 : (int) hash_bytes((const unsigned char *) string, strlen(string));
			}
	}
	return 0;
}

/* NULL when the number does not tell it. */
static const char *
text_of(struct config_generic *setting, int value)
{
	switch (setting->vartype)
	{
		case PGC_BOOL:
			return value ? "on" : "off";
		case PGC_INT:
			return psprintf("%d", value);
		case PGC_ENUM:
			return config_enum_lookup_by_value((struct config_enum *) setting, value);
		default:
			return NULL;
	}
}

static bool
is_watched(const struct config_generic *setting)
{
	if (setting->context != PGC_SUSET)
		return false;
	return strncmp(setting->name, "phi.", 4) == 0 ||
		strcmp(setting->name, "session_replication_role") == 0 ||
		strcmp(setting->name, "allow_system_table_mods") == 0;
}

/* Workers are started with it. */
static bool
is_harmless(const struct config_generic *setting)
{
	return strcmp(setting->name, "session_replication_role") == 0 &&
		SessionReplicationRole == SESSION_REPLICATION_ROLE_ORIGIN;
}

static void
see_roles(void)
{
	seen.session = GetSessionUserId();
	seen.role = GetOuterUserId();
}

static void
see_settings(void)
{
	for (int i = 0; i < n_watched; i++)
	{
		seen.settings[i].value = value_of(watched[i]);
		seen.settings[i].source = watched[i]->source;
		seen.settings[i].known = true;
	}
}

static void
start_watch(void)
{
	Oid			login = GetAuthenticatedUserId();
	int			n;
	struct config_generic **all = PhiSettings(&n);

	for (int i = 0; i < n; i++)
	{
		if (!is_watched(all[i]))
			continue;
		if (n_watched == MAX_WATCHED)
			elog(ERROR, "too many settings to watch");
		watched[n_watched++] = all[i];
	}
	see_settings();
	for (int i = 0; i < n_watched; i++)
		seen.settings[i].known = watched[i]->source < PGC_S_DATABASE || is_harmless(watched[i]);
	seen.session = seen.role = OidIsValid(login) ? login : GetSessionUserId();
	started = true;
}

/* What SET LOCAL set is given back after the last call for transactions, and before this. */
static void
after_transaction(void *arg)
{
	if (!committed)
		return;
	see_roles();
	see_settings();
	committed = false;
}

/* To be called before what was seen is changed. */
static void
mark(void)
{
	int			level = GetCurrentTransactionNestLevel();

	if (n_marks > 0 && marks[n_marks - 1].level >= level)
		return;
	if (n_marks == 0)
	{
		MemoryContextCallback *callback = MemoryContextAllocZero(TopTransactionContext,
																 sizeof(MemoryContextCallback));

		callback->func = after_transaction;
		MemoryContextRegisterResetCallback(TopTransactionContext, callback);
	}
	if (n_marks == max_marks)
	{
		int			size = max_marks == 0 ? 4 : 2 * max_marks;

		marks = max_marks == 0 ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Mark)) :
			repalloc(marks, size * sizeof(Mark));
		max_marks = size;
	}
	marks[n_marks].level = level;
	marks[n_marks++].before = seen;
}

static const char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name != NULL ? phi_qualified_name(NULL, name) : psprintf("%u", role);
}

static void
note_role(void)
{
	Oid			session = GetSessionUserId();
	Oid			role = GetOuterUserId();
	bool		is_session = session != seen.session;
	Oid			from = is_session ? seen.session : seen.role;

	mark();
	seen.session = session;
	seen.role = role;
	if (!phi_audit_ready())
		return;
	phi_audit_event_write(is_session ? "SET SESSION AUTHORIZATION" : "SET ROLE", NULL,
						  psprintf("from %s to %s", role_name(from), role_name(is_session ? session : role)));
	if (is_session && role != session)
		phi_audit_event_write("SET ROLE", NULL,
							  psprintf("from %s to %s", role_name(session), role_name(role)));
}

static void
note_setting(int i)
{
	struct config_generic *setting = watched[i];
	bool		told = phi_may_tell_setting(setting->name);
	bool		known = seen.settings[i].known;
	const char *old = told && known ? text_of(setting, seen.settings[i].value) : NULL;
	const char *new = told ? text_of(setting, value_of(setting)) : NULL;
	/* A reload of the configuration is for the worker to tell. */
	bool		is_reload = known && setting->source < PGC_S_DATABASE &&
		seen.settings[i].source < PGC_S_DATABASE;

	if (!is_reload)
		mark();
	seen.settings[i].known = true;
	seen.settings[i].value = value_of(setting);
	seen.settings[i].source = setting->source;
	if (is_reload || !phi_audit_ready())
		return;
	if (new == NULL)
		phi_audit_event_write("SETTING", NULL, psprintf("%s: changed", setting->name));
	else if (old == NULL)
		phi_audit_event_write("SETTING", NULL, psprintf("%s: %s at login", setting->name, new));
	else
		phi_audit_event_write("SETTING", NULL, psprintf("%s: %s -> %s", setting->name, old, new));
}

void
phi_watch(void)
{
	if (IsParallelWorker() || IsInParallelMode() || !IsTransactionState() ||
		!OidIsValid(MyDatabaseId))
		return;
	if (!started)
		start_watch();
	if (GetSessionUserId() != seen.session || GetOuterUserId() != seen.role)
		note_role();
	for (int i = 0; i < n_watched; i++)
	{
		if (!seen.settings[i].known || value_of(watched[i]) != seen.settings[i].value)
			note_setting(i);
	}
}

/* An error gives back what it was before; the record is gone as well. */
static void
at_transaction(XactEvent event, void *arg)
{
	if (n_marks == 0 ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT))
		return;
	if (event == XACT_EVENT_ABORT)
		seen = marks[0].before;
	else
		committed = true;
	n_marks = 0;
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId me, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (n_marks == 0 || marks[n_marks - 1].level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		seen = marks[--n_marks].before;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		if (n_marks > 1 && marks[n_marks - 2].level == level - 1)
			n_marks--;
		else
			marks[n_marks - 1].level = level - 1;
	}
}

void
phi_watch_init(void)
{
	RegisterXactCallback(at_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
}
