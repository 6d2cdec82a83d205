/*
 * label.c
 *		What all providers share: the text form of a master key, and its label,
 *		which is a name, a dash, and the key's fingerprint.
 *
 * Where the extension makes the key, the name is the time, so that labels sort
 * by age.  The fingerprint is found wrong when another key lies behind a name.
 */
#include "postgres.h"

#include <time.h>

#include "keys/provider.h"

#define TIME_FORMAT "%Y%m%dT%H%M%SZ"
#define TIME_LENGTH 16

PhiStatus
phi_parse_key(const char *text, ssize_t len, uint8 *key)
{
	size_t		used;
	PhiStatus	status;

	/* The line feed may be missing: editors and copies by hand lose it. */
	if (len == PHI_KEY_TEXT_SIZE && text[len - 1] == '\n')
		len--;
	if (len != 2 * PHI_SECRET_SIZE)
		return PHI_MALFORMED;
	status = phi_hex_decode(text, len, key, PHI_SECRET_SIZE, &used);
	return status == PHI_OK && used != PHI_SECRET_SIZE ? PHI_MALFORMED : status;
}

void
phi_new_master_key(uint8 *key)
{
	if (phi_random_key(key, PHI_SECRET_SIZE) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a master key")));
}

bool
phi_label_is_timed(const char *label)
{
	static const char digits[] = "0123456789";
	static const char hex[] = "0123456789abcdef";

	return strspn(label, digits) == 8 && label[8] == 'T' &&
		strspn(label + 9, digits) == 6 && label[15] == 'Z' &&
		label[TIME_LENGTH] == '-' &&
		strspn(label + TIME_LENGTH + 1, hex) == PHI_FINGERPRINT_SIZE - 1 &&
		label[TIME_LENGTH + PHI_FINGERPRINT_SIZE] == '\0';
}

static void
fingerprint(const uint8 *key, char *text)
{
	if (phi_fingerprint(key, PHI_SECRET_SIZE, text) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the fingerprint of a master key")));
}

void
phi_make_label(const char *name, const uint8 *key, char *label)
{
	char		mark[PHI_FINGERPRINT_SIZE];

	fingerprint(key, mark);
	if (snprintf(label, PHI_LABEL_SIZE, "%s-%s", name, mark) >= PHI_LABEL_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name \"%s\" of a master key is too long", name)));
}

/* Two keys made within a second, or by a clock set back, must sort too. */
static time_t
time_after(const char *label)
{
	time_t		now = time(NULL);
	struct tm	utc = {0};
	time_t		then;

	if (label == NULL || !phi_label_is_timed(label) ||
		strptime(label, TIME_FORMAT, &utc) == NULL)
		return now;
	then = timegm(&utc);
	return now > then ? now : then + 1;
}

void
phi_make_timed_label(const char *after, const uint8 *key, char *label)
{
	time_t		when = time_after(after);
	char		name[TIME_LENGTH + 1];
	struct tm	utc;

	if (strftime(name, sizeof(name), TIME_FORMAT, gmtime_r(&when, &utc)) == 0)
		elog(ERROR, "time of a master key does not fit its label");
	phi_make_label(name, key, label);
}

void
phi_check_label(const uint8 *key, const char *label, const char *where)
{
	const char *dash = strrchr(label, '-');
	char		mark[PHI_FINGERPRINT_SIZE];

	fingerprint(key, mark);
	if (dash == NULL || strcmp(dash + 1, mark) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" holds another key than its name says", where),
				 errdetail("The fingerprint of the key is %s.", mark),
				 errhint("Bring back the key whose fingerprint is the end of its name.")));
}
