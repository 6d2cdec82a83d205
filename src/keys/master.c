/*
 * master.c
 *		The server's master keys, and wrapping with them.
 *
 * A KEK is fetched from its provider once per server and kept in a region of
 * its own, mapped at server start so that every backend inherits it: locked,
 * and left out of core dumps.  The table of labels is in ordinary shared
 * memory.  Both are guarded by phi_shared_lock(); rows are only ever added, so
 * a row that was seen stays good.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <time.h>

#include "port/pg_bswap.h"

#include "guc.h"
#include "keys/master.h"
#include "shared.h"

#define MAX_MASTER_KEYS 32

typedef struct MasterKeys
{
	int			n;
	char		label[MAX_MASTER_KEYS][PHI_LABEL_SIZE];
} MasterKeys;

#define REGION_SIZE (MAX_MASTER_KEYS * PHI_SECRET_SIZE)

static MasterKeys *shared = NULL;
static uint8 *region = NULL;	/* MAX_MASTER_KEYS keys */

/* Indexed by the setting phi.key_provider. */
static const PhiKeyProvider *const providers[] = {
	&phi_provider_file
};

static const PhiKeyProvider *
provider(void)
{
	return providers[phi_key_provider];
}

/* In the postmaster, at start and after a crash. */
static void
shared_start(void)
{
	if (region != NULL)
	{
		phi_memory_wipe(region, REGION_SIZE);
		return;
	}
	region = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not map memory for master keys: %m")));
	phi_memory_guard(region, REGION_SIZE);
}

static Size
shared_size(void)
{
	return sizeof(MasterKeys);
}

void
phi_master_init(void)
{
	phi_shared_request("pg_phi master keys", shared_size, (void **) &shared,
					   shared_start);
}

void
phi_make_label(const uint8 *key, char *label)
{
	char		fingerprint[PHI_FINGERPRINT_SIZE];
	char		when[24];
	time_t		now = time(NULL);
	struct tm	utc;

	if (phi_fingerprint(key, PHI_SECRET_SIZE, fingerprint) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the fingerprint of a master key")));
	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
	snprintf(label, PHI_LABEL_SIZE, "%s-%s", when, fingerprint);
}

void
phi_check_label(const uint8 *key, const char *label, const char *where)
{
	char		fingerprint[PHI_FINGERPRINT_SIZE];
	const char *dash = strrchr(label, '-');

	if (phi_fingerprint(key, PHI_SECRET_SIZE, fingerprint) != PHI_OK ||
		dash == NULL || strcmp(dash + 1, fingerprint) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" holds another key than its name says", where),
				 errdetail("The fingerprint of the key is %s.", fingerprint),
				 errhint("Bring back the key whose fingerprint is the end of its name.")));
}

static int
find(const char *label)
{
	for (int i = 0; i < shared->n; i++)
	{
		if (strcmp(shared->label[i], label) == 0)
			return i;
	}
	return -1;
}

/* Leaves nothing of a key that is refused. */
static void
fetch(const char *label, uint8 *key)
{
	PG_TRY();
	{
		provider()->fetch(label, key);
	}
	PG_CATCH();
	{
		phi_memory_wipe(key, PHI_SECRET_SIZE);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Fetches under the lock, so that the provider is asked once per server. */
static int
load(const char *label)
{
	int			i;

	LWLockAcquire(phi_shared_lock(), LW_EXCLUSIVE);
	i = find(label);
	if (i < 0)
	{
		if (shared->n == MAX_MASTER_KEYS)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("too many master keys in use"),
					 errdetail("A server keeps at most %d.", MAX_MASTER_KEYS),
					 errhint("Restart the server to forget those that are no longer needed.")));
		fetch(label, region + shared->n * PHI_SECRET_SIZE);
		strlcpy(shared->label[shared->n], label, PHI_LABEL_SIZE);
		i = shared->n++;
	}
	LWLockRelease(phi_shared_lock());
	return i;
}

void
phi_master_newest(char *label)
{
	if (provider()->newest(label))
		return;
	LWLockAcquire(phi_shared_lock(), LW_EXCLUSIVE);
	if (!provider()->newest(label))
		provider()->create(label);
	LWLockRelease(phi_shared_lock());
}

bool
phi_master_available(const char *label)
{
	bool		loaded;

	LWLockAcquire(phi_shared_lock(), LW_SHARED);
	loaded = find(label) >= 0;
	LWLockRelease(phi_shared_lock());
	return loaded || provider()->available(label);
}

bool
phi_master_stored(const char *label)
{
	return provider()->available(label);
}

/*
 * The KEK as a key of this process, to be freed at once.  A KEK is needed once
 * per data key and backend; the less it is about, the better.
 */
static PhiSecret *
borrow(const char *label)
{
	PhiSecret  *kek;
	int			i;

	LWLockAcquire(phi_shared_lock(), LW_SHARED);
	i = find(label);
	LWLockRelease(phi_shared_lock());
	if (i < 0)
		i = load(label);
	kek = phi_secret_new();
	if (kek == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for keys")));
	memcpy(kek->material, region + i * PHI_SECRET_SIZE, PHI_SECRET_SIZE);
	return kek;
}

/* The row's identity as associated data, numbers big-endian. */
#define IDENTITY_SIZE (8 + 4 + 4 + 2 + 4 + 2)

static PhiSpan
identity_aad(const PhiKeyIdentity *identity, uint8 *aad)
{
	uint32		key_id = pg_hton32(identity->key_id);
	uint32		clinic_id = pg_hton32(identity->clinic_id);
	uint16		class = pg_hton16(identity->class);
	uint32		version = pg_hton32(identity->version);
	uint16		suite = pg_hton16(identity->suite);

	memcpy(aad, "phi.key1", 8);
	memcpy(aad + 8, &key_id, 4);
	memcpy(aad + 12, &clinic_id, 4);
	memcpy(aad + 16, &class, 2);
	memcpy(aad + 18, &version, 4);
	memcpy(aad + 22, &suite, 2);
	return (PhiSpan) {aad, IDENTITY_SIZE};
}

Size
phi_master_wrap(const char *label, const PhiKeyIdentity *identity,
				const uint8 *material, uint8 *wrapped)
{
	const PhiSuite *suite = phi_suite_by_id(identity->suite);
	PhiSecret  *kek = borrow(label);
	uint8	   *body = wrapped + suite->nonce_size;
	uint8		aad[IDENTITY_SIZE];
	PhiStatus	status;

	memcpy(body, material, PHI_SECRET_SIZE);
	status = phi_random_nonce(wrapped, suite->nonce_size);
	if (status == PHI_OK)
		status = phi_seal(suite, kek, wrapped, identity_aad(identity, aad),
						  body, PHI_SECRET_SIZE, body + PHI_SECRET_SIZE);
	phi_secret_free(kek);
	if (status != PHI_OK)
	{
		phi_memory_wipe(body, PHI_SECRET_SIZE);
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not wrap a key with suite \"%s\"", suite->name)));
	}
	return suite->nonce_size + PHI_SECRET_SIZE + suite->tag_size;
}

void
phi_master_unwrap(const char *label, const PhiKeyIdentity *identity,
				  PhiSpan wrapped, uint8 *material)
{
	const PhiSuite *suite = phi_suite_by_id(identity->suite);
	PhiStatus	status = PHI_MALFORMED;
	uint8		aad[IDENTITY_SIZE];

	if (suite != NULL &&
		wrapped.len == (size_t) suite->nonce_size + PHI_SECRET_SIZE + suite->tag_size)
	{
		PhiSecret  *kek = borrow(label);
		const uint8 *body = wrapped.ptr + suite->nonce_size;

		status = phi_open(suite, kek, wrapped.ptr, identity_aad(identity, aad),
						  body, PHI_SECRET_SIZE, body + PHI_SECRET_SIZE,
						  material);
		phi_secret_free(kek);
	}
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("key %d could not be unwrapped", identity->key_id),
				 errdetail("Its row in phi.data_key was altered, or was wrapped by another master key than \"%s\".", label),
				 errhint("Restore the row from a backup.")));
}
