/*
 * hash.c
 *		Digests.
 *
 * OpenSSL's SHA-256 uses the processor's own instructions, which libsodium's does
 * not.  Its context is kept: to look the algorithm up takes longer than to hash.
 */
#include "crypto.h"

#include <openssl/err.h>
#include <openssl/evp.h>

static EVP_MD *sha256 = NULL;
static EVP_MD_CTX *context = NULL;

static bool
begin(void)
{
	if (sha256 == NULL)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (context == NULL)
		context = EVP_MD_CTX_new();
	return sha256 != NULL && context != NULL && EVP_DigestInit_ex2(context, sha256, NULL) == 1;
}

PhiStatus
phi_sha256(const PhiSpan *parts, int n, uint8_t *out)
{
	bool		good = begin();

	for (int i = 0; i < n && good; i++)
		good = EVP_DigestUpdate(context, parts[i].ptr, parts[i].len) == 1;
	if (good && EVP_DigestFinal_ex(context, out, NULL) == 1)
		return PHI_OK;
	ERR_clear_error();
	return PHI_LIBRARY;
}
