/*
 * crypto.h
 *		Everything that the extension asks of OpenSSL and libsodium.
 *
 * The room knows neither PostgreSQL nor its catalogues: it is plain C, returns
 * status codes, and can be linked into a test program by itself.  Only files
 * of this folder include <openssl/...> or <sodium.h>.
 *
 * Nothing here is thread-safe or may run in a signal handler.  No status may be
 * ignored: after any but PHI_OK the results are not to be used.
 */
#ifndef PHI_CRYPTO_H
#define PHI_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PhiStatus
{
	PHI_OK = 0,
	PHI_AUTH,					/* does not authenticate: altered, or wrong key */
	PHI_MALFORMED,				/* lengths or identifiers make no sense */
	PHI_UNSUPPORTED,			/* the library at hand lacks the algorithm */
	PHI_MEMORY,					/* out of (locked) memory */
	PHI_LIBRARY					/* the library failed, e.g. no entropy */
} PhiStatus;

typedef struct PhiSpan
{
	const uint8_t *ptr;
	size_t		len;
} PhiSpan;

#define PHI_SECRET_SIZE		32	/* bytes of a KEK, DEK or search key */
#define PHI_KEY_MAX			64	/* bytes of the longest suite key */
#define PHI_NONCE_MAX		24
#define PHI_TAG_MAX			32
#define PHI_SUITE_MAX		3	/* highest suite id; ids begin at 1 */

/*
 * An algorithm: one row of a table, so that another can take its place without
 * a change to any caller.  A data key is not used by a suite directly: each
 * suite has a key of its own, derived from it (see phi_seal), so one data key
 * may serve several suites.
 *
 * "serial" names the key to contexts cached inside the suite.  Two different
 * keys must never come with the same serial in one process; 0 means "do not
 * cache".
 *
 * seal encrypts "len" bytes at "buf" in place and writes the tag; when the
 * library fails, "buf" is wiped rather than left half encrypted.  open decrypts
 * "len" bytes from "cipher" to "plain", which is the same address or does not
 * overlap; on PHI_AUTH "plain" is all zeros (so is "cipher", when the same).
 * Lengths up to 1 GB; with a length of 0 the address may be NULL.
 */
typedef struct PhiSuite
{
	uint8_t		id;				/* as stored in an envelope */
	const char *name;			/* value of the setting phi.suite */
	uint8_t		key_size;		/* bytes */
	uint8_t		nonce_size;		/* bytes */
	uint8_t		tag_size;		/* bytes */
	PhiStatus	(*seal) (const uint8_t *key, uint64_t serial,
						 const uint8_t *nonce, PhiSpan aad,
						 uint8_t *buf, size_t len, uint8_t *tag);
	PhiStatus	(*open) (const uint8_t *key, uint64_t serial,
						 const uint8_t *nonce, PhiSpan aad,
						 const uint8_t *cipher, size_t len,
						 const uint8_t *tag, uint8_t *plain);
} PhiSuite;

/* NULL when there is no such suite. */
extern const PhiSuite *phi_suite_by_id(unsigned id);

/*
 * A key in memory: only ever made by phi_secret_new, in pages that are locked
 * (as far as RLIMIT_MEMLOCK goes), guarded and left out of core dumps.  Its
 * material is set once, before the first use: what was derived from it stays.
 */
typedef struct PhiSecret
{
	uint64_t	serial;			/* never reused in this process */
	uint32_t	derived;		/* which of the keys below are there */
	uint8_t		material[PHI_SECRET_SIZE];
	uint8_t		prf_key[16];
	uint8_t		digest_key[32];
	uint8_t		suite_key[PHI_SUITE_MAX][PHI_KEY_MAX];	/* [id - 1] */
} PhiSecret;

/*
 * Cheap when repeated.  False: the libraries fail.  A child of a fork need not
 * call it again, and shares no nonce with its parent.
 */
extern bool phi_crypto_init(void);

/*
 * A zeroed key; NULL when out of memory.  The caller fills "material"; as long
 * as that is all zeros, the key is refused as PHI_MALFORMED.
 */
extern PhiSecret *phi_secret_new(void);

/* Wipes the key and the contexts that know it.  NULL is allowed. */
extern void phi_secret_free(PhiSecret *secret);

/*
 * Wipes every key, context and pooled random byte of this process.  All secrets
 * count as freed: callers must drop their pointers to them.  One that is used
 * all the same is refused (PHI_MALFORMED) until phi_secret_new gives its place
 * to another key, whose serial then differs.  The serial itself is not wiped.
 *
 * Nobody calls this at exit but the user of the room.
 */
extern void phi_crypto_wipe(void);

/* Locks the pages of "len" bytes and keeps them out of core dumps: best effort. */
extern void phi_memory_guard(void *ptr, size_t len);

/* Not optimised away. */
extern void phi_memory_wipe(void *ptr, size_t len);

/*
 * Encrypts in place, or decrypts, with the key that "suite" has of "secret":
 * derived by libsodium's crypto_kdf (BLAKE2b) under the suite's id and the
 * context "pg_phi_1", once, and kept in the secret.  No suite (NULL) is
 * PHI_MALFORMED.
 */
extern PhiStatus phi_seal(const PhiSuite *suite, PhiSecret *secret,
						  const uint8_t *nonce, PhiSpan aad,
						  uint8_t *buf, size_t len, uint8_t *tag);
extern PhiStatus phi_open(const PhiSuite *suite, PhiSecret *secret,
						  const uint8_t *nonce, PhiSpan aad,
						  const uint8_t *cipher, size_t len,
						  const uint8_t *tag, uint8_t *plain);

/*
 * Keyed PRF (SipHash-2-4) of "data" under a key derived from "secret".
 */
extern PhiStatus phi_prf64(PhiSecret *secret, PhiSpan data, uint64_t *out);

/*
 * Keyed BLAKE2b-256 of "data" under a key derived from "secret".
 */
#define PHI_DIGEST_SIZE	32
extern PhiStatus phi_digest(PhiSecret *secret, PhiSpan data, uint8_t *out);

/* Nonces come from a pool; keys straight from the generator. */
extern PhiStatus phi_random_nonce(uint8_t *out, size_t len);
extern PhiStatus phi_random_key(uint8_t *out, size_t len);

/* SHA-256 of the parts one after the other; "out" has 32 bytes. */
extern PhiStatus phi_sha256(const PhiSpan *parts, int n, uint8_t *out);

/*
 * Names a key without telling it: the first 8 bytes, as 16 hex digits and a
 * terminating zero, of a keyed hash under the key.  Keys of 16 to 64 bytes.
 */
#define PHI_FINGERPRINT_SIZE 17
extern PhiStatus phi_fingerprint(const uint8_t *key, size_t len, char *out);

/*
 * Shamir's secret sharing of PHI_SECRET_SIZE bytes: any "threshold" of the "n"
 * shares give the secret, fewer tell nothing.  A share is as long as the secret
 * and has a number, of which the first is 1; "shares" has them in this order.
 * Whether the shares were right ones combine cannot tell.
 */
#define PHI_SHARES_MAX	16
extern PhiStatus phi_share_split(const uint8_t *secret, int threshold, int n,
								 uint8_t *shares);
extern PhiStatus phi_share_combine(const uint8_t *numbers, const uint8_t *shares,
								   int n, uint8_t *secret);

/*
 * Boxes (libsodium's crypto_box_seal): made with a public key, opened with both
 * keys.  A box is PHI_BOX_EXTRA bytes longer than what is in it.
 */
#define PHI_BOX_KEY		32
#define PHI_BOX_EXTRA	48
extern PhiStatus phi_box_keypair(uint8_t *public_key, uint8_t *secret_key);
extern PhiStatus phi_box_seal(const uint8_t *public_key, PhiSpan plain, uint8_t *box);
extern PhiStatus phi_box_open(const uint8_t *public_key, const uint8_t *secret_key,
							  PhiSpan box, uint8_t *plain);

/*
 * Ed25519 (RFC 8032).  The key pair is derived from the secret, so that neither
 * needs storing: phi_sign_key tells the public one.  phi_sign_check is strict:
 * no second form of a signature, and no key of small order, is accepted;
 * PHI_AUTH otherwise.
 */
#define PHI_SIGN_KEY	32
#define PHI_SIGNATURE	64
extern PhiStatus phi_sign_key(const PhiSecret *secret, uint8_t *public_key);
extern PhiStatus phi_sign(const PhiSecret *secret, PhiSpan data, uint8_t *signature);
extern PhiStatus phi_sign_check(const uint8_t *public_key, PhiSpan data,
								const uint8_t *signature);

/*
 * RFC 4648 base64 with padding, and hexadecimal.  Decoding is strict: no white
 * space, no missing padding, no unused bits set; PHI_MALFORMED otherwise, with
 * all "room" bytes of "out" wiped.  Hexadecimal may be of either case.
 * phi_base64_size counts the terminating zero; phi_hex_encode writes
 * 2 * len + 1 bytes.
 */
extern size_t phi_base64_size(size_t len);
extern void phi_base64_encode(const uint8_t *data, size_t len, char *out);
extern PhiStatus phi_base64_decode(const char *text, size_t len,
								   uint8_t *out, size_t room, size_t *used);
extern void phi_hex_encode(const uint8_t *data, size_t len, char *out);
extern PhiStatus phi_hex_decode(const char *text, size_t len,
								uint8_t *out, size_t room, size_t *used);

#endif							/* PHI_CRYPTO_H */
