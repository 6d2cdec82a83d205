/*
 * share.c
 *		Sharing a key among custodians: Shamir's scheme over GF(256), by
 *		libgfshare, and boxes that only the owner of a secret key opens.
 *
 * libgfshare draws its polynomials from a function that returns no status and
 * overwrites with it what it frees, so a failure is remembered here and the
 * result dropped.
 */
#include "internal.h"

#include <libgfshare.h>
#include <sodium.h>
#include <string.h>

_Static_assert(PHI_BOX_KEY == crypto_box_PUBLICKEYBYTES &&
			   PHI_BOX_KEY == crypto_box_SECRETKEYBYTES &&
			   PHI_BOX_EXTRA == crypto_box_SEALBYTES,
			   "sizes of boxes are libsodium's");

static bool draw_failed;

static void
draw(unsigned char *out, unsigned int len)
{
	if (len > 0 && phi_random_key(out, len) != PHI_OK)
	{
		sodium_memzero(out, len);
		draw_failed = true;
	}
}

PhiStatus
phi_share_split(const uint8_t *secret, int threshold, int n, uint8_t *shares)
{
	uint8_t		numbers[PHI_SHARES_MAX];
	uint8_t		copy[PHI_SECRET_SIZE];	/* libgfshare takes no const */
	gfshare_ctx *ctx;

	if (threshold < 1 || threshold > n || n > PHI_SHARES_MAX)
		return PHI_MALFORMED;
	for (int i = 0; i < n; i++)
		numbers[i] = (uint8_t) (i + 1);
	gfshare_fill_rand = draw;
	draw_failed = false;
	ctx = gfshare_ctx_init_enc(numbers, n, (uint8_t) threshold, PHI_SECRET_SIZE);
	if (ctx == NULL)
		return PHI_MEMORY;
	memcpy(copy, secret, sizeof(copy));
	gfshare_ctx_enc_setsecret(ctx, copy);
	sodium_memzero(copy, sizeof(copy));
	for (int i = 0; i < n; i++)
		gfshare_ctx_enc_getshare(ctx, (uint8_t) i, shares + i * PHI_SECRET_SIZE);
	gfshare_ctx_free(ctx);
	if (!draw_failed)
		return PHI_OK;
	sodium_memzero(shares, (size_t) n * PHI_SECRET_SIZE);
	return PHI_LIBRARY;
}

static bool
distinct(const uint8_t *numbers, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (numbers[i] == 0 || memchr(numbers, numbers[i], (size_t) i) != NULL)
			return false;
	}
	return true;
}

PhiStatus
phi_share_combine(const uint8_t *numbers, const uint8_t *shares, int n,
				  uint8_t *secret)
{
	uint8_t		copy[PHI_SHARES_MAX];
	uint8_t		share[PHI_SECRET_SIZE];
	gfshare_ctx *ctx;

	if (n < 1 || n > PHI_SHARES_MAX || !distinct(numbers, n))
		return PHI_MALFORMED;
	memcpy(copy, numbers, (size_t) n);
	gfshare_fill_rand = draw;
	ctx = gfshare_ctx_init_dec(copy, n, PHI_SECRET_SIZE);
	if (ctx == NULL)
		return PHI_MEMORY;
	for (int i = 0; i < n; i++)
	{
		memcpy(share, shares + i * PHI_SECRET_SIZE, sizeof(share));
		gfshare_ctx_dec_giveshare(ctx, (uint8_t) i, share);
	}
	gfshare_ctx_dec_extract(ctx, secret);
	sodium_memzero(share, sizeof(share));
	gfshare_ctx_free(ctx);
	return PHI_OK;
}

PhiStatus
phi_box_keypair(uint8_t *public_key, uint8_t *secret_key)
{
	return crypto_box_keypair(public_key, secret_key) == 0 ? PHI_OK : PHI_LIBRARY;
}

PhiStatus
phi_box_seal(const uint8_t *public_key, PhiSpan plain, uint8_t *box)
{
	return crypto_box_seal(box, plain.ptr, plain.len, public_key) == 0 ?
		PHI_OK : PHI_MALFORMED;
}

PhiStatus
phi_box_open(const uint8_t *public_key, const uint8_t *secret_key, PhiSpan box,
			 uint8_t *plain)
{
	if (box.len < PHI_BOX_EXTRA)
		return PHI_MALFORMED;
	return crypto_box_seal_open(plain, box.ptr, box.len, public_key, secret_key) == 0 ?
		PHI_OK : PHI_AUTH;
}
