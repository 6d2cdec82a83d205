/*
 * shares.c
 *		The file <phi.key_directory>/<label>.shares: a master key in as many
 *		boxes as there are custodians; docs/format.md has the format.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "keys/custodian.h"
#include "keys/directory.h"

#define KIND "shares file"
#define HEADER "pg_phi shares 1"
#define FILE_MAX 16384

/* Sizes of base64, as widths of fields below. */
StaticAssertDecl(PHI_SALT_SIZE == 16 && PHI_BOX_KEY == 32 && PHI_SHARE_BOX == 80,
				 "24, 44 and 108 characters");

void
phi_report_damaged(const char *kind, const char *path, int line)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("%s \"%s\" is damaged", kind, path),
			 errdetail("Line %d is not as it was written.", line),
			 errhint("Bring the file back from a copy.")));
}

bool
phi_decode_exactly(const char *text, uint8 *out, size_t size)
{
	size_t		used;

	return phi_base64_decode(text, strlen(text), out, size, &used) == PHI_OK &&
		used == size;
}

void
phi_print_access(const PhiCustodian *custodian, char *text)
{
	char		salt[25];
	char		public_key[45];

	phi_base64_encode(custodian->salt, PHI_SALT_SIZE, salt);
	phi_base64_encode(custodian->public_key, PHI_BOX_KEY, public_key);
	snprintf(text, PHI_ACCESS_SIZE, "%s " INT64_FORMAT " " INT64_FORMAT " %s",
			 salt, custodian->opslimit, custodian->memlimit, public_key);
}

bool
phi_parse_access(const char *text, PhiCustodian *custodian, int *used)
{
	char		salt[25];
	char		public_key[45];
	long long	opslimit;
	long long	memlimit;

	*used = 0;
	if (sscanf(text, "%24s %lld %lld %44s%n", salt, &opslimit, &memlimit,
			   public_key, used) != 4 || *used == 0)
		return false;
	custodian->opslimit = opslimit;
	custodian->memlimit = memlimit;
	return phi_decode_exactly(salt, custodian->salt, PHI_SALT_SIZE) &&
		phi_decode_exactly(public_key, custodian->public_key, PHI_BOX_KEY);
}

List *
phi_read_lines(const char *kind, const char *path, const char *header,
			   const char *hint)
{
	char	   *text = palloc(FILE_MAX + 1);
	ssize_t		n = phi_read_key_file(kind, path, text, FILE_MAX, hint);
	List	   *lines = NIL;

	if (n < 0)
		return NIL;
	text[n] = '\0';
	/* Each line ends, and there is no zero in any. */
	if (n == FILE_MAX || n == 0 || text[n - 1] != '\n' || strlen(text) != (size_t) n)
		phi_report_damaged(kind, path, 1);
	for (char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
	{
		*end = '\0';
		lines = lappend(lines, text);
	}
	if (strcmp(linitial(lines), header) != 0)
		phi_report_damaged(kind, path, 1);
	return lines;
}

/* "share <salt> <ops> <memory> <public key> <fingerprint> <box> <name>" */
static bool
parse_share(const char *line, PhiShare *share)
{
	char		box[109];
	int			used;
	int			more = 0;

	if (strncmp(line, "share ", 6) != 0 ||
		!phi_parse_access(line + 6, &share->of, &used))
		return false;
	line += 6 + used;
	if (sscanf(line, " %16s %108s%n", share->fingerprint, box, &more) != 2 ||
		more == 0 || line[more] != ' ' || strlen(line + more + 1) >= NAMEDATALEN)
		return false;
	strlcpy(share->of.name, line + more + 1, NAMEDATALEN);
	return phi_decode_exactly(box, share->box, PHI_SHARE_BOX);
}

void
phi_read_shares(const char *label, PhiShares *shares)
{
	char		path[MAXPGPATH];
	List	   *lines;

	phi_key_path(label, PHI_SHARES_SUFFIX, path);
	lines = phi_read_lines(KIND, path, HEADER,
						   "Bring the file back from a copy: without it the custodians cannot make the key.");
	shares->n = list_length(lines) - 2;
	if (shares->n < 1 || shares->n > PHI_SHARES_MAX ||
		sscanf(lsecond(lines), "threshold %d", &shares->threshold) != 1 ||
		shares->threshold < 1 || shares->threshold > shares->n)
		phi_report_damaged(KIND, path, 2);
	for (int i = 0; i < shares->n; i++)
	{
		if (!parse_share(list_nth(lines, i + 2), &shares->share[i]))
			phi_report_damaged(KIND, path, i + 3);
	}
}

void
phi_write_shares(const char *label, const PhiShares *shares)
{
	char		path[MAXPGPATH];
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, HEADER "\nthreshold %d\n", shares->threshold);
	for (int i = 0; i < shares->n; i++)
	{
		const PhiShare *share = &shares->share[i];
		char		access[PHI_ACCESS_SIZE];
		char		box[109];

		phi_print_access(&share->of, access);
		phi_base64_encode(share->box, PHI_SHARE_BOX, box);
		appendStringInfo(&text, "share %s %s %s %s\n", access,
						 share->fingerprint, box, share->of.name);
	}
	phi_key_path(label, PHI_SHARES_SUFFIX, path);
	phi_write_key_file(KIND, path, text.data, text.len, false);
}
