/*
 * kat_notes.c
 *		Signed notes: published ones, our own, and all that must be refused.
 */
#include "kat.h"

#include <string.h>

#include "audit/note.h"

#define DASH "\xe2\x80\x94 "
#define ROOM 2000

/* C2SP signed-note, "Example"; golang.org/x/mod/sumdb/note, its documentation. */
static const char spec_key[] = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
static const char spec_note[] =
"This is an example message.\n\n"
DASH "example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
static const char go_key[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char go_note[] =
"If you think cryptography is the answer to your problem,\n"
"then you don't know what your problem is.\n\n"
DASH "PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

static PhiVerifier verifiers[3];	/* of the spec, of Go, of sum.golang.org */

static PhiSpan
span_of(const char *text)
{
	return (PhiSpan) {(const uint8_t *) text, strlen(text)};
}

static PhiStatus
open_note(const char *note)
{
	PhiSpan		text;

	return phi_note_open(span_of(note), verifiers, 3, &text, NULL);
}

static bool
opens_as(const char *note, int by, size_t text_len)
{
	PhiSpan		text;
	int			signer = -1;

	return phi_note_open(span_of(note), verifiers, 3, &text, &signer) == PHI_OK && signer == by &&
		text.ptr == (const uint8_t *) note && text.len == text_len;
}

static void
test_published(void)
{
	static const char *const keys[] = {spec_key, go_key, sumdb_key};
	char		text[PHI_VERIFIER_TEXT];
	PhiCheckpoint head;
	PhiSpan		body;

	for (int i = 0; i < 3; i++)
	{
		bool		good = phi_verifier_parse(keys[i], strlen(keys[i]), &verifiers[i]) == PHI_OK;

		phi_verifier_format(&verifiers[i], text);
		ok(good && strcmp(text, keys[i]) == 0, "verifier key %s", keys[i]);
	}
	ok(opens_as(spec_note, 0, 28), "the note of C2SP's example");
	ok(opens_as(go_note, 1, strlen(go_note) - strlen(strstr(go_note, "\n\n")) + 1),
	   "the note of Go's documentation");
	ok(opens_as(sumdb_note, 2, 75), "a signed tree head of sum.golang.org");

	/* Its origin has spaces, which we do not allow; the rest is ours, too. */
	body = (PhiSpan) {(const uint8_t *) sumdb_note + strlen("go.sum database "), 75 - 16};
	ok(phi_checkpoint_parse((PhiSpan) {body.ptr - 16, body.len + 16}, &head) == PHI_MALFORMED &&
	   phi_checkpoint_parse(body, &head) == PHI_OK && head.size == 58253265 &&
	   strcmp(head.origin, "tree") == 0 && head.root.byte[31] == 0x95, "its lines are a checkpoint's");
}

static const char *const bad_keys[] = {
	"", "+", "++", "example.com/foo", "example.com/foo+530d903a",
	"+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
	"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
	" example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	"example.com/foo+0530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
};

static const char *const bad_names[] = {
	"", "a b", "a+b", "a\n", "\t", "a\x7f", "a\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\xa8", "\xff", "a\xc3", "\xc0\xaf",
	"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\xaf"
};

static void
test_names(void)
{
	PhiVerifier verifier;
	char		longest[PHI_NAME_MAX + 2];
	bool		good = true;

	for (size_t i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++)
		ok(phi_verifier_parse(bad_keys[i], strlen(bad_keys[i]), &verifier) == PHI_MALFORMED,
		   "bad verifier key %zu is refused", i);
	for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++)
		good = good && !phi_note_name_valid(bad_names[i], strlen(bad_names[i])) &&
			phi_verifier_make(bad_names[i], verifiers[0].key, &verifier) == PHI_MALFORMED;
	ok(good && !phi_note_name_valid("a\0b", 3), "bad names are refused");
	memset(longest, 'x', sizeof(longest));
	ok(phi_note_name_valid(longest, PHI_NAME_MAX) && !phi_note_name_valid(longest, PHI_NAME_MAX + 1) &&
	   phi_note_name_valid("\xe7\x97\x85\xe9\x99\xa2", 6) && phi_note_name_valid("\xf0\x9f\x8f\xa5", 4),
	   "names of other scripts are not, nor is the longest");
}

/* What is no note, made of one that is. */
static void
test_no_notes(void)
{
	static const char *const bad[] = {
		"", "\n", "\n\n", "text\n", "text\n\n", "text\n\n\n",
		"\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n- example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n\xe2\x80\x94" "example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n" DASH "example.com/foo  Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR \n",
		"text\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR",
		"text\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VY\n",
		"text\n\n" DASH "example.com/foo\n",
		"text\n\n" DASH " Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n" DASH "a+b Uw2QOkn8srV1yJGh2VYR\n",
		"text\n\n" DASH "a Uw2QOg==\n",
		"te\txt\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
		"te\rxt\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
		"te\xfft\n\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYR\n",
	};
	bool		good = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		good = good && open_note(bad[i]) == PHI_MALFORMED;
		if (!good)
			printf("# note %zu\n", i);
	}
	ok(good, "what is no note is refused");
	ok(open_note("text\n\n" DASH "example.com/bar Uw2QOkn8srV1yJGh2VYR\n") == PHI_AUTH,
	   "a note of unknown keys only is refused");
	ok(phi_note_open(span_of(spec_note), verifiers, 0, &(PhiSpan) {0}, NULL) == PHI_AUTH,
	   "nobody known, nothing signed");
}

/* No byte of a note can be another without its being refused. */
static void
test_altered(void)
{
	char		note[sizeof(spec_note)];
	bool		good = true;

	for (size_t i = 0; i + 1 < sizeof(note); i++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			memcpy(note, spec_note, sizeof(note));
			note[i] ^= (char) (1 << bit);
			good = good && phi_note_open((PhiSpan) {(uint8_t *) note, sizeof(note) - 1}, verifiers, 3,
										 &(PhiSpan) {0}, NULL) != PHI_OK;
		}
		good = good && phi_note_open((PhiSpan) {(const uint8_t *) spec_note, i}, verifiers, 3,
									 &(PhiSpan) {0}, NULL) != PHI_OK;
	}
	ok(good, "no bit of a note can be another, and no byte missing");
}

/* Appends further lines of signatures. */
static const char *
with_line(const char *note, const char *line)
{
	static char out[20000];

	snprintf(out, sizeof(out), "%s%s", note, line);
	return out;
}

static void
test_several_signatures(void)
{
	static const char unknown[] = DASH "other.example Uw2QOkn8srV1yJGh2VYR\n";
	const char *known = strstr(spec_note, DASH);
	static char many[20000];
	static char bad[ROOM];

	strcpy(bad, known);
	bad[strlen(bad) - 10] ^= 1;
	ok(opens_as(with_line(spec_note, unknown), 0, 28), "unknown signatures are left alone");
	ok(opens_as(with_line(spec_note, known), 0, 28), "a signature may be there twice");
	ok(open_note(with_line(spec_note, bad)) == PHI_AUTH, "a false one of a known key is not made good by a true one");
	ok(open_note(with_line(spec_note, "text\n")) == PHI_MALFORMED &&
	   open_note(with_line(spec_note, "\n")) == PHI_MALFORMED, "nothing follows but signatures");
	for (int i = 0; i < 99; i++)
		strcat(many, unknown);
	ok(opens_as(with_line(spec_note, many), 0, 28), "100 signatures are allowed");
	strcat(many, unknown);
	ok(open_note(with_line(spec_note, many)) == PHI_MALFORMED, "101 are not");
}

static PhiSecret *
new_secret(unsigned seed)
{
	PhiSecret  *secret = phi_secret_new();

	fill(secret->material, PHI_SECRET_SIZE, seed);
	return secret;
}

static void
test_signing(void)
{
	static const char *const bad[] = {"", "\n", "text", "te\txt\n", "te\xfft\n"};
	static const char beginning[] = "hospital.example/log\n123456789012345\n"
		"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n" DASH "hospital.example/log ";
	PhiSecret  *secret = new_secret(3);
	PhiCheckpoint checkpoint = {"hospital.example/log", 123456789012345, {{1, 2, 3}}};
	PhiCheckpoint again;
	PhiVerifier verifier;
	PhiSpan		text;
	uint8_t		key[PHI_SIGN_KEY];
	char		body[PHI_CHECKPOINT_TEXT];
	char		note[ROOM];
	bool		good = true;

	ok(phi_sign_key(secret, key) == PHI_OK && phi_verifier_make("hospital.example/log", key, &verifier) == PHI_OK &&
	   phi_checkpoint_format(&checkpoint, body) == PHI_OK &&
	   phi_note_sign(span_of(body), "hospital.example/log", secret, note) == PHI_OK &&
	   strlen(note) + 1 == phi_note_size(strlen(body), "hospital.example/log") &&
	   phi_note_open(span_of(note), &verifier, 1, &text, NULL) == PHI_OK &&
	   phi_checkpoint_parse(text, &again) == PHI_OK && again.size == checkpoint.size &&
	   strcmp(again.origin, checkpoint.origin) == 0 && memcmp(&again.root, &checkpoint.root, sizeof(PhiHash)) == 0,
	   "a checkpoint is signed, and read again");
	ok(strncmp(note, beginning, strlen(beginning)) == 0, "it reads as it should");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		good = good && phi_note_sign(span_of(bad[i]), "a", secret, note) == PHI_MALFORMED;
	ok(good && phi_note_sign(span_of("text\n"), "a b", secret, note) == PHI_MALFORMED &&
	   phi_note_sign((PhiSpan) {(const uint8_t *) "a\n\0\n", 4}, "a", secret, note) == PHI_MALFORMED,
	   "what is no text of a note is not signed");
	ok(phi_note_sign(span_of("a\n\nb\n"), "a", secret, note) == PHI_OK &&
	   phi_verifier_make("a", key, &verifier) == PHI_OK &&
	   phi_note_open(span_of(note), &verifier, 1, &text, NULL) == PHI_OK && text.len == 5,
	   "a text may have an empty line");
	checkpoint.size = PHI_TREE_MAX + 1;
	good = phi_checkpoint_format(&checkpoint, body) == PHI_MALFORMED;
	strcpy(checkpoint.origin, "a b");
	checkpoint.size = 1;
	ok(good && phi_checkpoint_format(&checkpoint, body) == PHI_MALFORMED,
	   "a checkpoint that cannot be is not written");
	phi_secret_free(secret);
}

#define ROOT "lIyLAEe4zJUQAda6pFFg3yPOf7j1SgfMEDrpgoX39JU=\n"

static void
test_checkpoints(void)
{
	static const char *const bad[] = {
		"", "a\n", "a\n1\n", "a\n\n" ROOT, "\n1\n" ROOT, "a\n01\n" ROOT, "a\n00\n" ROOT, "a\n+1\n" ROOT,
		"a\n-1\n" ROOT, "a\n1 \n" ROOT, "a\n 1\n" ROOT, "a\n9223372036854775808\n" ROOT,
		"a\n18446744073709551617\n" ROOT, "a b\n1\n" ROOT, "a\n1\n" ROOT "\n", "a\n1\n" ROOT "more\n",
		"a\n1\nlIyLAEe4zJUQAda6pFFg3yPOf7j1SgfMEDrpgoX39JU\n", "a\n1\nlIyLAEe4\n", "a\n1\n\n", "a\n1x\n" ROOT,
	};
	PhiCheckpoint checkpoint;
	bool		good = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		good = good && phi_checkpoint_parse(span_of(bad[i]), &checkpoint) == PHI_MALFORMED;
	ok(good, "what is no checkpoint is refused");
	ok(phi_checkpoint_parse(span_of("a\n9223372036854775807\n" ROOT), &checkpoint) == PHI_OK &&
	   checkpoint.size == PHI_TREE_MAX && phi_checkpoint_parse(span_of("a\n0\n" ROOT), &checkpoint) == PHI_OK &&
	   checkpoint.size == 0, "the smallest and the largest are not");
}

static void
test_retirements(void)
{
	static const char *const bad[] = {
		"a\n{[0,1)}\n" ROOT, "/retired\n{[0,1)}\n" ROOT, "a/retired\n{}\n" ROOT, "a/retired\n\n" ROOT,
		"a/retired\n{[0,0)}\n" ROOT, "a/retired\n{[2,1)}\n" ROOT, "a/retired\n{[0,1]}\n" ROOT,
		"a/retired\n{(0,1)}\n" ROOT, "a/retired\n[0,1)\n" ROOT, "a/retired\n{[0,1)\n" ROOT,
		"a/retired\n{[0,1),}\n" ROOT, "a/retired\n{[0,1)[2,3)}\n" ROOT, "a/retired\n{[0,1),[1,2)}\n" ROOT,
		"a/retired\n{[4,5),[1,2)}\n" ROOT, "a/retired\n{[0,1), [2,3)}\n" ROOT, "a/retired\n{[,1)}\n" ROOT,
		"a/retired\n{[0,1)}x\n" ROOT, "a/retired\n{[0,1)}\n" ROOT "x\n", "a/retired\n{[0,1)}\n",
		"a/retired\n{[0,9223372036854775808)}\n" ROOT, "a/retired\n{,[0,1)}\n" ROOT, "a/retired\n,[0,1)}\n" ROOT,
	};
	PhiRetirement retirement;
	uint64_t	from;
	uint64_t	to;
	bool		good = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		good = good && phi_retirement_parse(span_of(bad[i]), &retirement) == PHI_MALFORMED;
	ok(good, "what is no retirement is refused");
	ok(phi_retirement_parse(span_of("a/b/retired\n{[0,128),[130,200)}\n" ROOT), &retirement) == PHI_OK &&
	   strcmp(retirement.origin, "a/b") == 0 && retirement.root.byte[0] == 0x94 &&
	   phi_ranges_next(&retirement.ranges, &from, &to) && from == 0 && to == 128 &&
	   phi_ranges_next(&retirement.ranges, &from, &to) && from == 130 && to == 200 &&
	   !phi_ranges_next(&retirement.ranges, &from, &to), "a retirement names its leaves");
}

static void
test_sequence(void)
{
	static char all[3 * ROOM];
	PhiSpan		rest;
	PhiSpan		note;
	PhiSpan		text;
	bool		good;

	snprintf(all, sizeof(all), "%s%s\n\n%s\n", sumdb_note, spec_note, go_note);
	rest = span_of(all);
	good = phi_note_next(&rest, &note) && phi_note_open(note, &verifiers[2], 1, &text, NULL) == PHI_OK &&
		phi_note_next(&rest, &note) && phi_note_open(note, &verifiers[0], 1, &text, NULL) == PHI_OK &&
		phi_note_next(&rest, &note) && phi_note_open(note, &verifiers[1], 1, &text, NULL) == PHI_OK;
	ok(good && !phi_note_next(&rest, &note) && rest.len == 0, "notes one after the other");
	rest = (PhiSpan) {(const uint8_t *) all, 3};
	ok(!phi_note_next(&rest, &note) && rest.len > 0, "a piece of a note is none");
	rest = span_of("text\n\n\n");
	ok(!phi_note_next(&rest, &note) && rest.len > 0, "text without signatures is none");
	rest = (PhiSpan) {NULL, 0};
	ok(!phi_note_next(&rest, &note) && rest.len == 0, "nothing is none");
}

void
test_notes(void)
{
	test_published();
	test_names();
	test_no_notes();
	test_altered();
	test_several_signatures();
	test_signing();
	test_checkpoints();
	test_retirements();
	test_sequence();
}
