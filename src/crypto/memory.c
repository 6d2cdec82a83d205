/*
 * memory.c
 *		Starting and wiping the room as a whole; helpers for memory that others
 *		own.
 */
#include "internal.h"

#include <sodium.h>
#include <sys/mman.h>
#include <unistd.h>

bool
phi_crypto_init(void)
{
	static bool done = false;
	uint8_t		digest[crypto_hash_sha256_BYTES];

	if (done)
		return true;
	if (sodium_init() < 0 ||
		phi_sha256(NULL, 0, digest) != PHI_OK ||
		phi_xaes_init() != PHI_OK ||
		phi_random_init() != PHI_OK ||
		phi_secret_init() != PHI_OK)
		return false;

	/* a provider without Camellia, such as FIPS, is no reason to fail */
	(void) phi_camellia_init();
	done = true;
	return true;
}

/* Contexts first: they are known by the serials of the secrets. */
void
phi_crypto_wipe(void)
{
	phi_xaes_forget(0);
	phi_camellia_forget(0);
	phi_secret_wipe_all();
	phi_random_wipe();
}

/*
 * Best effort: a server whose RLIMIT_MEMLOCK is low must still start.  A page
 * holds neighbours too; that they are locked with it does no harm.
 */
void
phi_memory_guard(void *ptr, size_t len)
{
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	begin = (uintptr_t) ptr & ~(page - 1);
	size_t		size = (uintptr_t) ptr - begin + len;

	(void) mlock((void *) begin, size);
#ifdef MADV_DONTDUMP
	(void) madvise((void *) begin, size, MADV_DONTDUMP);
#endif
}

void
phi_memory_wipe(void *ptr, size_t len)
{
	if (len > 0)
		sodium_memzero(ptr, len);
}
