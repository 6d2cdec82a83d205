/*
 * kat_xaes.c
 *		XAES-256-GCM against the vectors of its specification, by both libraries.
 *
 * Source: C2SP, XAES-256-GCM.md (https://c2sp.org/XAES-256-GCM), with its
 * accumulated vectors for 10,000 and 1,000,000 random inputs.
 */
#include "kat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONCE "4142434445464748494a4b4c4d4e4f505152535455565758"
#define PLAIN "584145532d3235362d47434d"

static const Vector vectors[] = {
	{
		"XAES-256-GCM, key 01, no AAD", 1,
		"0101010101010101010101010101010101010101010101010101010101010101",
		NONCE, "", PLAIN,
		"ce546ef63c9cc60765923609", "b33a9a1974e96e52daf2fcf7075e2271"
	},
	{
		"XAES-256-GCM, key 03, AAD", 1,
		"0303030303030303030303030303030303030303030303030303030303030303",
		NONCE, "633273702e6f72672f584145532d3235362d47434d", PLAIN,
		"986ec1832593df5443a17943", "7fd083bf3fdb41abd740a21f71eb769d"
	},
};

/* Kx of the two */
static const char *const subkeys[] = {
	"c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
	"e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
};

/* On average an iteration reads 313 bytes of the stream. */
#define STREAM_PER_ITERATION 320

typedef struct Stream
{
	uint8_t    *data;
	size_t		len;
	size_t		at;
} Stream;

static const uint8_t *
stream_read(Stream *s, size_t len)
{
	s->at += len;
	if (s->at > s->len)
	{
		puts("Bail out! the stream of random inputs is too short");
		exit(1);
	}
	return s->data + s->at - len;
}

/* Seals one random input into "hash", and opens it again. */
static bool
accumulate(Stream *s, EVP_MD_CTX *hash)
{
	const PhiSuite *suite = phi_suite_by_id(1);
	uint8_t		key[32];
	uint8_t		nonce[24];
	uint8_t		plain[255];
	uint8_t		buf[255];
	uint8_t		tag[16];
	PhiSpan		aad;
	size_t		len;

	memcpy(key, stream_read(s, 32), 32);
	memcpy(nonce, stream_read(s, 24), 24);
	len = *stream_read(s, 1);
	memcpy(plain, stream_read(s, len), len);
	aad.len = *stream_read(s, 1);
	aad.ptr = stream_read(s, aad.len);

	memcpy(buf, plain, len);
	return suite->seal(key, new_serial(), nonce, aad, buf, len, tag) == PHI_OK &&
		EVP_DigestUpdate(hash, buf, len) == 1 &&
		EVP_DigestUpdate(hash, tag, sizeof(tag)) == 1 &&
		suite->open(key, 0, nonce, aad, buf, len, tag, buf) == PHI_OK &&
		memcmp(buf, plain, len) == 0;
}

static void
test_accumulated(size_t iterations, const char *expected)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	uint8_t		result[32];
	uint8_t		answer[32];
	Stream		s = {.len = iterations * STREAM_PER_ITERATION};
	bool		good;

	unhex(expected, answer, sizeof(answer));
	s.data = malloc(s.len);
	good = s.data != NULL && hash != NULL &&
		EVP_DigestInit_ex(hash, EVP_shake128(), NULL) == 1 &&
		EVP_DigestFinalXOF(hash, s.data, s.len) == 1 &&
		EVP_DigestInit_ex(hash, EVP_shake128(), NULL) == 1;
	for (size_t i = 0; good && i < iterations; i++)
		good = accumulate(&s, hash);
	good = good && EVP_DigestFinalXOF(hash, result, sizeof(result)) == 1 &&
		memcmp(result, answer, sizeof(answer)) == 0;
	ok(good, "XAES-256-GCM accumulated over %zu random inputs", iterations);
	EVP_MD_CTX_free(hash);
	free(s.data);
}

static void
test_subkeys(void)
{
	for (int i = 0; i < 2; i++)
	{
		uint8_t		key[32];
		uint8_t		nonce[24];
		uint8_t		subkey[32];
		uint8_t		answer[32];

		unhex(vectors[i].key, key, sizeof(key));
		unhex(vectors[i].nonce, nonce, sizeof(nonce));
		unhex(subkeys[i], answer, sizeof(answer));
		ok(phi_xaes_subkey(key, new_serial(), nonce, subkey) == PHI_OK &&
		   memcmp(subkey, answer, 32) == 0,
		   "%s: derived key", vectors[i].name);
	}
}

/* One input by each library: the same bytes, and each opens the other's. */
static bool
libraries_agree(size_t len, size_t aad_len)
{
	const PhiSuite *suite = phi_suite_by_id(1);
	static uint8_t data[2][2048];
	uint8_t		key[32];
	uint8_t		nonce[24];
	uint8_t		aad[64];
	uint8_t		tag[2][16];
	PhiSpan		span = {aad, aad_len};
	bool		good = true;

	fill(key, sizeof(key), (unsigned) len);
	fill(nonce, sizeof(nonce), (unsigned) (len + aad_len));
	fill(aad, aad_len, 5);
	for (int i = 0; i < LIBRARIES; i++)
	{
		phi_gcm_short = libraries[i].gcm_short;
		fill(data[i], len, 6);
		good = good &&
			suite->seal(key, 0, nonce, span, data[i], len, tag[i]) == PHI_OK;
	}
	good = good && memcmp(data[0], data[1], len) == 0 &&
		memcmp(tag[0], tag[1], 16) == 0;
	for (int i = 0; i < LIBRARIES; i++)
	{
		phi_gcm_short = libraries[i].gcm_short;
		good = good && suite->open(key, 0, nonce, span, data[1 - i], len,
								   tag[1 - i], data[1 - i]) == PHI_OK;
	}
	return good && memcmp(data[0], data[1], len) == 0;
}

void
test_xaes(void)
{
	size_t		usual = phi_gcm_short;
	bool		agree = true;

	test_subkeys();
	for (int i = 0; i < LIBRARIES; i++)
	{
		printf("# AES-256-GCM by %s\n", libraries[i].name);
		phi_gcm_short = libraries[i].gcm_short;
		check_vector(&vectors[0]);
		check_vector(&vectors[1]);
		test_accumulated(10000, "e6b9edf2df6cec60c8cbd864e2211b59"
						 "7fb69a529160cd040d56c0c210081939");
		if (getenv("PHI_KAT_LONG") != NULL)
			test_accumulated(1000000, "2163ae1445985a30b60585ee67daa556"
							 "74df06901b890593e824b8a7c885ab15");
	}
	for (size_t len = usual - 40; len <= usual + 40; len++)
		agree = agree && libraries_agree(len, len % 50);
	for (size_t len = 0; len < 2048; len += 1 + len / 8)
		agree = agree && libraries_agree(len, 64 - len % 64);
	ok(agree, "both libraries write and read the same bytes");
	phi_gcm_short = usual;
}
