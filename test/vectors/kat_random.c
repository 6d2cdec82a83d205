/*
 * kat_random.c
 *		Random numbers: never twice, also across forks.
 */
#define _GNU_SOURCE

#include "kat.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NONCES		4000		/* more than ten pools */

static int
compare_nonces(const void *a, const void *b)
{
	return memcmp(a, b, PHI_NONCE_MAX);
}

static void
test_nonces(void)
{
	static uint8_t nonces[NONCES][PHI_NONCE_MAX];
	static uint8_t big[10000];
	bool		good = true;

	for (int i = 0; i < NONCES; i++)
		good = good && phi_random_nonce(nonces[i], PHI_NONCE_MAX) == PHI_OK;
	qsort(nonces, NONCES, PHI_NONCE_MAX, compare_nonces);
	for (int i = 0; i < NONCES; i++)
		good = good && !all_zero(nonces[i], 8) && !all_zero(nonces[i] + 16, 8) &&
			(i == 0 || memcmp(nonces[i - 1], nonces[i], PHI_NONCE_MAX) != 0);
	ok(good, "nonces are whole and never the same");
	ok(phi_random_nonce(big, sizeof(big)) == PHI_OK &&
	   !all_zero(big, 16) && !all_zero(big + sizeof(big) - 16, 16),
	   "a draw may be larger than the pool");
	ok(phi_random_key(big, 32) == PHI_OK && phi_random_key(big + 32, 32) == PHI_OK &&
	   memcmp(big, big + 32, 32) != 0 &&
	   phi_random_key(big, SIZE_MAX) == PHI_MALFORMED, "keys");
}

/* The way that skips the handlers of pthread_atfork. */
static pid_t
raw_fork(void)
{
	return (pid_t) syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void
test_fork(pid_t (*how) (void), const char *name)
{
	uint8_t		drawn[PHI_NONCE_MAX];
	uint8_t		childs[PHI_NONCE_MAX] = {0};
	int			ends[2];
	int			result = -1;
	pid_t		child;

	phi_random_nonce(drawn, sizeof(drawn));		/* the pool is full now */
	if (pipe(ends) != 0 || (child = how()) < 0)
	{
		ok(false, "%s", name);
		return;
	}
	if (child == 0)
	{
		phi_random_nonce(drawn, sizeof(drawn));
		_exit(write(ends[1], drawn, sizeof(drawn)) == sizeof(drawn) ? 0 : 1);
	}
	phi_random_nonce(drawn, sizeof(drawn));
	ok(read(ends[0], childs, sizeof(childs)) == sizeof(childs) &&
	   waitpid(child, &result, 0) == child && result == 0 &&
	   !all_zero(childs, sizeof(childs)) &&
	   memcmp(drawn, childs, sizeof(drawn)) != 0,
	   "parent and child draw different nonces after %s", name);
	close(ends[0]);
	close(ends[1]);
}

/* Whether the eight bytes are anywhere in the pool's page. */
static bool
in_pool(const uint8_t *bytes)
{
	size_t		len;
	const uint8_t *page = phi_random_page(&len);

	return memmem(page, len, bytes, 8) != NULL;
}

static void
test_pool(void)
{
	uint8_t		nonce[PHI_NONCE_MAX];
	size_t		len;
	uint8_t    *page = phi_random_page(&len);
	bool		gone = true;

	phi_random_nonce(nonce, sizeof(nonce));
	for (size_t i = 0; i + 8 <= sizeof(nonce); i++)
		gone = gone && !in_pool(nonce + i);
	ok(gone, "a nonce handed out is not in the pool any more");
	ok(!all_zero(page, len), "the pool holds more of them");
	phi_crypto_wipe();
	ok(all_zero(page, len), "the pool is wiped with all else");
}

void
test_random(void)
{
	size_t		len;
	void	   *page = phi_random_page(&len);

	test_nonces();
	test_pool();
	test_fork(fork, "fork");
#ifdef MADV_WIPEONFORK
	test_fork(raw_fork, "a bare clone");
	(void) madvise(page, len, MADV_KEEPONFORK);
	test_fork(fork, "fork, by the handler alone");
	(void) madvise(page, len, MADV_WIPEONFORK);
#else
	(void) page;
	skip("the kernel does not wipe on fork");
#endif
}
