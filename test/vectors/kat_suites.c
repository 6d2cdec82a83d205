/*
 * kat_suites.c
 *		The other suites against published vectors, and the derivation of keys.
 */
#include "kat.h"

#include <limits.h>
#include <sodium.h>
#include <string.h>

#define MAC_KEY "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"

static const Vector vectors[] = {
	{
		/* the counter block is the RFC's plaintext, so zeros become its answer */
		"Camellia-256, RFC 3713 appendix A", 2,
		"0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff"
		MAC_KEY,
		"0123456789abcdeffedcba9876543210", "",
		"00000000000000000000000000000000",
		"9acc237dff16d76c20ef7c919e3a7509", NULL
	},
	{
		"Camellia-256-CTR, RFC 5528 section 4.1, TV #7", 2,
		"776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104"
		MAC_KEY,
		"00000060db5672c97aa8f0b200000001", "",
		"53696e676c6520626c6f636b206d7367",
		"3401f9c8247effcebd6994714c1bbb11", NULL
	},
	{
		/* the tag was computed by Python's hmac over the RFC's ciphertext */
		"Camellia-256-CTR, RFC 5528 section 4.1, TV #8, with HMAC", 2,
		"f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884"
		MAC_KEY,
		"00faac24c1585ef15a43d87500000001", "70675f706869",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"d6c30392246f7808a83c2b22a8839e45e51cd48a1cdf406ebc9cc2d3ab834108",
		"77a42b6285bcd0ffd4683f3114c926734b7d89d4cbad2d0d93eab9b8186861b0"
	},
	{
		"Camellia-256-CTR, RFC 5528 section 4.1, TV #9", 2,
		"ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d"
		MAC_KEY,
		"001cc5b751a51d70a1c1114800000001", "",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		"20212223",
		"a4da23fce6a5ffaa6d64ae9a0652a42cd161a34b65f9679f75c01f101f71276f"
		"15ef0d8d", NULL
	},
	{
		"XChaCha20-Poly1305, draft-irtf-cfrg-xchacha A.3.1", 3,
		"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
		"404142434445464748494a4b4c4d4e4f5051525354555657",
		"50515253c0c1c2c3c4c5c6c7",
		"4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
		"73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
		"6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
		"637265656e20776f756c642062652069742e",
		"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
		"731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
		"2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
		"21f9664c97637da9768812f615c68b13b52e",
		"c0875924c1c7987947deafd8780acf49"
	},
};

/*
 * The keys of a secret of bytes 00 to 1f, computed by Python's hashlib.blake2b
 * with salt (id, little-endian) and person ("pg_phi_1"): [id - 1].
 */
static const char *const suite_keys[PHI_SUITE_MAX] = {
	"3c9bc529bab8afe0e67de480747c9e13c9e8780c556575680759299b7b22df41",
	("98b1c8635139c4c7b6b0cd4d79443aa652d7ebcf6f78882071df0ec6c268e24f"
	 "81845a75d811a3cd676a652d1c656c11bf5e5ca6590b632fa092caa5898a1ad5"),
	"39d96ea84bac95fb008ab526c03ebd4e50f65219f4d965e22c5c17e3181a5096",
};
static const char *const prf_key = "41cb85f38a0e86d119a7f54b0828754d";
/* Of the same secret: no bytes, and "abc", by hashlib.blake2b with the derived key. */
static const char *const digests[2] = {
	"1b3f71575da74daf40747d7061beedcb6b8b1cf715b0c69af1c2e4eade92cb7b",
	"c97f9ba738061ec2a341c8024d071521fcf5290ae7191dd6201263b691df4bde",
};
static const char *const fingerprint = "51ac1878a94f4d81";

/* libsodium's HMAC-SHA-256: an opinion of its own on the tag of suite 2. */
static void
hmac_sha_256(const uint8_t *key, size_t key_len, const PhiSpan *parts, int n,
			 uint8_t *tag)
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, key_len);
	for (int i = 0; i < n; i++)
		crypto_auth_hmacsha256_update(&state, parts[i].ptr, parts[i].len);
	crypto_auth_hmacsha256_final(&state, tag);
}

static void
test_hmac_rfc_4231(void)
{
	PhiSpan		text = {(const uint8_t *) "what do ya want for nothing?", 28};
	uint8_t		tag[32];
	uint8_t		answer[32];

	unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		  answer, sizeof(answer));
	hmac_sha_256((const uint8_t *) "Jefe", 4, &text, 1, tag);
	ok(memcmp(tag, answer, 32) == 0, "HMAC-SHA-256, RFC 4231 case 2");
}

/* What the tag covers, and in which order, over lengths that end anywhere. */
static void
test_camellia_tag(void)
{
	uint8_t		key[64];
	uint8_t		nonce[16];
	uint8_t		aad[200];
	uint8_t		buf[400];
	uint8_t		tag[32];
	uint8_t		answer[32];
	uint64_t	serial = new_serial();
	bool		good = true;

	fill(key, sizeof(key), 1);
	fill(nonce, sizeof(nonce), 2);
	fill(aad, sizeof(aad), 3);
	for (size_t i = 0; i < 200; i++)
	{
		uint8_t		bits[8] = {[6] = (uint8_t) (i * 8 >> 8), [7] = (uint8_t) (i * 8)};
		PhiSpan		parts[4] = {{aad, i}, {nonce, 16}, {buf, 2 * i}, {bits, 8}};

		fill(buf, sizeof(buf), (unsigned) i);
		good = good && phi_suite_by_id(2)->seal(key, serial, nonce, parts[0],
												buf, 2 * i, tag) == PHI_OK;
		hmac_sha_256(key + 32, 32, parts, 4, answer);
		good = good && memcmp(tag, answer, 32) == 0;
	}
	ok(good, "suite 2: MAC over AAD, nonce, ciphertext and AAD length");
}

static void
test_derivation(void)
{
	PhiSecret  *secret = phi_secret_new();
	char		text[PHI_FINGERPRINT_SIZE];
	uint8_t		nonce[PHI_NONCE_MAX] = {0};
	uint8_t		key[PHI_KEY_MAX];
	uint8_t		tag[PHI_TAG_MAX];
	uint64_t	hash;
	PhiSpan		none = {NULL, 0};
	uint8_t		siphash_input[15];

	for (uint8_t i = 0; i < PHI_SECRET_SIZE; i++)
		secret->material[i] = i;
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
	{
		size_t		len = unhex(suite_keys[id - 1], key, sizeof(key));

		ok(len == phi_suite_by_id(id)->key_size &&
		   phi_seal(phi_suite_by_id(id), secret, nonce, none, NULL, 0, tag) == PHI_OK &&
		   memcmp(secret->suite_key[id - 1], key, len) == 0,
		   "derived key of suite %u", id);
	}
	unhex(prf_key, key, sizeof(key));
	ok(phi_prf64(secret, none, &hash) == PHI_OK &&
	   memcmp(secret->prf_key, key, 16) == 0, "derived key of the PRF");
	ok(secret->derived == 0xf, "derived keys are noted");
	for (int i = 0; i < 2; i++)
	{
		unhex(digests[i], key, sizeof(key));
		ok(phi_digest(secret, (PhiSpan) {(const uint8_t *) "abc", i == 0 ? 0 : 3},
					  tag) == PHI_OK &&
		   memcmp(tag, key, PHI_DIGEST_SIZE) == 0, "digest %d", i);
	}

	for (uint8_t i = 0; i < 16; i++)
		secret->prf_key[i] = i;
	for (uint8_t i = 0; i < 15; i++)
		siphash_input[i] = i;
	ok(phi_prf64(secret, (PhiSpan) {siphash_input, 15}, &hash) == PHI_OK &&
	   hash == UINT64_C(0xa129ca6149be45e5), "SipHash-2-4, appendix A of the paper");

	ok(phi_fingerprint(secret->material, 32, text) == PHI_OK &&
	   strcmp(text, fingerprint) == 0, "fingerprint");
	ok(phi_fingerprint(secret->material, 15, text) == PHI_MALFORMED &&
	   phi_fingerprint(secret->material, 65, text) == PHI_MALFORMED,
	   "no fingerprint of what is too short or too long for a key");
	phi_secret_free(secret);
}

void
test_suites(void)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		check_vector(&vectors[i]);
	test_hmac_rfc_4231();
	test_camellia_tag();
	test_derivation();
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
	{
		const PhiSuite *suite = phi_suite_by_id(id);

		ok(suite != NULL && suite->id == id &&
		   suite->key_size <= PHI_KEY_MAX &&
		   suite->nonce_size <= PHI_NONCE_MAX &&
		   suite->tag_size <= PHI_TAG_MAX, "suite %u is in the table", id);
	}
	ok(phi_suite_by_id(0) == NULL && phi_suite_by_id(PHI_SUITE_MAX + 1) == NULL &&
	   phi_suite_by_id(UINT_MAX) == NULL, "no other suite is");
}
