/*
 * roster.c
 *		The custodians: the file <phi.key_directory>/custodians, and what
 *		seal.sql needs of it.
 *
 * The file is beside the keys, not in a table: who could write the table could
 * have the next master key shared with himself.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"

#include "guc.h"
#include "keys/custodian.h"
#include "keys/directory.h"
#include "keys/login.h"
#include "keys/rows.h"

#define KIND "custodians file"
#define HEADER "pg_phi custodians 1"
#define LOCK_ROSTER 2			/* as in master.c */

/* Argon2id, as libsodium's crypto_pwhash: "interactive" at least. */
#define OPSLIMIT_MIN 2
#define OPSLIMIT_MAX 64
#define MEMLIMIT_MIN (INT64CONST(64) << 20)
#define MEMLIMIT_MAX (INT64CONST(4) << 30)

PG_FUNCTION_INFO_V1(phi_enroll_custodian);
PG_FUNCTION_INFO_V1(phi_remove_custodian);
PG_FUNCTION_INFO_V1(phi_custodians);

/* "custodian <salt> <ops> <memory> <public key> <name>" */
static bool
parse_custodian(const char *line, PhiCustodian *custodian)
{
	int			used;

	if (strncmp(line, "custodian ", 10) != 0 ||
		!phi_parse_access(line + 10, custodian, &used))
		return false;
	line += 10 + used;
	if (line[0] != ' ' || strlen(line + 1) >= NAMEDATALEN)
		return false;
	strlcpy(custodian->name, line + 1, NAMEDATALEN);
	return true;
}

int
phi_read_custodians(PhiCustodian *custodians)
{
	char		path[MAXPGPATH];
	List	   *lines;
	int			n;

	phi_key_path("custodians", "", path);
	lines = phi_read_lines(KIND, path, HEADER, NULL);
	n = Max(list_length(lines) - 1, 0);
	for (int i = 0; i < n; i++)
	{
		if (i == PHI_SHARES_MAX ||
			!parse_custodian(list_nth(lines, i + 1), &custodians[i]))
			phi_report_damaged(KIND, path, i + 2);
	}
	return n;
}

static void
write_custodians(const PhiCustodian *custodians, int n)
{
	char		path[MAXPGPATH];
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, HEADER "\n");
	for (int i = 0; i < n; i++)
	{
		char		access[PHI_ACCESS_SIZE];

		phi_print_access(&custodians[i], access);
		appendStringInfo(&text, "custodian %s %s\n", access, custodians[i].name);
	}
	phi_key_path("custodians", "", path);
	phi_write_key_file(KIND, path, text.data, text.len, true);
}

/* To the end of the transaction: nobody else changes the file. */
static void
lock_roster(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0, LOCK_ROSTER, 0);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

static int
find(const PhiCustodian *custodians, int n, const char *name)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(custodians[i].name, name) == 0)
			return i;
	}
	return -1;
}

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot enroll a custodian with %s", what),
			 errhint("Use the program: phi-unseal --enroll")));
}

static void
check_new(const PhiCustodian *new, const PhiCustodian *custodians, int n)
{
	uint8		box[PHI_BOX_EXTRA + 1];

	for (const char *c = new->name; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 127)
			refuse("control characters in his name");
	}
	if (new->opslimit < OPSLIMIT_MIN || new->opslimit > OPSLIMIT_MAX ||
		new->memlimit < MEMLIMIT_MIN || new->memlimit > MEMLIMIT_MAX)
		refuse("these limits of Argon2id");
	if (phi_box_seal(new->public_key, (PhiSpan) {(const uint8 *) "", 1}, box) != PHI_OK)
		refuse("this public key");
	for (int i = 0; i < n; i++)
	{
		if (memcmp(custodians[i].public_key, new->public_key, PHI_BOX_KEY) == 0)
			refuse("the public key of another");
	}
	if (find(custodians, n, new->name) >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("custodian \"%s\" is already enrolled", new->name),
				 errhint("To change the passphrase: phi.remove_custodian(), enroll again, then make a new master key.")));
	if (n == PHI_SHARES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("there cannot be more than %d custodians", PHI_SHARES_MAX)));
}

/* phi.add_custodian(salt text, opslimit bigint, memlimit bigint, public_key text) returns void */
Datum
phi_enroll_custodian(PG_FUNCTION_ARGS)
{
	PhiCustodian custodians[PHI_SHARES_MAX + 1];
	PhiCustodian new = {0};
	int			n;

	strlcpy(new.name, phi_login(), NAMEDATALEN);
	new.opslimit = PG_GETARG_INT64(1);
	new.memlimit = PG_GETARG_INT64(2);
	if (!phi_decode_exactly(text_to_cstring(PG_GETARG_TEXT_PP(0)), new.salt, PHI_SALT_SIZE))
		refuse("this salt");
	if (!phi_decode_exactly(text_to_cstring(PG_GETARG_TEXT_PP(3)), new.public_key, PHI_BOX_KEY))
		refuse("this public key");
	lock_roster();
	n = phi_read_custodians(custodians);
	check_new(&new, custodians, n);
	custodians[n] = new;
	write_custodians(custodians, n + 1);
	ereport(LOG,
			(errmsg("custodian \"%s\" enrolled", new.name)));
	PG_RETURN_VOID();
}

/* phi.drop_custodian(name) returns void */
Datum
phi_remove_custodian(PG_FUNCTION_ARGS)
{
	const char *name = NameStr(*PG_GETARG_NAME(0));
	PhiCustodian custodians[PHI_SHARES_MAX];
	int			n;
	int			i;

	lock_roster();
	n = phi_read_custodians(custodians);
	i = find(custodians, n, name);
	if (i < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("custodian \"%s\" is not enrolled", name),
				 errhint("phi.custodians() lists the custodians.")));
	memmove(&custodians[i], &custodians[i + 1], (n - i - 1) * sizeof(PhiCustodian));
	write_custodians(custodians, n - 1);
	ereport(LOG,
			(errmsg("custodian \"%s\" removed by \"%s\"", name, phi_login())));
	if (n - 1 < phi_custodian_threshold)
		ereport(WARNING,
				(errmsg("there are fewer custodians than phi.custodian_threshold"),
				 errdetail("Without others no new master key can be made."),
				 errhint("Let another enroll: phi-unseal --enroll")));
	PG_RETURN_VOID();
}

/* phi.custodians() returns table (custodian name, public_key text) */
Datum
phi_custodians(PG_FUNCTION_ARGS)
{
	PhiRows		rows = phi_rows_begin(fcinfo);
	PhiCustodian custodians[PHI_SHARES_MAX];
	int			n = phi_read_custodians(custodians);

	for (int i = 0; i < n; i++)
	{
		char		public_key[45];
		Datum		values[2];

		phi_base64_encode(custodians[i].public_key, PHI_BOX_KEY, public_key);
		values[0] = DirectFunctionCall1(namein, CStringGetDatum(custodians[i].name));
		values[1] = CStringGetTextDatum(public_key);
		phi_rows_add(&rows, values);
	}
	return (Datum) 0;
}
