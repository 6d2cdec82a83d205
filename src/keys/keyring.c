/*
 * keyring.c
 *		The data keys of this backend.
 *
 * Keys are found by their id, or as the active one of a clinic and class, and
 * thrown out when the least recently used of phi.keyring_size.  Any change of
 * phi.data_key other than an insertion (trigger phi.notice_change) raises the
 * server's generation of keys, and invalidates the table's relcache entry for
 * those on a standby.  Either makes the whole ring stale: it is emptied at the
 * next look-up, or at once between statements.  Emptying it within one would
 * pull keys from under their users.
 */
#include "postgres.h"

#include <sys/prctl.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "guc.h"
#include "keys/catalog.h"
#include "keys/holders.h"
#include "keys/keys.h"
#include "keys/scan.h"

typedef struct ActiveSlot
{
	int32		clinic_id;
	int32		class;
} ActiveSlot;

typedef struct ActiveKey
{
	ActiveSlot	slot;			/* hash key, must be first */
	int32		key_id;
} ActiveKey;

static MemoryContext ring_context = NULL;
static HTAB *by_id = NULL;
static HTAB *by_slot = NULL;
static dlist_head lru;			/* head: the last one used */
static PhiKey *last = NULL;		/* short cut for the key of the last value */
static bool stale = false;
static uint64 generation = 0;	/* of what is in the ring */
static uint64 ring_round = 0;	/* how often it was emptied */
static bool has_news = false;	/* keys that this transaction has read */
static bool has_changed = false;	/* keys that this transaction has changed */
static LocalTransactionId held_in = InvalidLocalTransactionId;
static LocalTransactionId copy_held_in = InvalidLocalTransactionId;
static const char *const class_labels[PHI_CLASSES] = {
	"general", "identity", "insurance", "clinical", "sensitive"
};

const char *
phi_class_label(int class)
{
	switch (class)
	{
		case PHI_CLASS_SIGNING:
			return "signing";
		case PHI_CLASS_DIGEST:
			return "digest";
		default:
			return class >= 0 && class < PHI_CLASSES ? class_labels[class] : "search";
	}
}

PhiClass
phi_class_by_label(const char *label)
{
	for (int i = 0; i < PHI_CLASSES; i++)
	{
		if (strcmp(class_labels[i], label) == 0)
			return (PhiClass) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("data class \"%s\" does not exist", label),
			 errhint("The classes are general, identity, insurance, clinical and sensitive.")));
}

static bool
is_stale(void)
{
	return stale || generation != phi_keys_generation();
}

static void
wipe_at_exit(int code, Datum arg)
{
	phi_crypto_wipe();
	phi_keys_note_holding(0);
}

static void
make_ring(void)
{
	HASHCTL		ids = {.keysize = sizeof(int32),.entrysize = sizeof(PhiKey)};
	HASHCTL		slots = {.keysize = sizeof(ActiveSlot),.entrysize = sizeof(ActiveKey)};

	if (ring_context == NULL)
	{
		ring_context = AllocSetContextCreate(TopMemoryContext, "pg_phi keyring",
											 ALLOCSET_DEFAULT_SIZES);
		before_shmem_exit(wipe_at_exit, (Datum) 0);
	}
	ids.hcxt = slots.hcxt = ring_context;
	by_slot = hash_create("pg_phi active keys", 64, &slots,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	by_id = hash_create("pg_phi keys", 64, &ids,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&lru);
}

/* The secrets first: an error in between must leave none behind. */
static void
empty_ring(void)
{
	stale = false;
	ring_round++;
	generation = phi_keys_generation();
	last = NULL;
	phi_crypto_wipe();
	phi_keys_note_holding(0);
	by_id = by_slot = NULL;
	if (ring_context != NULL)
		MemoryContextReset(ring_context);
}

/* A key's row of by_slot may stay: it leads to a look-up by id. */
static void
drop_key(PhiKey *key)
{
	dlist_delete(&key->lru);
	phi_secret_free(key->secret);
	if (last == key)
		last = NULL;
	hash_search(by_id, &key->key_id, HASH_REMOVE, NULL);
}

static void
make_room(void)
{
	while (hash_get_num_entries(by_id) >= phi_keyring_size)
		drop_key(dlist_tail_element(PhiKey, lru, &lru));
	if (hash_get_num_entries(by_slot) >= phi_keyring_size)
	{
		HASH_SEQ_STATUS scan;
		ActiveKey  *active;

		hash_seq_init(&scan, by_slot);
		while ((active = hash_seq_search(&scan)) != NULL)
			hash_search(by_slot, &active->slot, HASH_REMOVE, NULL);
	}
}

static PhiKey *
add_key(const PhiKeyRow *row)
{
	PhiKey	   *key;
	bool		found;

	make_room();
	key = hash_search(by_id, &row->identity.key_id, HASH_ENTER, &found);
	if (found)
		return key;
	key->clinic_id = row->identity.clinic_id;
	key->class = row->identity.class;
	key->version = row->identity.version;
	key->state = row->state;
	key->secret = NULL;
	has_news = true;
	dlist_push_head(&lru, &key->lru);
	return key;
}

static void
freshen(void)
{
	if (is_stale())
		empty_ring();
	if (by_id == NULL)
		make_ring();
}

PhiKey *
phi_key_by_id(uint32 key_id)
{
	PhiKeyRow	row;
	PhiKey	   *key;

	if (last != NULL && last->key_id == (int32) key_id && !is_stale())
		return last;
	freshen();
	key = hash_search(by_id, &key_id, HASH_FIND, NULL);
	if (key != NULL)
		dlist_move_head(&lru, &key->lru);
	else if (phi_read_key((int32) key_id, &row))
		key = add_key(&row);
	else
		return NULL;
	last = key;
	return key;
}

PhiKey *
phi_key_active(int32 clinic_id, int class)
{
	ActiveSlot	slot = {clinic_id, class};
	ActiveKey  *active;
	PhiKeyRow	row;
	PhiKey	   *key;

	if (last != NULL && last->clinic_id == clinic_id && last->class == class &&
		last->state == PHI_KEY_ACTIVE && !is_stale())
		return last;
	freshen();
	active = hash_search(by_slot, &slot, HASH_FIND, NULL);
	if (active != NULL)
	{
		key = phi_key_by_id(active->key_id);
		if (key != NULL && key->state == PHI_KEY_ACTIVE)
			return key;
	}
	if (!phi_read_active_key(clinic_id, class, &row))
		return NULL;
	key = add_key(&row);
	active = hash_search(by_slot, &slot, HASH_ENTER, NULL);
	active->key_id = key->key_id;
	last = key;
	return key;
}

/*
 * A process that holds keys also holds plaintext, in memory that a core dump
 * would show.  Not dumpable also means not traceable by its own user.
 */
static void
forbid_core_dump(void)
{
	static bool done = false;

	if (done || phi_allow_core_dumps)
		return;
	if (prctl(PR_SET_DUMPABLE, 0) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not forbid core dumps: %m")));
	done = true;
}

static void
unwrap(PhiKey *key)
{
	PhiKeyRow	row;
	PhiSecret  *secret;

	/* Reads again, for the ring keeps no wrapped keys; may mark it stale. */
	if (!phi_read_key(key->key_id, &row) || row.state == PHI_KEY_DESTROYED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("key %d is destroyed", key->key_id),
				 errdetail("Values that were encrypted with it cannot be read any more.")));
	phi_keys_note_holding(generation);
	secret = phi_secret_new();
	if (secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for keys")));
	PG_TRY();
	{
		phi_master_unwrap(row.label, &row.identity,
						  (PhiSpan) {row.wrapped, row.wrapped_len},
						  secret->material);
	}
	PG_CATCH();
	{
		phi_secret_free(secret);
		PG_RE_THROW();
	}
	PG_END_TRY();
	key->secret = secret;
}

PhiSecret *
phi_key_secret(PhiKey *key)
{
	if (unlikely(key->secret == NULL))
	{
		forbid_core_dump();
		unwrap(key);
	}
	return key->secret;
}

bool
phi_key_available(PhiKey *key)
{
	PhiKeyRow	row;

	return key->secret != NULL ||
		(phi_read_key(key->key_id, &row) && row.state != PHI_KEY_DESTROYED &&
		 phi_master_available(row.label));
}

/* ROW SHARE conflicts with nobody; who waits for writers waits as for EXCLUSIVE. */
void
phi_key_hold_for_write(void)
{
	if (held_in == PhiLocalXid())
		return;
	LockRelationOid(phi_relation_oid("data_key"), RowShareLock);
	held_in = PhiLocalXid();
}

void
phi_key_hold_for_copy(void)
{
	if (copy_held_in == PhiLocalXid())
		return;
	LockRelationOid(phi_relation_oid("key_use"), RowShareLock);
	copy_held_in = PhiLocalXid();
}

uint64
phi_keyring_round(void)
{
	return ring_round;
}

/* Keys that were made in what is rolled back must not be used any more. */
static void
forget_rolled_back(void)
{
	held_in = copy_held_in = InvalidLocalTransactionId;	/* the locks are gone too */
	if (has_news)
		stale = true;
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId mine,
				   SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_rolled_back();
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		forget_rolled_back();
	if (event == XACT_EVENT_COMMIT && has_changed)
		phi_keys_changed();
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT ||
		event == XACT_EVENT_PRE_PREPARE)
		return;					/* not over yet */
	has_news = has_changed = false;
	/* An idle process that is told that keys have changed comes by here. */
	if (by_id != NULL && is_stale())
		empty_ring();
}

void
phi_keys_note_change(void)
{
	has_changed = true;
}

/*
 * Between statements nobody is at work with a key.  A statement need not have
 * a snapshot: the rows of a cursor that was kept are put out without one.
 */
static void
mark_stale(Datum arg, Oid relid)
{
	if (!phi_concerns(relid, "data_key"))
		return;
	stale = true;
	if (by_id != NULL && debug_query_string == NULL && !ActiveSnapshotSet() &&
		!HistoricSnapshotActive())
		empty_ring();
}

void
phi_keys_init(void)
{
	if (!phi_crypto_init())
		ereport(FATAL,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not initialize libsodium and OpenSSL")));
	phi_scan_init();
	phi_holders_init();
	phi_master_init();
	CacheRegisterRelcacheCallback(mark_stale, (Datum) 0);
	RegisterSubXactCallback(end_subtransaction, NULL);
	RegisterXactCallback(end_transaction, NULL);
}
