/*
 * provider_command.c
 *		Master keys that a shell command prints: any key management service
 *		(KMS) that has a program for the command line.
 *
 * The KMS makes and keeps the keys, under names.  The label is that name and
 * the fingerprint, so that a key which is exchanged behind its name is noticed.
 */
#include "postgres.h"

#include <sys/wait.h>

#include "lib/stringinfo.h"

#include "guc.h"
#include "keys/command.h"
#include "keys/provider.h"
#include "keys/run.h"

/* Nothing that means something to a shell, or to a program as an option. */
static bool
is_sound(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	"abcdefghijklmnopqrstuvwxyz0123456789._-";

	return name[0] != '-' && name[0] != '.' && name[0] != '\0' &&
		strlen(name) < PHI_NAME_SIZE && strspn(name, allowed) == strlen(name);
}

bool
phi_check_key_name(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0' || is_sound(*newval))
		return true;
	GUC_check_errdetail("A name has up to %d letters, digits, periods, underscores and hyphens, and begins with none of the last two signs nor a period.",
						(int) PHI_NAME_SIZE - 1);
	return false;
}

/* %k is the name, %% a percent sign. */
static char *
command_for(const char *name)
{
	StringInfoData command;

	initStringInfo(&command);
	for (const char *c = phi_key_command; *c != '\0'; c++)
	{
		if (c[0] == '%' && c[1] == 'k')
			appendStringInfoString(&command, name);
		else if (c[0] == '%' && c[1] == '%')
			appendStringInfoChar(&command, '%');
		else
		{
			appendStringInfoChar(&command, *c);
			continue;
		}
		c++;
	}
	return command.data;
}

/* Users get no more than the status: what the command says is for the log. */
static void
report_failure(const char *name, const PhiRun *run)
{
	if (run->timed_out)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("command for master key \"%s\" took too long", name),
				 errdetail("It was stopped after %d ms.", phi_key_command_timeout),
				 errdetail_log("It was stopped after %d ms. It said: %s",
							   phi_key_command_timeout, run->errors),
				 errhint("See whether the key management service answers, or raise phi.key_command_timeout.")));
	if (run->status != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("command for master key \"%s\" failed", name),
				 errdetail("%s.", wait_result_to_str(run->status)),
				 errdetail_log("%s. It said: %s", wait_result_to_str(run->status),
							   run->errors),
				 errhint("The server's log has what the command said.")));
}

static void
ask(const char *name, uint8 *key)
{
	char		output[PHI_KEY_TEXT_SIZE];
	PhiRun		run;
	PhiStatus	status;

	if (phi_key_command[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("phi.key_command is not set"),
				 errhint("Set it in postgresql.conf to a command that prints a key, and reload.")));
	PG_TRY();
	{
		phi_run(command_for(name), phi_key_command_timeout, output,
				sizeof(output), &run);
	}
	PG_CATCH();
	{
		phi_memory_wipe(output, sizeof(output));
		PG_RE_THROW();
	}
	PG_END_TRY();
	status = run.output_len > sizeof(output) ? PHI_MALFORMED :
		phi_parse_key(output, run.output_len, key);
	phi_memory_wipe(output, sizeof(output));
	report_failure(name, &run);
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("command for master key \"%s\" printed no key", name),
				 errdetail("A key is %d hexadecimal digits and a line feed; it printed %zu bytes.",
						   2 * PHI_SECRET_SIZE, run.output_len),
				 errhint("Correct phi.key_command.")));
}

static void
newest_key(char *label, uint8 *key)
{
	if (phi_key_name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("phi.key_name is not set"),
				 errhint("Set it in postgresql.conf to the name of a key that phi.key_command prints, and reload.")));
	ask(phi_key_name, key);
	phi_make_label(phi_key_name, key, label);
}

static bool
command_newest(char *label)
{
	uint8		key[PHI_SECRET_SIZE];

	newest_key(label, key);
	phi_memory_wipe(key, sizeof(key));
	return true;
}

/* The name in a label; false when it is none of ours. */
static bool
name_of(const char *label, char *name)
{
	size_t		len = strlen(label);

	if (len < PHI_FINGERPRINT_SIZE || label[len - PHI_FINGERPRINT_SIZE] != '-')
		return false;
	strlcpy(name, label, Min(len - PHI_FINGERPRINT_SIZE + 1, PHI_NAME_SIZE));
	return is_sound(name);
}

static bool
command_stored(const char *label)
{
	char		name[PHI_NAME_SIZE];

	return phi_key_command[0] != '\0' && name_of(label, name);
}

/* The label comes from a table: its name is looked at before a shell sees it. */
static void
command_fetch(const char *label, uint8 *key)
{
	char		name[PHI_NAME_SIZE];

	if (!name_of(label, name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the label of a master key that a command prints", label),
				 errhint("See whether phi.key_provider is the one that the key was made with.")));
	ask(name, key);
	phi_check_label(key, label, name);
}

/*
 * The KMS makes the keys: one that is no other than before is an error, and so
 * is another behind the same name, for then the one before is lost.
 */
static void
command_create(const char *after, char *label, uint8 *key)
{
	char		name[PHI_NAME_SIZE];

	newest_key(label, key);
	if (after != NULL && name_of(after, name) && strcmp(name, phi_key_name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("master key \"%s\" is in use already", name),
				 errhint("Make a key under another name at the key management service, set phi.key_name to it, and reload.")));
}

static List *
command_list(void)
{
	char	   *label = palloc(PHI_LABEL_SIZE);

	(void) command_newest(label);
	return list_make1(label);
}

const PhiKeyProvider phi_provider_command = {
	.name = "command",
	.newest = command_newest,
	.fetch = command_fetch,
	.available = command_stored,
	.stored = command_stored,
	.create = command_create,
	.list = command_list
};
