/*
 * master.c
 *		The server's master keys, and wrapping with them.
 *
 * A KEK is fetched from its provider once per server and kept in the vault.
 * Fetching may take as long as a command does, so no lock is held meanwhile: two
 * processes may fetch the same key at once.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "storage/lock.h"

#include "guc.h"
#include "keys/master.h"
#include "keys/seal.h"
#include "keys/vault.h"

/* Among advisory locks; with no database, so that no user's can be the same. */
#define LOCK_FIRST_KEY 1

/* Indexed by the setting phi.key_provider. */
static const PhiKeyProvider *const providers[] = {
	[PHI_PROVIDER_FILE] = &phi_provider_file,
	[PHI_PROVIDER_COMMAND] = &phi_provider_command,
	[PHI_PROVIDER_CUSTODIAN] = &phi_provider_custodian
};

static const PhiKeyProvider *
provider(void)
{
	return providers[phi_key_provider];
}

void
phi_master_init(void)
{
	phi_vault_init();
	phi_seal_init();
}

static PhiSecret *
new_secret(void)
{
	PhiSecret  *secret = phi_secret_new();

	if (secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for keys")));
	return secret;
}

/* Leaves nothing of a key that is refused. */
static void
load(const char *label)
{
	PhiSecret  *kek = new_secret();

	PG_TRY();
	{
		provider()->fetch(label, kek->material);
		phi_vault_put(label, kek->material);
	}
	PG_FINALLY();
	{
		phi_secret_free(kek);
	}
	PG_END_TRY();
}

/*
 * The KEK as a key of this process, to be returned at once: until then no other
 * process can seal.  A KEK is needed once per data key and backend; the less it
 * is about, the better.
 */
static PhiSecret *
borrow(const char *label)
{
	PhiSecret  *kek;

	/* From a row that was altered: the vault would never find it. */
	if (label[0] == '\0' || strlen(label) >= PHI_LABEL_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("\"%s\" is not the label of a master key", label),
				 errhint("Restore the row of phi.data_key from a backup.")));
	while ((kek = phi_vault_borrow(label)) == NULL)
		load(label);
	return kek;
}

void
phi_master_create(const char *after, char *label)
{
	PhiSecret  *kek;

	phi_vault_check_open();
	/* Without the one before, the keys that it wraps could not be moved. */
	if (after != NULL)
		phi_vault_return(borrow(after));
	kek = new_secret();
	PG_TRY();
	{
		provider()->create(after, label, kek->material);
		phi_vault_put(label, kek->material);
	}
	PG_FINALLY();
	{
		phi_secret_free(kek);
	}
	PG_END_TRY();
}

/* One process makes the first key, and the others find it. */
static void
create_first(char *label)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0, LOCK_FIRST_KEY, 0);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (!provider()->newest(label))
		phi_master_create(NULL, label);
	LockRelease(&tag, ExclusiveLock, false);
}

void
phi_master_newest(char *label)
{
	phi_vault_check_open();
	if (!provider()->newest(label))
		create_first(label);
}

List *
phi_master_labels(void)
{
	return provider()->list();
}

bool
phi_master_available(const char *label)
{
	return phi_vault_holds(label) ||
		(!phi_vault_sealed(NULL) && provider()->available(label));
}

bool
phi_master_stored(const char *label)
{
	return provider()->stored(label);
}

const char *
phi_master_provider(void)
{
	return provider()->name;
}

bool
phi_master_locked(int *given, int *wanted)
{
	*given = *wanted = 0;
	return provider()->locked != NULL && provider()->locked(given, wanted);
}

List *
phi_master_ready(void)
{
	return provider()->ready != NULL ? provider()->ready() : NIL;
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
	phi_vault_return(kek);
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
		phi_vault_return(kek);
	}
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("key %d could not be unwrapped", identity->key_id),
				 errdetail("Its row in phi.data_key was altered, or was wrapped by another master key than \"%s\".", label),
				 errhint("Restore the row from a backup.")));
}
