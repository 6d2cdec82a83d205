/*
 * random.c
 *		Random numbers: nonces from a pool, keys from the generator itself.
 *
 * RAND_bytes costs 1 us a call whatever the length, so nonces are cut from 4 kB
 * drawn at once.  Were a pool to live on in both parent and child of a fork,
 * both would use the same nonces: so the pool lies in a page that the kernel
 * gives to a child as zeros, and because not every kernel does, a handler in
 * the child wipes it too.  All of the pool's state is in that page; zeros mean
 * "empty".
 */
#include "internal.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_SIZE	4096

typedef struct Pool
{
	size_t		left;			/* unused bytes: the last "left" ones */
	uint8_t		bytes[POOL_SIZE - sizeof(size_t)];
} Pool;

static Pool *pool;

void
phi_random_wipe(void)
{
	if (pool != NULL)
		sodium_memzero(pool, sizeof(Pool));
}

void *
phi_random_page(size_t *len)
{
	*len = sizeof(Pool);
	return pool;
}

PhiStatus
phi_random_init(void)
{
	void	   *page;

	if (pool != NULL)
		return PHI_OK;
	page = mmap(NULL, sizeof(Pool), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return PHI_MEMORY;
	if (pthread_atfork(NULL, NULL, phi_random_wipe) != 0)
	{
		munmap(page, sizeof(Pool));
		return PHI_MEMORY;
	}
	phi_memory_guard(page, sizeof(Pool));
#ifdef MADV_WIPEONFORK
	(void) madvise(page, sizeof(Pool), MADV_WIPEONFORK);
#endif
	pool = page;
	return PHI_OK;
}

static PhiStatus
draw(int (*generator) (unsigned char *, int), uint8_t *out, size_t len)
{
	if (len > PHI_LENGTH_MAX)
		return PHI_MALFORMED;
	if (generator(out, (int) len) == 1)
		return PHI_OK;
	ERR_clear_error();
	return PHI_LIBRARY;
}

PhiStatus
phi_random_nonce(uint8_t *out, size_t len)
{
	uint8_t    *from;

	if (phi_random_init() != PHI_OK || len > sizeof(pool->bytes))
		return draw(RAND_bytes, out, len);
	if (pool->left < len)
	{
		PhiStatus	status;

		pool->left = 0;			/* should the draw fail half-way */
		status = draw(RAND_bytes, pool->bytes, sizeof(pool->bytes));
		if (status != PHI_OK)
			return status;
		pool->left = sizeof(pool->bytes);
	}
	from = pool->bytes + sizeof(pool->bytes) - pool->left;
	pool->left -= len;
	memcpy(out, from, len);
	sodium_memzero(from, len);
	return PHI_OK;
}

PhiStatus
phi_random_key(uint8_t *out, size_t len)
{
	return draw(RAND_priv_bytes, out, len);
}
