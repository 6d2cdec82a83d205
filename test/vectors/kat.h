/*
 * kat.h
 *		What the files of the known-answer tests share.
 */
#ifndef PHI_KAT_H
#define PHI_KAT_H

#include <stdio.h>

#include "internal.h"

/* One TAP line. */
extern void ok(bool good, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void skip(const char *why);

/* Hex to bytes; gives their number and ends the program when it is not hex. */
extern size_t unhex(const char *hex, uint8_t *out, size_t room);

/* Bytes that are the same in every run. */
extern void fill(uint8_t *out, size_t len, unsigned seed);

/* A serial that no other test uses. */
extern uint64_t new_serial(void);

/* To the first case of a file that begins with lines of "#". */
extern void skip_comments(FILE *f);

extern bool all_zero(const uint8_t *data, size_t len);

/* The libraries behind AES-GCM: a name, and the phi_gcm_short that forces it. */
typedef struct Library
{
	const char *name;
	size_t		gcm_short;
} Library;

#define LIBRARIES 2
extern const Library libraries[LIBRARIES];

/*
 * A signed tree head of sum.golang.org with the proof of one of its leaves, from
 * transparency-dev/incubator, cmd/tlog-verify/testdata: what others published.
 */
extern const char sumdb_key[];
extern const char sumdb_note[];
extern const char sumdb_leaf[];
extern const uint64_t sumdb_index;
#define SUMDB_PROOF 26
extern const char *const sumdb_proof[SUMDB_PROOF];

/* A published vector: everything in hex; ct is without the tag. */
typedef struct Vector
{
	const char *name;
	unsigned	suite;
	const char *key;
	const char *nonce;
	const char *aad;
	const char *plain;
	const char *cipher;
	const char *tag;			/* NULL: the source tells none */
} Vector;

extern void check_vector(const Vector *v);

/* One for each file. */
extern void test_xaes(void);
extern void test_suites(void);
extern void test_wycheproof(const char *file);
extern void test_negative(void);
extern void test_random(void);
extern void test_secrets(void);
extern void test_text(void);
extern void test_shares(void);
extern void test_sign(const char *file);
extern void test_merkle(void);
extern void test_notes(void);

#endif							/* PHI_KAT_H */
