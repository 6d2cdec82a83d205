/*
 * custodian.h
 *		The files of the provider "custodian": who they are, and their shares.
 */
#ifndef PHI_CUSTODIAN_H
#define PHI_CUSTODIAN_H

#include "keys/provider.h"
#include "pgtime.h"

#define PHI_SALT_SIZE 16		/* of Argon2id in libsodium */

/* A custodian's public key, and how his passphrase leads to the secret one. */
typedef struct PhiCustodian
{
	char		name[NAMEDATALEN];	/* of his login role */
	uint8		salt[PHI_SALT_SIZE];
	int64		opslimit;
	int64		memlimit;		/* bytes */
	uint8		public_key[PHI_BOX_KEY];
} PhiCustodian;

#define PHI_SHARE_BOX (PHI_SECRET_SIZE + PHI_BOX_EXTRA)

/* His share of a master key, in a box that he opens. */
typedef struct PhiShare
{
	PhiCustodian of;			/* as he was when the key was made */
	char		fingerprint[PHI_FINGERPRINT_SIZE];
	uint8		box[PHI_SHARE_BOX];
} PhiShare;

/* The one at [i] has the number i + 1. */
typedef struct PhiShares
{
	int			threshold;
	int			n;
	PhiShare	share[PHI_SHARES_MAX];
} PhiShares;

#define PHI_SHARES_SUFFIX ".shares"

/* Those that are enrolled; the number of them. */
extern int	phi_read_custodians(PhiCustodian *custodians);

extern void phi_read_shares(const char *label, PhiShares *shares);
extern void phi_write_shares(const char *label, const PhiShares *shares);

/* The fields of a line that lead to a custodian's key; false: not sound. */
#define PHI_ACCESS_SIZE 128
extern void phi_print_access(const PhiCustodian *custodian, char *text);
extern bool phi_parse_access(const char *text, PhiCustodian *custodian, int *used);

/* Base64 of exactly "size" bytes. */
extern bool phi_decode_exactly(const char *text, uint8 *out, size_t size);

/*
 * The lines of a file of the key directory; NIL when there is none and "hint" is
 * NULL.  ERROR F0000 unless the first line is "header".
 */
extern List *phi_read_lines(const char *kind, const char *path, const char *header,
							const char *hint);

/* ERROR F0000. */
extern void phi_report_damaged(const char *kind, const char *path, int line) pg_attribute_noreturn();

#endif							/* PHI_CUSTODIAN_H */
