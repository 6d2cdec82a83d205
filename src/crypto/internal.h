/*
 * internal.h
 *		What the files of this folder ask of each other; nobody else includes it
 *		but the known-answer tests.
 *
 * Nothing here is thread-safe: a PostgreSQL backend has one thread.
 *
 * OpenSSL keeps its contexts on the ordinary heap, where they are neither
 * locked nor left out of core dumps.  So the key schedules of the last few keys
 * in use are there; they are wiped when a key is freed, with phi_crypto_wipe,
 * and when another key takes their place.
 */
#ifndef PHI_CRYPTO_INTERNAL_H
#define PHI_CRYPTO_INTERNAL_H

#include <openssl/evp.h>

#include "crypto.h"

/* OpenSSL takes lengths as int; no value of PostgreSQL is longer than this. */
#define PHI_LENGTH_MAX	((size_t) 1 << 30)

static inline bool
phi_lengths_fit(PhiSpan aad, size_t len)
{
	return aad.len <= PHI_LENGTH_MAX && len <= PHI_LENGTH_MAX;
}

/* Fetches "name" into *cipher unless it is there already. */
extern PhiStatus phi_cipher_fetch(EVP_CIPHER **cipher, const char *name);

/*
 * Contexts that have seen a key, kept for the next value under that key: a
 * direct-mapped table, since a session works with a handful of keys.  The last
 * slot is the scratch slot for serial 0, emptied after each use.
 */
#define PHI_SLOTS	16

typedef struct PhiSlot
{
	uint64_t	serial;			/* 0: empty, or in use as scratch */
	EVP_CIPHER_CTX *cipher;
	EVP_MAC_CTX *mac;
	uint8_t		k1[16];			/* XAES: the CMAC subkey */
} PhiSlot;

typedef struct PhiSlots
{
	PhiStatus	(*load) (PhiSlot *slot, const uint8_t *key);
	PhiSlot		slot[PHI_SLOTS + 1];
} PhiSlots;

/* After phi_slot_get succeeded, phi_slot_done must follow. */
extern PhiStatus phi_slot_get(PhiSlots *slots, const uint8_t *key,
							  uint64_t serial, PhiSlot **slot);
extern void phi_slot_done(PhiSlot *slot);

/* Serial 0 stands for all. */
extern void phi_slots_forget(PhiSlots *slots, uint64_t serial);

/* Plain AES-256-GCM: 32 bytes of key, 12 of nonce, 16 of tag. */
#define PHI_GCM_NONCE	12
#define PHI_GCM_TAG		16

extern PhiStatus phi_gcm_init(void);
extern PhiStatus phi_gcm_seal(const uint8_t *key, const uint8_t *nonce,
							  PhiSpan aad, uint8_t *buf, size_t len,
							  uint8_t *tag);
extern PhiStatus phi_gcm_open(const uint8_t *key, const uint8_t *nonce,
							  PhiSpan aad, const uint8_t *cipher, size_t len,
							  const uint8_t *tag, uint8_t *plain);
extern void phi_gcm_forget(void);

/*
 * Values up to so many bytes go through libsodium where the processor allows
 * it.  A variable only for the tests: 0 and SIZE_MAX choose the library.
 */
extern size_t phi_gcm_short;

/* The subkey of an XAES message (the nonce's first half says which). */
extern PhiStatus phi_xaes_subkey(const uint8_t *key, uint64_t serial,
								 const uint8_t *nonce, uint8_t *subkey);

extern const PhiSuite phi_xaes_suite;
extern const PhiSuite phi_camellia_suite;
extern const PhiSuite phi_xchacha_suite;

/*
 * A subkey of "len" bytes: libsodium's crypto_kdf under an id of its own for
 * each use.  The ids and the context are part of the stored format.
 */
#define PHI_SUBKEY_PRF		100
#define PHI_SUBKEY_DIGEST	101
#define PHI_SUBKEY_SIGN		102
extern PhiStatus phi_subkey(const PhiSecret *secret, uint64_t id, uint8_t *key, size_t len);

extern PhiStatus phi_xaes_init(void);
extern PhiStatus phi_camellia_init(void);
extern PhiStatus phi_random_init(void);
extern PhiStatus phi_secret_init(void);

/* Drop what is known of a key, or of all (0). */
extern void phi_xaes_forget(uint64_t serial);
extern void phi_camellia_forget(uint64_t serial);
extern void phi_secret_wipe_all(void);
extern void phi_random_wipe(void);

/* The page of the pool, for the tests to look at. */
extern void *phi_random_page(size_t *len);

#endif							/* PHI_CRYPTO_INTERNAL_H */
