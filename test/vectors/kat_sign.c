/*
 * kat_sign.c
 *		Ed25519: the cases of wycheproof_ed25519.txt, and the derived key pair.
 */
#include "kat.h"

#include <string.h>

#define MESSAGE_MAX 1100

/* Reads a case and tries it; false at the end of the file. */
static bool
try_case(FILE *f, bool *good)
{
	char		id[8];
	char		result[16];
	char		hex[3][2 * MESSAGE_MAX + 1];
	uint8_t		key[PHI_SIGN_KEY];
	uint8_t		message[MESSAGE_MAX];
	uint8_t		signature[PHI_SIGNATURE];
	PhiSpan		span = {message, 0};

	if (fscanf(f, "%7s %15s %2200s %2200s %2200s", id, result, hex[0], hex[1], hex[2]) != 5)
		return false;
	if (strcmp(hex[1], "-") != 0)
		span.len = unhex(hex[1], message, sizeof(message));
	*good = unhex(hex[0], key, sizeof(key)) == sizeof(key) &&
		unhex(hex[2], signature, sizeof(signature)) == sizeof(signature) &&
		phi_sign_check(key, span, signature) ==
		(strcmp(result, "valid") == 0 ? PHI_OK : PHI_AUTH);
	if (!*good)
		printf("# wycheproof Ed25519 %s\n", id);
	return true;
}

static void
test_wycheproof_signatures(const char *file)
{
	FILE	   *f = fopen(file, "r");
	int			all = 0;
	int			good = 0;
	bool		one;

	if (f != NULL)
	{
		skip_comments(f);
		for (; try_case(f, &one); all++)
			good += one;
		fclose(f);
	}
	ok(all == 139 && good == all, "wycheproof, Ed25519: %d of %d cases", good, all);
}

/* OpenSSL's opinion on a key pair and a signature from the seed. */
static bool
openssl_signs(const uint8_t *seed, PhiSpan data, uint8_t *public_key, uint8_t *signature)
{
	EVP_PKEY   *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t		key_len = PHI_SIGN_KEY;
	size_t		len = PHI_SIGNATURE;
	bool		good = EVP_PKEY_get_raw_public_key(pair, public_key, &key_len) == 1 &&
		EVP_DigestSignInit(context, NULL, NULL, NULL, pair) == 1 &&
		EVP_DigestSign(context, signature, &len, data.ptr, data.len) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(pair);
	return good;
}

/* The seed of a secret of bytes 00 to 1f, by Python's hashlib.blake2b as in kat_suites.c. */
static const char *const seed_hex = "8d52955c408fa5e236327fd5deba37f19a175faebae134716d9a7f1511a16490";

static void
test_derived_pair(void)
{
	PhiSecret  *secret = phi_secret_new();
	PhiSpan		text = {(const uint8_t *) "text", 4};
	uint8_t		seed[32];
	uint8_t		keys[2][PHI_SIGN_KEY];
	uint8_t		signatures[2][PHI_SIGNATURE];

	ok(phi_sign_key(secret, keys[0]) == PHI_MALFORMED &&
	   phi_sign(secret, text, signatures[0]) == PHI_MALFORMED &&
	   phi_sign_key(NULL, keys[0]) == PHI_MALFORMED, "no key pair without a secret");
	for (uint8_t i = 0; i < PHI_SECRET_SIZE; i++)
		secret->material[i] = i;
	unhex(seed_hex, seed, sizeof(seed));
	ok(phi_sign_key(secret, keys[0]) == PHI_OK && phi_sign(secret, text, signatures[0]) == PHI_OK &&
	   openssl_signs(seed, text, keys[1], signatures[1]) &&
	   memcmp(keys[0], keys[1], sizeof(keys[0])) == 0 &&
	   memcmp(signatures[0], signatures[1], sizeof(signatures[0])) == 0,
	   "the derived key pair signs as OpenSSL does");
	ok(phi_sign_check(keys[0], text, signatures[0]) == PHI_OK &&
	   phi_sign_check(keys[0], (PhiSpan) {text.ptr, 3}, signatures[0]) == PHI_AUTH,
	   "its signature is of this text only");
	phi_secret_free(secret);
}

/* With the neutral element as key, S = 0 and R = neutral would sign everything. */
static void
test_small_order(void)
{
	uint8_t		key[PHI_SIGN_KEY] = {1};
	uint8_t		signature[PHI_SIGNATURE] = {1};

	ok(phi_sign_check(key, (PhiSpan) {key, 1}, signature) == PHI_AUTH,
	   "a key of small order signs nothing");
}

void
test_sign(const char *file)
{
	test_wycheproof_signatures(file);
	test_derived_pair();
	test_small_order();
}
