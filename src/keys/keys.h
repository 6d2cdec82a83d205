/*
 * keys.h
 *		Data keys, the classes they serve, and the master keys that wrap them.
 */
#ifndef PHI_KEYS_H
#define PHI_KEYS_H

#include "crypto/crypto.h"
#include "lib/ilist.h"

/*
 * Data classes.  The list is fixed: pg_restore makes tables, whose columns name
 * classes, before the rows of any table of the extension are there.
 */
typedef enum PhiClass
{
	PHI_CLASS_SIGNING = -3,		/* signs checkpoints of the audit log; no data class */
	PHI_CLASS_DIGEST = -2,		/* of the audit log's digests; no data class */
	PHI_CLASS_SEARCH = -1,		/* of a clinic's search key; no data class */
	PHI_CLASS_GENERAL = 0,		/* open to every session of the clinic */
	PHI_CLASS_IDENTITY,
	PHI_CLASS_INSURANCE,
	PHI_CLASS_CLINICAL,
	PHI_CLASS_SENSITIVE
} PhiClass;

/* Whose the keys are that belong to no clinic. */
#define PHI_NO_CLINIC 0

#define PHI_CLASSES 5
#define PHI_CLASS_BIT(class) ((uint32) 1 << (class))
#define PHI_ALL_CLASSES (PHI_CLASS_BIT(PHI_CLASSES) - 1)

extern const char *phi_class_label(int class);

/* ERROR 22023 when there is no such class. */
extern PhiClass phi_class_by_label(const char *label);

/* NIST SP 800-57 part 1, section 7; see phi.move_key for the transitions. */
typedef enum PhiKeyState
{
	PHI_KEY_ACTIVE,				/* encrypts and decrypts */
	PHI_KEY_RETIRED,			/* decrypts */
	PHI_KEY_COMPROMISED,		/* decrypts, to be rekeyed */
	PHI_KEY_DESTROYED
} PhiKeyState;

/*
 * A row of phi.data_key in this backend's keyring.  Valid until the next call
 * of any function below: look up, use, let go.
 */
typedef struct PhiKey
{
	int32		key_id;			/* hash key, must be first */
	int32		clinic_id;
	int16		class;
	int32		version;
	PhiKeyState state;
	PhiSecret  *secret;			/* NULL until asked for */
	dlist_node	lru;
} PhiKey;

/* NULL when there is no such row. */
extern PhiKey *phi_key_by_id(uint32 key_id);

/* NULL when the clinic has no active key of the class. */
extern PhiKey *phi_key_active(int32 clinic_id, int class);

/*
 * The key itself, unwrapped when first asked for.  ERROR 55000 when it was
 * destroyed, 22000 when its row was altered, 58P01 and others when the master
 * key is not to be had.
 */
extern PhiSecret *phi_key_secret(PhiKey *key);

/* True when the row's master key could be had, without an error if not. */
extern bool phi_key_available(PhiKey *key);

/*
 * To be called before encrypting: takes the lock by which a rotation can wait
 * out those who may still write under the old key.  Held to the end of the
 * transaction.
 */
extern void phi_key_hold_for_write(void);

/*
 * To be called before a value is stored under a key that is not active, as a
 * copy or from a dump: who destroys keys takes the other side of this lock for
 * the last count, so the key's state is to be looked at afterwards.
 */
extern void phi_key_hold_for_copy(void);

/* Counts how often the ring was emptied, and with it every secret wiped. */
extern uint64 phi_keyring_round(void);

/* This transaction changes keys: all processes are to notice when it commits. */
extern void phi_keys_note_change(void);

extern void phi_keys_init(void);

#endif							/* PHI_KEYS_H */
