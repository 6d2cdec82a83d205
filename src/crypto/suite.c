/*
 * suite.c
 *		The table of algorithms, and the keys that each takes from a secret.
 */
#include "internal.h"

#include <sodium.h>
#include <string.h>

/*
 * A secret is never a suite's key itself: each use has a subkey under an id of
 * its own, which is the suite's id for suites.
 */
#define DERIVE_CONTEXT	"pg_phi_1"

/* Bits of PhiSecret.derived; a suite's bit is its id. */
#define DERIVED_PRF		0
#define DERIVED_DIGEST	31

_Static_assert(sizeof(DERIVE_CONTEXT) - 1 == crypto_kdf_CONTEXTBYTES,
			   "the context is of eight bytes");
_Static_assert(PHI_SECRET_SIZE == crypto_kdf_KEYBYTES,
			   "a secret is a key of crypto_kdf");
_Static_assert(PHI_KEY_MAX <= crypto_kdf_BYTES_MAX,
			   "every suite's key can be derived");
_Static_assert(sizeof(((PhiSecret *) 0)->prf_key) == crypto_shorthash_KEYBYTES,
			   "the PRF key is SipHash's");
_Static_assert(PHI_SUITE_MAX < DERIVED_DIGEST, "no two keys share a bit");

/* suites[id - 1] */
static const PhiSuite *const suites[PHI_SUITE_MAX] = {
	&phi_xaes_suite,
	&phi_camellia_suite,
	&phi_xchacha_suite,
};

const PhiSuite *
phi_suite_by_id(unsigned id)
{
	return id >= 1 && id <= PHI_SUITE_MAX ? suites[id - 1] : NULL;
}

/*
 * Zero material is refused: it is what a secret has that was not filled, was
 * freed, or was wiped while somebody kept a pointer to it, and to encrypt under
 * it would be to encrypt under a key that everybody knows.
 */
PhiStatus
phi_subkey(const PhiSecret *secret, uint64_t id, uint8_t *key, size_t len)
{
	if (secret == NULL || sodium_is_zero(secret->material, PHI_SECRET_SIZE))
		return PHI_MALFORMED;
	if (crypto_kdf_derive_from_key(key, len, id, DERIVE_CONTEXT,
								   secret->material) != 0)
		return PHI_LIBRARY;
	return PHI_OK;
}

/* Derives the key of "bit" unless it is there. */
static PhiStatus
derive(PhiSecret *secret, unsigned bit, uint64_t id, uint8_t *key, size_t len)
{
	PhiStatus	status = PHI_OK;

	if ((secret->derived & (1U << bit)) == 0)
	{
		status = phi_subkey(secret, id, key, len);
		if (status == PHI_OK)
			secret->derived |= 1U << bit;
	}
	return status;
}

/* No suite: what a stored envelope named does not exist. */
static inline PhiStatus
derive_suite_key(const PhiSuite *suite, PhiSecret *secret)
{
	if (suite == NULL || secret == NULL)
		return PHI_MALFORMED;
	return derive(secret, suite->id, suite->id,
				  secret->suite_key[suite->id - 1], suite->key_size);
}

PhiStatus
phi_seal(const PhiSuite *suite, PhiSecret *secret, const uint8_t *nonce,
		 PhiSpan aad, uint8_t *buf, size_t len, uint8_t *tag)
{
	PhiStatus	status = derive_suite_key(suite, secret);

	if (status != PHI_OK)
		return status;
	return suite->seal(secret->suite_key[suite->id - 1], secret->serial,
					   nonce, aad, buf, len, tag);
}

PhiStatus
phi_open(const PhiSuite *suite, PhiSecret *secret, const uint8_t *nonce,
		 PhiSpan aad, const uint8_t *cipher, size_t len, const uint8_t *tag,
		 uint8_t *plain)
{
	PhiStatus	status = derive_suite_key(suite, secret);

	if (status != PHI_OK)
		return status;
	return suite->open(secret->suite_key[suite->id - 1], secret->serial,
					   nonce, aad, cipher, len, tag, plain);
}

PhiStatus
phi_prf64(PhiSecret *secret, PhiSpan data, uint64_t *out)
{
	uint8_t		hash[crypto_shorthash_BYTES];
	PhiStatus	status;

	if (secret == NULL)
		return PHI_MALFORMED;
	status = derive(secret, DERIVED_PRF, PHI_SUBKEY_PRF, secret->prf_key,
					sizeof(secret->prf_key));
	if (status != PHI_OK)
		return status;
	if (crypto_shorthash(hash, data.ptr, data.len, secret->prf_key) != 0)
		return PHI_LIBRARY;

	/* indexes store it: the same number on every machine */
	*out = 0;
	for (int i = 7; i >= 0; i--)
		*out = *out << 8 | hash[i];
	return PHI_OK;
}

PhiStatus
phi_digest(PhiSecret *secret, PhiSpan data, uint8_t *out)
{
	PhiStatus	status;

	if (secret == NULL)
		return PHI_MALFORMED;
	status = derive(secret, DERIVED_DIGEST, PHI_SUBKEY_DIGEST, secret->digest_key,
					sizeof(secret->digest_key));
	if (status != PHI_OK)
		return status;
	if (crypto_generichash(out, PHI_DIGEST_SIZE, data.ptr, data.len,
						   secret->digest_key, sizeof(secret->digest_key)) != 0)
		return PHI_LIBRARY;
	return PHI_OK;
}

PhiStatus
phi_fingerprint(const uint8_t *key, size_t len, char *out)
{
	static const char label[] = "pg_phi key fingerprint";
	uint8_t		hash[crypto_generichash_BYTES];

	if (len < crypto_generichash_KEYBYTES_MIN ||
		len > crypto_generichash_KEYBYTES_MAX)
		return PHI_MALFORMED;
	if (crypto_generichash(hash, sizeof(hash), (const uint8_t *) label,
						   sizeof(label) - 1, key, len) != 0)
		return PHI_LIBRARY;
	phi_hex_encode(hash, (PHI_FINGERPRINT_SIZE - 1) / 2, out);
	sodium_memzero(hash, sizeof(hash));
	return PHI_OK;
}
