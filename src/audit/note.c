/*
 * note.c
 *		Signed notes: reading and checking them, and the texts that are signed.
 *
 * Signatures are made in note_sign.c, so that who only checks them needs no
 * secrets.
 */
#include "audit/note.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TYPE_ED25519	0x01
#define HASH_SIZE		4
#define SIGNATURES_MAX	100		/* more are taken for an attack */
#define SIGNATURE_MAX	8192	/* bytes: others sign with larger keys */

static const char dash[] = "\xe2\x80\x94 ";	/* begins a line of a signature */
#define DASH_LEN (sizeof(dash) - 1)

static PhiSpan
span_of(const char *text)
{
	return (PhiSpan) {(const uint8_t *) text, strlen(text)};
}

/* Takes "len" bytes off the beginning. */
static PhiSpan
take(PhiSpan *rest, size_t len)
{
	PhiSpan		taken = {rest->ptr, len};

	rest->ptr += len;
	rest->len -= len;
	return taken;
}

static bool
begins_with(PhiSpan text, const char *prefix, size_t len)
{
	return text.len >= len && memcmp(text.ptr, prefix, len) == 0;
}

/* Takes what is before the first such byte, and the byte; false: there is none. */
static bool
take_until(PhiSpan *rest, char end, PhiSpan *taken)
{
	const uint8_t *found = rest->len == 0 ? NULL : memchr(rest->ptr, end, rest->len);

	if (found == NULL)
		return false;
	*taken = take(rest, (size_t) (found - rest->ptr));
	take(rest, 1);
	return true;
}

/*
 * Takes a character of UTF-8 in its shortest form.  False: it is none, or the
 * text has ended.
 */
static bool
take_character(PhiSpan *rest, uint32_t *c)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t		len;
	uint8_t		first;

	if (rest->len == 0)
		return false;
	first = rest->ptr[0];
	len = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
	if (len == 0 || len > rest->len)
		return false;
	*c = len == 1 ? first : first & (0x7f >> len);
	for (size_t i = 1; i < len; i++)
	{
		if ((rest->ptr[i] & 0xc0) != 0x80)
			return false;
		*c = *c << 6 | (rest->ptr[i] & 0x3f);
	}
	take(rest, len);
	return *c >= least[len] && *c <= 0x10ffff && (*c < 0xd800 || *c > 0xdfff);
}

/* As Unicode's White_Space, controls apart. */
static bool
is_space(uint32_t c)
{
	return c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
		c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool
phi_note_name_valid(const char *name, size_t len)
{
	PhiSpan		rest = {(const uint8_t *) name, len};
	uint32_t	c;

	if (len == 0 || len > PHI_NAME_MAX)
		return false;
	while (rest.len > 0)
	{
		if (!take_character(&rest, &c) || c < 0x20 || c == 0x7f || c == '+' || is_space(c))
			return false;
	}
	return true;
}

/* Copies a name that is valid. */
static bool
copy_name(PhiSpan name, char *out)
{
	if (!phi_note_name_valid((const char *) name.ptr, name.len))
		return false;
	memcpy(out, name.ptr, name.len);
	out[name.len] = '\0';
	return true;
}

static bool
decode(PhiSpan text, uint8_t *out, size_t room, size_t *used)
{
	return phi_base64_decode((const char *) text.ptr, text.len, out, room, used) == PHI_OK;
}

/* Base64 of just so many bytes. */
static bool
decode_exactly(PhiSpan text, uint8_t *out, size_t len)
{
	size_t		used;

	return decode(text, out, len, &used) && used == len;
}

PhiStatus
phi_verifier_make(const char *name, const uint8_t *public_key, PhiVerifier *out)
{
	static const uint8_t between[] = {'\n', TYPE_ED25519};
	PhiSpan		parts[] = {span_of(name), {between, sizeof(between)}, {public_key, PHI_SIGN_KEY}};
	uint8_t		hash[PHI_HASH_SIZE];
	PhiStatus	status;

	memset(out, 0, sizeof(*out));
	if (!copy_name(parts[0], out->name))
		return PHI_MALFORMED;
	status = phi_sha256(parts, 3, hash);
	memcpy(out->hash, hash, HASH_SIZE);
	memcpy(out->key, public_key, PHI_SIGN_KEY);
	return status;
}

void
phi_verifier_format(const PhiVerifier *verifier, char *out)
{
	uint8_t		key[1 + PHI_SIGN_KEY] = {TYPE_ED25519};

	memcpy(key + 1, verifier->key, PHI_SIGN_KEY);
	out += sprintf(out, "%s+", verifier->name);
	phi_hex_encode(verifier->hash, HASH_SIZE, out);
	out += 2 * HASH_SIZE;
	*out++ = '+';
	phi_base64_encode(key, sizeof(key), out);
}

/* What is written again must be what was read: so the hash is right, too. */
PhiStatus
phi_verifier_parse(const char *text, size_t len, PhiVerifier *out)
{
	PhiSpan		rest = {(const uint8_t *) text, len};
	PhiSpan		name;
	PhiSpan		hash;
	char		copy[PHI_NAME_MAX + 1];
	char		again[PHI_VERIFIER_TEXT];
	uint8_t		key[1 + PHI_SIGN_KEY];
	PhiStatus	status;

	if (!take_until(&rest, '+', &name) || !take_until(&rest, '+', &hash) ||
		!copy_name(name, copy) || !decode_exactly(rest, key, sizeof(key)) ||
		key[0] != TYPE_ED25519)
		return PHI_MALFORMED;
	status = phi_verifier_make(copy, key + 1, out);
	if (status != PHI_OK)
		return status;
	phi_verifier_format(out, again);
	return strlen(again) == len && memcmp(again, text, len) == 0 ? PHI_OK : PHI_MALFORMED;
}

PhiStatus
phi_checkpoint_format(const PhiCheckpoint *checkpoint, char *out)
{
	if (!phi_note_name_valid(checkpoint->origin, strlen(checkpoint->origin)) ||
		checkpoint->size > PHI_TREE_MAX)
		return PHI_MALFORMED;
	out += sprintf(out, "%s\n%" PRIu64 "\n", checkpoint->origin, checkpoint->size);
	phi_base64_encode(checkpoint->root.byte, PHI_HASH_SIZE, out);
	strcat(out, "\n");
	return PHI_OK;
}

/* Decimal without leading zeros, not above PHI_TREE_MAX. */
static bool
parse_number(PhiSpan text, uint64_t *number)
{
	*number = 0;
	if (text.len == 0 || (text.ptr[0] == '0' && text.len > 1))
		return false;
	for (size_t i = 0; i < text.len; i++)
	{
		unsigned	digit = (unsigned) text.ptr[i] - '0';

		if (digit > 9 || *number > (PHI_TREE_MAX - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	return true;
}

PhiStatus
phi_checkpoint_parse(PhiSpan text, PhiCheckpoint *out)
{
	PhiSpan		line[3];

	for (int i = 0; i < 3; i++)
	{
		if (!take_until(&text, '\n', &line[i]))
			return PHI_MALFORMED;
	}
	return text.len == 0 && copy_name(line[0], out->origin) && parse_number(line[1], &out->size) &&
		decode_exactly(line[2], out->root.byte, PHI_HASH_SIZE) ? PHI_OK : PHI_MALFORMED;
}

bool
phi_ranges_next(PhiSpan *ranges, uint64_t *from, uint64_t *to)
{
	PhiSpan		lower;
	PhiSpan		upper;

	if (ranges->len < 2 || ranges->ptr[1] != '[')
		return false;
	take(ranges, 2);			/* the brace or comma before it, too */
	return take_until(ranges, ',', &lower) && take_until(ranges, ')', &upper) &&
		parse_number(lower, from) && parse_number(upper, to) && *from < *to;
}

static bool
are_ranges(PhiSpan ranges)
{
	uint64_t	from;
	uint64_t	to;
	uint64_t	last = 0;
	char		before = '{';

	while (ranges.len > 1 && ranges.ptr[0] == before)
	{
		if (!phi_ranges_next(&ranges, &from, &to) || (before == ',' && from <= last))
			return false;
		last = to;
		before = ',';
	}
	return before == ',' && ranges.len == 1 && ranges.ptr[0] == '}';
}

PhiStatus
phi_retirement_parse(PhiSpan text, PhiRetirement *out)
{
	const size_t suffix = strlen(PHI_RETIREMENT_SUFFIX);
	PhiSpan		line[3];

	for (int i = 0; i < 3; i++)
	{
		if (!take_until(&text, '\n', &line[i]))
			return PHI_MALFORMED;
	}
	if (line[0].len < suffix ||
		memcmp(line[0].ptr + line[0].len - suffix, PHI_RETIREMENT_SUFFIX, suffix) != 0)
		return PHI_MALFORMED;
	line[0].len -= suffix;
	out->ranges = line[1];
	return text.len == 0 && copy_name(line[0], out->origin) && are_ranges(line[1]) &&
		decode_exactly(line[2], out->root.byte, PHI_HASH_SIZE) ? PHI_OK : PHI_MALFORMED;
}

static bool
is_note_text(PhiSpan text)
{
	uint32_t	c;

	while (text.len > 0)
	{
		if (!take_character(&text, &c) || (c < 0x20 && c != '\n'))
			return false;
	}
	return true;
}

/* Where the last empty line is: the text's end. */
static bool
find_text(PhiSpan note, PhiSpan *text, PhiSpan *signatures)
{
	for (size_t i = note.len; i >= 2; i--)
	{
		if (note.ptr[i - 1] == '\n' && note.ptr[i - 2] == '\n')
		{
			*signatures = note;
			*text = take(signatures, i - 1);
			take(signatures, 1);
			return text->len > 1;
		}
	}
	return false;
}

/* Checks a line by the verifier that it names, if it is known. */
static PhiStatus
check_line(PhiSpan line, PhiSpan text, const PhiVerifier *verifiers, int n, int *signer)
{
	static uint8_t signature[SIGNATURE_MAX];
	PhiSpan		name;
	size_t		len;

	if (!begins_with(line, dash, DASH_LEN))
		return PHI_MALFORMED;
	take(&line, DASH_LEN);
	if (!take_until(&line, ' ', &name) || !phi_note_name_valid((const char *) name.ptr, name.len) ||
		!decode(line, signature, sizeof(signature), &len) || len <= HASH_SIZE)
		return PHI_MALFORMED;
	*signer = -1;
	for (int i = 0; i < n; i++)
	{
		if (strlen(verifiers[i].name) != name.len ||
			memcmp(verifiers[i].name, name.ptr, name.len) != 0 ||
			memcmp(verifiers[i].hash, signature, HASH_SIZE) != 0)
			continue;
		if (len != HASH_SIZE + PHI_SIGNATURE ||
			phi_sign_check(verifiers[i].key, text, signature + HASH_SIZE) != PHI_OK)
			return PHI_AUTH;
		*signer = i;
		break;
	}
	return PHI_OK;
}

PhiStatus
phi_note_open(PhiSpan note, const PhiVerifier *verifiers, int n, PhiSpan *text, int *signer)
{
	PhiSpan		signatures;
	PhiSpan		line;
	PhiStatus	verdict = PHI_AUTH;
	int			lines = 0;

	if (!is_note_text(note) || !find_text(note, text, &signatures) || signatures.len == 0)
		return PHI_MALFORMED;
	while (signatures.len > 0)
	{
		int			found;
		PhiStatus	status;

		if (++lines > SIGNATURES_MAX || !take_until(&signatures, '\n', &line))
			return PHI_MALFORMED;
		status = check_line(line, *text, verifiers, n, &found);
		if (status != PHI_OK)
			return status;
		if (found >= 0 && verdict != PHI_OK)
		{
			verdict = PHI_OK;
			if (signer != NULL)
				*signer = found;
		}
	}
	return verdict;
}

/* Takes the lines that are, or are not, those of signatures; counts them. */
static int
take_lines(PhiSpan *rest, bool of_signatures)
{
	PhiSpan		line;
	PhiSpan		after = *rest;
	int			n = 0;

	while (take_until(&after, '\n', &line) && line.len > 0 &&
		   (!of_signatures || begins_with(line, dash, DASH_LEN)))
	{
		*rest = after;
		n++;
	}
	return n;
}

bool
phi_note_next(PhiSpan *rest, PhiSpan *note)
{
	PhiSpan		after;

	while (rest->len > 0 && rest->ptr[0] == '\n')
		take(rest, 1);
	after = *rest;
	if (take_lines(&after, false) == 0 || after.len == 0 || after.ptr[0] != '\n')
		return false;
	take(&after, 1);
	if (take_lines(&after, true) == 0)
		return false;
	*note = take(rest, rest->len - after.len);
	return true;
}
