/*
 * vault.c
 *		The memory that all processes share for master keys and what leads to
 *		them, and the seal on it.
 *
 * What is secret lies in a region of its own, mapped at server start so that
 * every backend inherits it: locked, and left out of core dumps.  What belongs
 * to it and is not secret is in ordinary shared memory.  Both are guarded by
 * phi_shared_lock().
 */
#include "postgres.h"

#include <sys/mman.h>
#include <time.h>

#include "keys/marker.h"
#include "keys/vault.h"
#include "shared.h"

#define SLOTS 32
#define STAGED_MAX 128

typedef struct Vault
{
	bool		sealed;
	PhiSeal		seal;
	uint64		epoch;			/* how often all was wiped */
	int			oldest;			/* slot that gives way next */
	char		label[SLOTS][PHI_LABEL_SIZE];	/* "": nothing there */
	uint8		public_key[PHI_BOX_KEY];
	int			staged;
	uint8		staged_number[STAGED_MAX];
	char		staged_label[STAGED_MAX][PHI_LABEL_SIZE];
} Vault;

typedef struct Secrets
{
	uint8		key[SLOTS][PHI_SECRET_SIZE];
	uint8		box_key[PHI_BOX_KEY];	/* of public_key */
	uint8		share[STAGED_MAX][PHI_SECRET_SIZE];
} Secrets;

static Vault *shared = NULL;
static Secrets *secrets = NULL;

static void
wipe(void)
{
	phi_memory_wipe(secrets, sizeof(Secrets));
	memset(shared->label, 0, sizeof(shared->label));
	shared->oldest = 0;
	shared->staged = 0;
	shared->epoch++;
	/* A new one, so that no box that was sent before opens again. */
	if (phi_box_keypair(shared->public_key, secrets->box_key) != PHI_OK)
		phi_memory_wipe(shared->public_key, PHI_BOX_KEY);
}

/* In the postmaster, at start and after a crash. */
static void
shared_start(void)
{
	if (secrets == NULL)
	{
		secrets = mmap(NULL, sizeof(Secrets), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (secrets == MAP_FAILED)
			ereport(FATAL,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("could not map memory for master keys: %m")));
		phi_memory_guard(secrets, sizeof(Secrets));
	}
	wipe();
	shared->sealed = phi_marker_read(&shared->seal);
	if (shared->sealed)
		ereport(LOG,
				(errmsg("the server is sealed: no key is used until phi.unseal()")));
}

static Size
shared_size(void)
{
	return sizeof(Vault);
}

void
phi_vault_init(void)
{
	phi_shared_request("pg_phi master keys", shared_size, (void **) &shared,
					   shared_start);
}

static void
lock(LWLockMode mode)
{
	LWLockAcquire(phi_shared_lock(), mode);
}

static void
unlock(void)
{
	LWLockRelease(phi_shared_lock());
}

static void
check_open_locked(void)
{
	if (!shared->sealed)
		return;
	unlock();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the server is sealed"),
			 errdetail("phi.seal() has dropped all keys."),
			 errhint("A key custodian unseals it with phi.unseal(), or with phi-unseal where custodians share the master key.")));
}

void
phi_vault_check_open(void)
{
	lock(LW_SHARED);
	check_open_locked();
	unlock();
}

bool
phi_vault_sealed(PhiSeal *seal)
{
	bool		sealed;

	lock(LW_SHARED);
	sealed = shared->sealed;
	if (seal != NULL)
		*seal = shared->seal;
	unlock();
	return sealed;
}

static int
find(const char *label)
{
	for (int i = 0; i < SLOTS; i++)
	{
		if (strcmp(shared->label[i], label) == 0)
			return i;
	}
	return -1;
}

bool
phi_vault_holds(const char *label)
{
	bool		holds;

	lock(LW_SHARED);
	holds = !shared->sealed && label[0] != '\0' && find(label) >= 0;
	unlock();
	return holds;
}

PhiSecret *
phi_vault_borrow(const char *label)
{
	PhiSecret  *kek;
	int			i;

	lock(LW_SHARED);
	check_open_locked();
	i = label[0] != '\0' ? find(label) : -1;
	if (i < 0)
	{
		unlock();
		return NULL;
	}
	kek = phi_secret_new();
	if (kek == NULL)
	{
		unlock();
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for keys")));
	}
	memcpy(kek->material, secrets->key[i], PHI_SECRET_SIZE);
	return kek;
}

void
phi_vault_return(PhiSecret *kek)
{
	phi_secret_free(kek);
	unlock();
}

/* The slot for a key of this label: its own, or the oldest's. */
static uint8 *
slot_for(const char *label)
{
	int			i = find(label);

	if (i < 0)
	{
		i = shared->oldest;
		shared->oldest = (i + 1) % SLOTS;
		strlcpy(shared->label[i], label, PHI_LABEL_SIZE);
	}
	return secrets->key[i];
}

void
phi_vault_put(const char *label, const uint8 *key)
{
	lock(LW_EXCLUSIVE);
	check_open_locked();
	memcpy(slot_for(label), key, PHI_SECRET_SIZE);
	unlock();
}

/* The file last: if it cannot be written, the keys are gone all the same. */
bool
phi_vault_close(const char *by)
{
	bool		durable;
	int			save_errno;

	lock(LW_EXCLUSIVE);
	wipe();
	if (!shared->sealed)
	{
		shared->sealed = true;
		shared->seal.since = (pg_time_t) time(NULL);
		strlcpy(shared->seal.by, by, NAMEDATALEN);
	}
	durable = phi_marker_write(&shared->seal);
	save_errno = errno;
	unlock();
	errno = save_errno;
	return durable;
}

uint64
phi_vault_epoch(void)
{
	uint64		epoch;

	lock(LW_SHARED);
	epoch = shared->epoch;
	unlock();
	return epoch;
}

/* The file first: with it there the server stays sealed, and empty. */
static PhiUnsealing
unseal_locked(void)
{
	bool		durable;
	int			save_errno;

	if (!shared->sealed)
		return PHI_UNSEALED;
	if (!phi_marker_remove(&durable))
	{
		save_errno = errno;
		wipe();
		errno = save_errno;
		return PHI_STAYS_SEALED;
	}
	shared->sealed = false;
	return durable ? PHI_UNSEALED : PHI_UNSEALED_FOR_NOW;
}

PhiUnsealing
phi_vault_unseal(uint64 epoch)
{
	PhiUnsealing result;
	int			save_errno;

	lock(LW_EXCLUSIVE);
	result = shared->epoch == epoch ? unseal_locked() : PHI_SEALED_ANEW;
	save_errno = errno;
	unlock();
	errno = save_errno;
	return result;
}

void
phi_vault_public_key(uint8 *public_key)
{
	lock(LW_SHARED);
	memcpy(public_key, shared->public_key, PHI_BOX_KEY);
	unlock();
}

PhiStatus
phi_vault_open_box(PhiSpan box, uint8 *plain, uint64 *epoch)
{
	PhiStatus	status;

	lock(LW_SHARED);
	*epoch = shared->epoch;
	status = phi_box_open(shared->public_key, secrets->box_key, box, plain);
	unlock();
	return status;
}

static int
find_staged(const char *label, uint8 number)
{
	for (int i = 0; i < shared->staged; i++)
	{
		if (shared->staged_number[i] == number &&
			strcmp(shared->staged_label[i], label) == 0)
			return i;
	}
	return -1;
}

bool
phi_vault_stage(const char *label, uint8 number, const uint8 *share, uint64 epoch)
{
	bool		kept;
	int			i;

	lock(LW_EXCLUSIVE);
	i = find_staged(label, number);
	kept = shared->epoch == epoch && (i >= 0 || shared->staged < STAGED_MAX);
	if (kept)
	{
		if (i < 0)
			i = shared->staged++;
		shared->staged_number[i] = number;
		strlcpy(shared->staged_label[i], label, PHI_LABEL_SIZE);
		memcpy(secrets->share[i], share, PHI_SECRET_SIZE);
	}
	unlock();
	return kept;
}

int
phi_vault_staged(const char *label)
{
	int			n = 0;

	lock(LW_SHARED);
	for (int i = 0; i < shared->staged; i++)
		n += strcmp(shared->staged_label[i], label) == 0;
	unlock();
	return n;
}

static void
forget_staged(const char *label)
{
	int			left = 0;

	for (int i = 0; i < shared->staged; i++)
	{
		if (strcmp(shared->staged_label[i], label) == 0)
			continue;
		shared->staged_number[left] = shared->staged_number[i];
		memmove(shared->staged_label[left], shared->staged_label[i], PHI_LABEL_SIZE);
		memmove(secrets->share[left], secrets->share[i], PHI_SECRET_SIZE);
		left++;
	}
	phi_memory_wipe(secrets->share[left], (shared->staged - left) * PHI_SECRET_SIZE);
	shared->staged = left;
}

/* Moves the key's shares to "numbers" and "shares", as many as are wanted. */
static int
gather(const char *label, int wanted, uint8 *numbers, uint8 *shares)
{
	int			n = 0;

	for (int i = 0; i < shared->staged && n < wanted; i++)
	{
		if (strcmp(shared->staged_label[i], label) != 0)
			continue;
		numbers[n] = shared->staged_number[i];
		memcpy(shares + n * PHI_SECRET_SIZE, secrets->share[i], PHI_SECRET_SIZE);
		n++;
	}
	return n;
}

PhiStatus
phi_vault_combine(const char *label, int threshold, bool keep)
{
	uint8		numbers[PHI_SHARES_MAX];
	uint8		shares[PHI_SHARES_MAX * PHI_SECRET_SIZE];
	uint8		key[PHI_SECRET_SIZE] = {0};
	char		mark[PHI_FINGERPRINT_SIZE];
	const char *dash = strrchr(label, '-');
	PhiStatus	status = PHI_MALFORMED;

	if (threshold < 1 || threshold > PHI_SHARES_MAX)
		return PHI_MALFORMED;
	lock(LW_EXCLUSIVE);
	if (gather(label, threshold, numbers, shares) == threshold)
	{
		status = phi_share_combine(numbers, shares, threshold, key);
		if (status == PHI_OK)
			status = phi_fingerprint(key, PHI_SECRET_SIZE, mark);
		if (status == PHI_OK && (dash == NULL || strcmp(dash + 1, mark) != 0))
			status = PHI_AUTH;
		if (status == PHI_OK && keep)
			memcpy(slot_for(label), key, PHI_SECRET_SIZE);
		if (status != PHI_OK || keep)
			forget_staged(label);
	}
	unlock();
	phi_memory_wipe(shares, sizeof(shares));
	phi_memory_wipe(key, sizeof(key));
	return status;
}
