/*
 * kat_wycheproof.c
 *		The cases of wycheproof.txt: valid ones both ways, invalid ones refused.
 */
#include "kat.h"

#include <string.h>

#define FIELD_HEX	2100
#define FIELD_BYTES (FIELD_HEX / 2)

/* In the order of a line. */
enum
{
	KEY, NONCE, AAD, PLAIN, CIPHER, TAG, FIELDS
};

typedef struct Case
{
	char		algorithm[16];
	char		id[8];
	char		result[16];
	uint8_t		field[FIELDS][FIELD_BYTES];
	size_t		len[FIELDS];
} Case;

static bool
read_word(FILE *f, char *word, const char *format)
{
	return fscanf(f, format, word) == 1;
}

static bool
read_case(FILE *f, Case *c)
{
	char		hex[FIELD_HEX + 1];

	if (!read_word(f, c->algorithm, "%15s") ||
		!read_word(f, c->id, "%7s") ||
		!read_word(f, c->result, "%15s"))
		return false;
	for (int i = 0; i < FIELDS; i++)
	{
		if (!read_word(f, hex, "%2100s"))
			return false;
		c->len[i] = strcmp(hex, "-") == 0 ? 0 : unhex(hex, c->field[i], FIELD_BYTES);
	}
	return true;
}

static PhiStatus
case_seal(const Case *c, PhiSpan aad, uint8_t *buf, uint8_t *tag)
{
	if (strcmp(c->algorithm, "gcm") == 0)
		return phi_gcm_seal(c->field[KEY], c->field[NONCE], aad, buf,
							c->len[PLAIN], tag);
	return phi_suite_by_id(3)->seal(c->field[KEY], 0, c->field[NONCE], aad, buf,
									c->len[PLAIN], tag);
}

static PhiStatus
case_open(const Case *c, PhiSpan aad, uint8_t *plain)
{
	if (strcmp(c->algorithm, "gcm") == 0)
		return phi_gcm_open(c->field[KEY], c->field[NONCE], aad,
							c->field[CIPHER], c->len[CIPHER], c->field[TAG],
							plain);
	return phi_suite_by_id(3)->open(c->field[KEY], 0, c->field[NONCE], aad,
									c->field[CIPHER], c->len[CIPHER],
									c->field[TAG], plain);
}

static bool
case_good(const Case *c)
{
	PhiSpan		aad = {c->field[AAD], c->len[AAD]};
	uint8_t		out[FIELD_BYTES];
	uint8_t		tag[PHI_TAG_MAX];

	memset(out, 0xaa, sizeof(out));
	if (strcmp(c->result, "valid") != 0)
		return case_open(c, aad, out) == PHI_AUTH &&
			all_zero(out, c->len[CIPHER]);
	if (case_open(c, aad, out) != PHI_OK ||
		memcmp(out, c->field[PLAIN], c->len[PLAIN]) != 0)
		return false;
	return case_seal(c, aad, out, tag) == PHI_OK &&
		memcmp(out, c->field[CIPHER], c->len[CIPHER]) == 0 &&
		memcmp(tag, c->field[TAG], c->len[TAG]) == 0;
}

void
skip_comments(FILE *f)
{
	int			byte;

	rewind(f);
	while ((byte = getc(f)) == '#')
	{
		while (byte != '\n' && byte != EOF)
			byte = getc(f);
	}
	ungetc(byte, f);
}

static int
count_good(FILE *f, int *all)
{
	static Case c;
	int			good = 0;

	*all = 0;
	skip_comments(f);
	for (; read_case(f, &c); ++*all)
	{
		if (case_good(&c))
			good++;
		else
			printf("# wycheproof %s %s\n", c.algorithm, c.id);
	}
	return good;
}

void
test_wycheproof(const char *file)
{
	FILE	   *f = fopen(file, "r");
	size_t		usual = phi_gcm_short;

	for (int i = 0; i < LIBRARIES; i++)
	{
		int			all = 0;
		int			good;

		phi_gcm_short = libraries[i].gcm_short;
		good = f == NULL ? 0 : count_good(f, &all);
		ok(all == 372 && good == all,
		   "wycheproof, AES-GCM by %s: %d of %d cases",
		   libraries[i].name, good, all);
	}
	phi_gcm_short = usual;
	if (f != NULL)
		fclose(f);
}
