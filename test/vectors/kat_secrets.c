/*
 * kat_secrets.c
 *		The life of keys in memory, and of the contexts that know them.
 */
#include "kat.h"

#include <string.h>

#define SECRETS		200			/* more than three chunks */
#define DERIVED_ALL	0x8000000f	/* PRF, three suites, digest */

static bool
secret_zeroed(const PhiSecret *s)
{
	return s->derived == 0 && all_zero(s->material, sizeof(s->material)) &&
		all_zero(s->prf_key, sizeof(s->prf_key)) &&
		all_zero(s->digest_key, sizeof(s->digest_key)) &&
		all_zero(s->suite_key[0], sizeof(s->suite_key));
}

/* Fills a secret and derives all that there is. */
static void
secret_use(PhiSecret *s)
{
	uint8_t		nonce[PHI_NONCE_MAX] = {0};
	uint8_t		tag[PHI_TAG_MAX];
	uint8_t		digest[PHI_DIGEST_SIZE];
	uint64_t	hash;

	fill(s->material, sizeof(s->material), (unsigned) s->serial);
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
		phi_seal(phi_suite_by_id(id), s, nonce, (PhiSpan) {NULL, 0}, NULL, 0, tag);
	phi_prf64(s, (PhiSpan) {NULL, 0}, &hash);
	phi_digest(s, (PhiSpan) {NULL, 0}, digest);
}

static void
test_arena(PhiSecret **s)
{
	PhiSecret  *again;
	uint64_t	last = 0;
	bool		good = true;

	for (int i = 0; i < SECRETS; i++)
	{
		s[i] = phi_secret_new();
		good = good && s[i] != NULL && s[i]->serial > last &&
			(uintptr_t) s[i] % 8 == 0 && secret_zeroed(s[i]);
		last = s[i]->serial;
		secret_use(s[i]);
		good = good && s[i]->derived == DERIVED_ALL;
	}
	ok(good, "secrets begin zeroed, with growing serials");

	again = s[SECRETS - 1];
	phi_secret_free(again);
	ok(secret_zeroed(again), "a freed secret is wiped");
	phi_secret_free(again);
	s[SECRETS - 1] = phi_secret_new();
	ok(s[SECRETS - 1] == again && again->serial > last && secret_zeroed(again),
	   "its place is used again, under a new serial");
	secret_use(again);
	phi_secret_free(NULL);
	phi_secret_free((PhiSecret *) ((char *) again + 1));
	ok(again->derived == DERIVED_ALL, "what is no secret is not freed");
}

/* The tag of an empty message under the derived key. */
static void
tag_of(const PhiSuite *suite, const uint8_t *key, uint64_t serial, uint8_t *tag)
{
	uint8_t		nonce[PHI_NONCE_MAX] = {0};

	memset(tag, 0, PHI_TAG_MAX);
	suite->seal(key, serial, nonce, (PhiSpan) {NULL, 0}, NULL, 0, tag);
}

/*
 * Shows whether a context is kept, by what the interface forbids: another key
 * under the same serial.
 */
static bool
context_kept(const PhiSuite *suite, const uint8_t *old, uint64_t serial)
{
	uint8_t		key[PHI_KEY_MAX];
	uint8_t		by_old[PHI_TAG_MAX];
	uint8_t		by_serial[PHI_TAG_MAX];

	fill(key, sizeof(key), 77);
	tag_of(suite, old, 0, by_old);
	tag_of(suite, key, serial, by_serial);
	return memcmp(by_old, by_serial, sizeof(by_old)) == 0;
}

static void
test_contexts(void)
{
	for (unsigned id = 1; id <= 2; id++)
	{
		const PhiSuite *suite = phi_suite_by_id(id);
		PhiSecret  *s = phi_secret_new();
		uint64_t	serial = s->serial;
		uint8_t		key[PHI_KEY_MAX];
		uint8_t		tag[PHI_TAG_MAX];

		secret_use(s);
		memcpy(key, s->suite_key[id - 1], sizeof(key));
		ok(context_kept(suite, key, serial), "suite %u keeps its context", id);
		phi_secret_free(s);
		ok(!context_kept(suite, key, serial), "suite %u drops it with the key", id);
		tag_of(suite, key, serial + 1000, tag);
		phi_crypto_wipe();
		ok(!context_kept(suite, key, serial + 1000),
		   "suite %u drops it when all is wiped", id);
	}
}

/* Keys whose serials fall on one slot take turns. */
static void
test_collisions(void)
{
	bool		good = true;

	for (int i = 0; i < 100; i++)
	{
		const PhiSuite *suite = phi_suite_by_id(1 + (unsigned) i / 3 % 2);
		uint8_t		key[PHI_KEY_MAX];
		uint8_t		alone[PHI_TAG_MAX];
		uint8_t		cached[PHI_TAG_MAX];

		fill(key, sizeof(key), (unsigned) i % 3);
		tag_of(suite, key, 0, alone);
		tag_of(suite, key, (UINT64_C(1) << 50) + (unsigned) i % 3 * PHI_SLOTS, cached);
		good = good && memcmp(alone, cached, sizeof(alone)) == 0;
	}
	ok(good, "keys that share a slot are not confused");
}

static PhiStatus
scratch_load(PhiSlot *slot, const uint8_t *key)
{
	slot->cipher = EVP_CIPHER_CTX_new();
	memcpy(slot->k1, key, sizeof(slot->k1));
	return slot->cipher != NULL ? PHI_OK : PHI_MEMORY;
}

static PhiStatus
failing_load(PhiSlot *slot, const uint8_t *key)
{
	(void) scratch_load(slot, key);
	return PHI_LIBRARY;
}

static void
test_slots(void)
{
	PhiSlots	slots = {.load = scratch_load};
	PhiSlot    *slot;
	uint8_t		key[16] = "sixteen letters";

	ok(phi_slot_get(&slots, key, 0, &slot) == PHI_OK &&
	   memcmp(slot->k1, key, sizeof(key)) == 0 &&
	   (phi_slot_done(slot), all_zero((uint8_t *) slot, sizeof(*slot))),
	   "what is not to be cached is dropped after use");
	ok(phi_slot_get(&slots, key, 3, &slot) == PHI_OK &&
	   (phi_slot_done(slot), slot->cipher != NULL && slot->serial == 3) &&
	   (phi_slots_forget(&slots, 4), slot->serial == 3) &&
	   (phi_slots_forget(&slots, 3), all_zero((uint8_t *) slot, sizeof(*slot))),
	   "what is cached stays until it is forgotten");
	slots.load = failing_load;
	ok(phi_slot_get(&slots, key, 3, &slot) == PHI_LIBRARY &&
	   all_zero((uint8_t *) &slots.slot, sizeof(slots.slot)),
	   "a context that could not be made leaves nothing");
}

static void
test_wipe(PhiSecret **s)
{
	uint8_t		nonce[PHI_NONCE_MAX] = {0};
	uint8_t		byte = 5;
	uint8_t		tag[PHI_TAG_MAX];
	uint8_t		digest[PHI_DIGEST_SIZE];
	uint64_t	serial = s[7]->serial;
	uint64_t	hash;
	PhiSpan		none = {NULL, 0};
	PhiSecret  *fresh;
	bool		good = true;
	bool		reused = false;

	phi_crypto_wipe();
	for (int i = 0; i < SECRETS; i++)
		good = good && secret_zeroed(s[i]);
	ok(good && s[7]->serial == serial, "all secrets are wiped; serials stay");
	ok(phi_seal(phi_suite_by_id(1), s[7], nonce, none, &byte, 1,
				tag) == PHI_MALFORMED &&
	   phi_open(phi_suite_by_id(2), s[7], nonce, none, &byte, 1, tag,
				&byte) == PHI_MALFORMED &&
	   phi_prf64(s[7], none, &hash) == PHI_MALFORMED &&
	   phi_digest(s[7], none, digest) == PHI_MALFORMED && byte == 5,
	   "a wiped secret is no key");
	phi_secret_free(s[7]);
	fresh = phi_secret_new();
	secret_use(fresh);
	ok(fresh->derived == DERIVED_ALL && fresh->serial > serial, "a new one can be made");
	for (int i = 0; i < SECRETS; i++)
		reused = reused || s[i] == fresh;
	ok(reused, "it has the place of a wiped one");
	phi_secret_free(fresh);
}

void
test_secrets(void)
{
	static PhiSecret *s[SECRETS];
	uint8_t		a[3] = {1, 2, 3};
	uint8_t		b[3] = {1, 2, 4};

	test_arena(s);
	test_wipe(s);
	test_contexts();
	test_collisions();
	test_slots();
	phi_memory_wipe(a, 2);
	phi_memory_wipe(NULL, 0);
	ok(a[0] == 0 && a[1] == 0 && a[2] == 3, "wiping");
	phi_memory_guard(b, sizeof(b));
	ok(b[2] == 4, "guarding leaves the bytes as they are");
}
