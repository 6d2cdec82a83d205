/*
 * speed.c
 *		Prints ns per seal (with its nonce) and per open, for each suite and for
 *		AES-256-GCM by each library, so that phi_gcm_short can be chosen.
 *
 *		cc -std=gnu99 -O2 -I src/crypto -o speed test/vectors/speed.c \
 *			src/crypto/[a-z]*.c -lcrypto -lsodium -lgfshare && ./speed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define LONGEST		65536

static const PhiSpan aad = {(const uint8_t *) "header7", 7};
static uint8_t buf[LONGEST];
static uint8_t out[LONGEST];
static uint8_t tag[PHI_TAG_MAX];
static uint8_t nonce[PHI_NONCE_MAX];

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

static void
need(PhiStatus status)
{
	if (status != PHI_OK)
	{
		fprintf(stderr, "status %d\n", (int) status);
		exit(1);
	}
}

static double
seal_time(const PhiSuite *suite, PhiSecret *secret, size_t len, int rounds)
{
	double		begin = now();

	for (int i = 0; i < rounds; i++)
	{
		need(phi_random_nonce(nonce, suite->nonce_size));
		need(phi_seal(suite, secret, nonce, aad, buf, len, tag));
	}
	return (now() - begin) / rounds;
}

static double
open_time(const PhiSuite *suite, PhiSecret *secret, size_t len, int rounds)
{
	double		begin = now();

	for (int i = 0; i < rounds; i++)
		need(phi_open(suite, secret, nonce, aad, buf, len, tag, out));
	return (now() - begin) / rounds;
}

/* The best of some runs: the machine has other things to do. */
static void
report(const char *name, const PhiSuite *suite, PhiSecret *secret, size_t len)
{
	int			rounds = 200000000 / (int) (len * 10 + 2000);
	double		seal = 1e12;
	double		open = 1e12;

	for (int i = 0; i < 7; i++)
	{
		double		t = seal_time(suite, secret, len, rounds);

		seal = t < seal ? t : seal;
		t = open_time(suite, secret, len, rounds);
		open = t < open ? t : open;
	}
	printf("%-32s %6zu B  seal %7.0f ns  open %7.0f ns\n", name, len, seal, open);
}

int
main(void)
{
	static const size_t sizes[] = {20, 4096};
	static const size_t around[] = {
		20, 64, 128, 256, 320, 384, 448, 512, 640, 768, 1024, 2048, 4096
	};
	PhiSecret  *secret;
	size_t		chosen;

	if (!phi_crypto_init() || (secret = phi_secret_new()) == NULL)
		return 1;
	need(phi_random_key(secret->material, PHI_SECRET_SIZE));
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
	{
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			report(phi_suite_by_id(id)->name, phi_suite_by_id(id), secret, sizes[i]);
	}

	chosen = phi_gcm_short;
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
	{
		phi_gcm_short = SIZE_MAX;
		report("xaes-256-gcm by libsodium", phi_suite_by_id(1), secret, around[i]);
		phi_gcm_short = 0;
		report("xaes-256-gcm by OpenSSL", phi_suite_by_id(1), secret, around[i]);
	}
	phi_gcm_short = chosen;
	phi_secret_free(secret);
	return 0;
}
