/*
 * kat.c
 *		Known-answer tests of src/crypto and of plain C in src/audit, without a server; prints TAP.
 *
 * Run them with the script "run" beside this file.
 */
#include "kat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const Library libraries[LIBRARIES] = {
	{"libsodium", SIZE_MAX},
	{"OpenSSL", 0},
};

static int	tests;
static int	failures;

void
ok(bool good, const char *format,...)
{
	va_list		args;

	printf("%s %d - ", good ? "ok" : "not ok", ++tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	if (!good)
		failures++;
}

void
skip(const char *why)
{
	printf("ok %d # SKIP %s\n", ++tests, why);
}

size_t
unhex(const char *hex, uint8_t *out, size_t room)
{
	size_t		len = strlen(hex) / 2;

	for (size_t i = 0; i < len; i++)
	{
		unsigned	byte;

		if (i >= room || sscanf(hex + 2 * i, "%2x", &byte) != 1)
		{
			printf("Bail out! not hex, or too long: %s\n", hex);
			exit(1);
		}
		out[i] = (uint8_t) byte;
	}
	return len;
}

void
fill(uint8_t *out, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
	{
		seed = seed * 1103515245 + 12345;
		out[i] = (uint8_t) (seed >> 16);
	}
}

uint64_t
new_serial(void)
{
	static uint64_t last = UINT64_C(1) << 40;

	return ++last;
}

bool
all_zero(const uint8_t *data, size_t len)
{
	uint8_t		any = 0;

	for (size_t i = 0; i < len; i++)
		any |= data[i];
	return any == 0;
}

/* Seals and opens with a cached key, again with it, and with none. */
void
check_vector(const Vector *v)
{
	const PhiSuite *suite = phi_suite_by_id(v->suite);
	uint8_t		key[PHI_KEY_MAX];
	uint8_t		nonce[PHI_NONCE_MAX];
	uint8_t		aad[256];
	uint8_t		plain[256];
	uint8_t		cipher[256];
	uint8_t		tag[PHI_TAG_MAX];
	uint8_t		buf[256];
	uint8_t		out[PHI_TAG_MAX];
	size_t		len = unhex(v->plain, plain, sizeof(plain));
	PhiSpan		span = {aad, unhex(v->aad, aad, sizeof(aad))};
	uint64_t	serials[3] = {new_serial(), 0, 0};
	bool		same = true;

	serials[1] = serials[0];
	unhex(v->key, key, sizeof(key));
	unhex(v->nonce, nonce, sizeof(nonce));
	unhex(v->cipher, cipher, sizeof(cipher));
	if (v->tag != NULL)
		unhex(v->tag, tag, sizeof(tag));
	for (int i = 0; i < 3; i++)
	{
		memcpy(buf, plain, len);
		same = same &&
			suite->seal(key, serials[i], nonce, span, buf, len, out) == PHI_OK &&
			memcmp(buf, cipher, len) == 0 &&
			(v->tag == NULL || memcmp(out, tag, suite->tag_size) == 0) &&
			suite->open(key, serials[i], nonce, span, buf, len, out, buf) == PHI_OK &&
			memcmp(buf, plain, len) == 0;
	}
	ok(same, "%s", v->name);
}

int
main(int argc, char **argv)
{
	if (argc != 3)
	{
		fprintf(stderr, "usage: %s wycheproof.txt wycheproof_ed25519.txt\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	ok(phi_crypto_init() && phi_crypto_init(), "the libraries start");
	test_xaes();
	test_suites();
	test_wycheproof(argv[1]);
	test_negative();
	test_random();
	test_text();
	test_shares();
	test_sign(argv[2]);
	test_merkle();
	test_notes();
	test_secrets();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
