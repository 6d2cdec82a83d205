/*
 * note.h
 *		Signed notes: checkpoints of the Merkle log, and what else is signed.
 *
 * A note is text, an empty line, and signature lines (C2SP signed-note).  Plain
 * C without PostgreSQL: the stand-alone verifier is made of it, too.  Reading is
 * strict: what it accepts has one spelling only.
 */
#ifndef PHI_NOTE_H
#define PHI_NOTE_H

#include "audit/merkle.h"

/*
 * A key's name is the origin of the log that it signs for: UTF-8 without white
 * space, control characters and "+".
 */
#define PHI_NAME_MAX	255		/* bytes */
extern bool phi_note_name_valid(const char *name, size_t len);

/* What checks the signatures of one key. */
typedef struct PhiVerifier
{
	char		name[PHI_NAME_MAX + 1];
	uint8_t		hash[4];		/* names the key, with the name */
	uint8_t		key[PHI_SIGN_KEY];
} PhiVerifier;

/*
 * As text: NAME+HASH+KEY, where HASH is 8 lower-case hex digits and KEY base64 of
 * a byte 1 and the Ed25519 public key.  "out" has PHI_VERIFIER_TEXT bytes.
 */
#define PHI_VERIFIER_TEXT	(PHI_NAME_MAX + 56)
extern PhiStatus phi_verifier_make(const char *name, const uint8_t *public_key, PhiVerifier *out);
extern void phi_verifier_format(const PhiVerifier *verifier, char *out);
extern PhiStatus phi_verifier_parse(const char *text, size_t len, PhiVerifier *out);

/*
 * The text of a checkpoint (C2SP tlog-checkpoint): three lines, each ended by a
 * newline: origin, size in decimal, base64 of the root.  "out" has
 * PHI_CHECKPOINT_TEXT bytes, the terminating zero included.
 */
#define PHI_CHECKPOINT_TEXT	(PHI_NAME_MAX + 68)
typedef struct PhiCheckpoint
{
	char		origin[PHI_NAME_MAX + 1];
	uint64_t	size;
	PhiHash		root;
} PhiCheckpoint;
extern PhiStatus phi_checkpoint_format(const PhiCheckpoint *checkpoint, char *out);
extern PhiStatus phi_checkpoint_parse(PhiSpan text, PhiCheckpoint *out);

/*
 * The text of a retirement: three lines: origin with "/retired" behind it, the
 * leaves that were retired as an int8multirange ({[0,128),[130,200)}: not empty,
 * ascending, none touching the next), base64 of the root of a tree of just these
 * leaves, in their order.  phi_ranges_next gives one range after the other and
 * moves "ranges" on; false at the end.
 */
#define PHI_RETIREMENT_SUFFIX	"/retired"
typedef struct PhiRetirement
{
	char		origin[PHI_NAME_MAX + 1];
	PhiSpan		ranges;			/* within the text that was parsed */
	PhiHash		root;
} PhiRetirement;
extern PhiStatus phi_retirement_parse(PhiSpan text, PhiRetirement *out);
extern bool phi_ranges_next(PhiSpan *ranges, uint64_t *from, uint64_t *to);

/*
 * The note of a text: UTF-8 that ends with a newline, without other control
 * characters.  The key pair is the secret's (phi_sign_key), "name" the origin.
 * The size counts the terminating zero.
 */
extern size_t phi_note_size(size_t text_len, const char *name);
extern PhiStatus phi_note_sign(PhiSpan text, const char *name, const PhiSecret *secret, char *out);

/*
 * Checks a note: of the "n" verifiers at least one has signed it, and each whose
 * name and hash a signature bears.  Other signatures are not looked into.
 * "text" is within the note; "signer" (or NULL) is the first that signed.
 * PHI_MALFORMED: it is no note; PHI_AUTH: nobody known has signed it, or a
 * signature is false ("text" is set all the same, to say what it was about).
 */
extern PhiStatus phi_note_open(PhiSpan note, const PhiVerifier *verifiers, int n,
							   PhiSpan *text, int *signer);

/*
 * Takes the first note from several that stand one after the other, with empty
 * lines between them or not; none of their texts may have an empty line.  False:
 * there is none left, or (with some of "rest" left) it is no note.
 */
extern bool phi_note_next(PhiSpan *rest, PhiSpan *note);

#endif							/* PHI_NOTE_H */
