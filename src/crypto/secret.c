/*
 * secret.c
 *		Keys in memory, and the end of them.
 *
 * Secrets come from chunks of libsodium's guarded memory: locked, left out of
 * core dumps, between pages that cannot be touched.  A chunk holds as many as
 * its word of bits; which of them are in use is noted outside the chunk.
 * Chunks are never given back, for the next session of a pooled connection
 * needs them again.
 */
#include "internal.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK_SECRETS	64
#define CHUNK_FULL		UINT64_MAX

typedef struct Chunk
{
	struct Chunk *next;
	uint64_t	used;			/* bit i: secrets[i] is in use */
	PhiSecret  *secrets;
} Chunk;

/* sodium_malloc aligns the end of what it gives, not the beginning. */
_Static_assert(sizeof(PhiSecret) * CHUNK_SECRETS % 16 == 0,
			   "secrets of a chunk are aligned");

static Chunk *chunks;
static uint64_t last_serial;

/* A child inherits the pages but not the locks on them. */
static void
lock_again(void)
{
	for (Chunk *c = chunks; c != NULL; c = c->next)
		phi_memory_guard(c->secrets, sizeof(PhiSecret) * CHUNK_SECRETS);
}

PhiStatus
phi_secret_init(void)
{
	static bool done = false;

	if (!done)
		done = pthread_atfork(NULL, NULL, lock_again) == 0;
	return done ? PHI_OK : PHI_MEMORY;
}

static Chunk *
chunk_new(void)
{
	Chunk	   *c = malloc(sizeof(Chunk));

	if (c == NULL)
		return NULL;
	c->secrets = sodium_allocarray(CHUNK_SECRETS, sizeof(PhiSecret));
	if (c->secrets == NULL)
	{
		free(c);
		return NULL;
	}
	sodium_memzero(c->secrets, sizeof(PhiSecret) * CHUNK_SECRETS);
	c->used = 0;
	c->next = chunks;
	chunks = c;
	return c;
}

PhiSecret *
phi_secret_new(void)
{
	Chunk	   *c = chunks;
	PhiSecret  *secret;
	int			i;

	if (!phi_crypto_init())
		return NULL;
	while (c != NULL && c->used == CHUNK_FULL)
		c = c->next;
	if (c == NULL)
		c = chunk_new();
	if (c == NULL)
		return NULL;

	i = __builtin_ctzll(~c->used);
	c->used |= UINT64_C(1) << i;
	secret = &c->secrets[i];
	sodium_memzero(secret, sizeof(*secret));
	secret->serial = ++last_serial;
	return secret;
}

/* What is not in use, because all was wiped meanwhile, is left alone. */
void
phi_secret_free(PhiSecret *secret)
{
	if (secret == NULL)
		return;
	for (Chunk *c = chunks; c != NULL; c = c->next)
	{
		uintptr_t	i = ((uintptr_t) secret - (uintptr_t) c->secrets) /
			sizeof(PhiSecret);

		if (i >= CHUNK_SECRETS || secret != &c->secrets[i])
			continue;
		if ((c->used & UINT64_C(1) << i) == 0)
			return;
		c->used &= ~(UINT64_C(1) << i);
		phi_xaes_forget(secret->serial);
		phi_camellia_forget(secret->serial);
		sodium_memzero(secret, sizeof(*secret));
		return;
	}
}

/* The serials stay, so that a forgotten pointer names no other key. */
void
phi_secret_wipe_all(void)
{
	for (Chunk *c = chunks; c != NULL; c = c->next)
	{
		for (int i = 0; i < CHUNK_SECRETS; i++)
		{
			uint64_t	serial = c->secrets[i].serial;

			sodium_memzero(&c->secrets[i], sizeof(PhiSecret));
			c->secrets[i].serial = serial;
		}
		c->used = 0;
	}
}
