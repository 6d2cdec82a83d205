/*
 * guc.c
 *		Every setting of the extension.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "compat.h"
#include "crypto/crypto.h"
#include "guc.h"
#include "keys/command.h"
#include "session/session.h"

int			phi_suite = 1;
int			phi_key_provider = PHI_PROVIDER_FILE;
char	   *phi_key_directory = NULL;
char	   *phi_key_command = NULL;
char	   *phi_key_name = NULL;
int			phi_key_command_timeout = 30000;
int			phi_custodian_threshold = 2;
int			phi_keyring_size = 1000;
int			phi_compress_above = 1024;
int			phi_hidden_value = PHI_HIDDEN_ERROR;
int			phi_result_as_base = PHI_RESULT_AUTO;
bool		phi_allow_ordered_index = false;
bool		phi_allow_core_dumps = false;
bool		phi_require_approval = false;
int			phi_approval_timeout = 3600;
int			phi_rotation_interval = 365 * 24 * 60;
int			phi_checkpoint_interval = 10000;
char	   *phi_checkpoint_command = NULL;
int			phi_audit_volume_limit = 0;

static char *clinic = NULL;
static char *audit_origin = NULL;	/* read by audit/log.sql */

/* Filled from the table of suites; the values are their ids. */
static struct config_enum_entry suites[PHI_SUITE_MAX + 1];

static const struct config_enum_entry providers[] = {
	{"file", PHI_PROVIDER_FILE, false},
	{"command", PHI_PROVIDER_COMMAND, false},
	{"custodian", PHI_PROVIDER_CUSTODIAN, false},
	{NULL, 0, false}
};

static const struct config_enum_entry hidden_values[] = {
	{"error", PHI_HIDDEN_ERROR, false},
	{"null", PHI_HIDDEN_NULL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry results_as_base[] = {
	{"auto", PHI_RESULT_AUTO, false},
	{"on", PHI_RESULT_ON, false},
	{"off", PHI_RESULT_OFF, false},
	{NULL, 0, false}
};

/* What an application or a role may set. */
static void
define_session_settings(void)
{
	/* Authorises: see check_clinic.  Never in a file, where nobody logs in. */
	DefineCustomStringVariable("phi.clinic",
							   "The clinic whose values the session reads and writes.",
							   "Accepted only if the session user was granted it with phi.grant_clinic(). Empty: the session is sealed.",
							   &clinic, "", PGC_USERSET,
							   GUC_DISALLOW_IN_FILE,
							   phi_check_clinic, phi_assign_clinic, NULL);
	DefineCustomEnumVariable("phi.hidden_value",
							 "What a value of a class that the session does not hold reads as.",
							 NULL, &phi_hidden_value, PHI_HIDDEN_ERROR, hidden_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("phi.result_as_base",
							 "Whether encrypted columns of a client's query are returned as their base types.",
							 "\"auto\" does so for session users who hold a grant.",
							 &phi_result_as_base, PHI_RESULT_AUTO, results_as_base,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

/* What the superuser may set. */
static void
define_value_settings(void)
{
	for (int id = 1; id <= PHI_SUITE_MAX; id++)
		suites[id - 1] = (struct config_enum_entry) {phi_suite_by_id(id)->name, id, false};
	DefineCustomEnumVariable("phi.suite",
							 "The algorithm that new values and new keys are encrypted with.",
							 "Old values stay readable whatever it is.",
							 &phi_suite, 1, suites, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("phi.compress_above",
							"Values longer than this are compressed with LZ4 where it helps; -1 never does.",
							NULL, &phi_compress_above, 1024, -1, INT_MAX,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("phi.keyring_size",
							"How many keys one backend keeps in memory.",
							NULL, &phi_keyring_size, 1000, 16, 1000000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	/* Such an index writes the order of all patients to disk. */
	DefineCustomBoolVariable("phi.allow_ordered_index",
							 "Allows indexes that hold encrypted values in the order of their plaintext.",
							 "Their order is then readable to whoever reads the index.",
							 &phi_allow_ordered_index, false, PGC_SUSET, 0,
							 NULL, NULL, NULL);
}

/* How the provider "command" asks for keys; a new key comes with a reload. */
static void
define_command_settings(void)
{
	DefineCustomStringVariable("phi.key_command",
							   "Shell command that prints a master key.",
							   "%k is replaced by the name of the key, %% by %.",
							   &phi_key_command, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Goes into a shell command. */
	DefineCustomStringVariable("phi.key_name",
							   "Name of the master key that new keys are wrapped by.",
							   NULL, &phi_key_name, "", PGC_SIGHUP, 0,
							   phi_check_key_name, NULL, NULL);
	DefineCustomIntVariable("phi.key_command_timeout",
							"How long phi.key_command may take.",
							NULL, &phi_key_command_timeout, 30000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* What only a restart changes. */
static void
define_server_settings(void)
{
	DefineCustomIntVariable("phi.custodian_threshold",
							"How many custodians together unseal the server.",
							"Counts for master keys that are made from now on.",
							&phi_custodian_threshold, 2, 1, PHI_SHARES_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("phi.key_provider",
							 "Where master keys come from.",
							 NULL, &phi_key_provider, PHI_PROVIDER_FILE, providers,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("phi.key_directory",
							   "Directory of the master keys, outside the data directory.",
							   "It must belong to the server's user and be closed to all others.",
							   &phi_key_directory, "", PGC_POSTMASTER,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Decrypted values are in ordinary memory, which a core dump would hold. */
	DefineCustomBoolVariable("phi.allow_core_dumps",
							 "Lets a process that holds keys dump core and be traced.",
							 NULL, &phi_allow_core_dumps, false,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

/* What custodians work by. */
static void
define_custody_settings(void)
{
	/* Never a session's: the one who asks could turn it off. */
	DefineCustomBoolVariable("phi.require_approval",
							 "Lets keys be destroyed, master keys be rotated and the server be unsealed only with a second custodian's approval.",
							 "See phi.approve().",
							 &phi_require_approval, false, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("phi.approval_timeout",
							"How long a request waits for approval, and an approval for its use.",
							NULL, &phi_approval_timeout, 3600, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("phi.rotation_interval",
							"Age at which an active key shows in phi.rotation_due.",
							NULL, &phi_rotation_interval, 365 * 24 * 60, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_MIN, NULL, NULL, NULL);
}

/* The audit trail. */
static void
define_audit_settings(void)
{
	/* Part of a name in signed notes: audit/note.c checks it again. */
	DefineCustomStringVariable("phi.audit_origin",
							   "Name of an audit log in its checkpoints, when it is opened.",
							   "A name on the network such as ehr.example/log. Empty: made of the system identifier.",
							   &audit_origin, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("phi.checkpoint_interval",
							"How often new audit records get a signed checkpoint.",
							NULL, &phi_checkpoint_interval, 10000, 100, 24 * 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* What it says may hold passwords, as archive_command may. */
	DefineCustomStringVariable("phi.checkpoint_command",
							   "Shell command that is given each checkpoint of the audit log on its standard input.",
							   "PHI_CHECKPOINT_SIZE and PHI_DATABASE are in its environment.",
							   &phi_checkpoint_command, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("phi.audit_volume_limit",
							"Size of the audit trail of a database that the server warns of; 0 never does.",
							NULL, &phi_audit_volume_limit, 0, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
}

void
phi_guc_init(void)
{
	define_session_settings();
	define_value_settings();
	define_command_settings();
	define_server_settings();
	define_custody_settings();
	define_audit_settings();
	MarkGUCPrefixReserved("phi");
}
