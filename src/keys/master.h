/*
 * master.h
 *		Wrapping of data keys by a master key (KEK).
 */
#ifndef PHI_MASTER_H
#define PHI_MASTER_H

#include "crypto/crypto.h"
#include "keys/provider.h"

/* What a wrapped key is bound to: its row in phi.data_key. */
typedef struct PhiKeyIdentity
{
	int32		key_id;
	int32		clinic_id;
	int16		class;
	int32		version;
	int16		suite;			/* the one that wraps */
} PhiKeyIdentity;

#define PHI_WRAPPED_MAX (PHI_NONCE_MAX + PHI_SECRET_SIZE + PHI_TAG_MAX)

/* The label of the KEK that wraps new keys; makes the server's first one. */
extern void phi_master_newest(char *label);

/*
 * Makes, or takes from where keys are made, a new KEK.  Its label sorts after
 * "after" where labels sort by age; NULL: there was none before.
 */
extern void phi_master_create(const char *after, char *label);

/* The labels of all KEKs that the provider has, palloc'ed. */
extern List *phi_master_labels(void);

/* Whether a KEK could be used, without an error if not. */
extern bool phi_master_available(const char *label);

/* Whether the provider has it, also for the time after a restart. */
extern bool phi_master_stored(const char *label);

/* Returns the number of bytes written: nonce, ciphertext, tag. */
extern Size phi_master_wrap(const char *label, const PhiKeyIdentity *identity,
							const uint8 *material, uint8 *wrapped);

/* ERROR 22000 when the row was altered or the KEK is another. */
extern void phi_master_unwrap(const char *label, const PhiKeyIdentity *identity,
							  PhiSpan wrapped, uint8 *material);

/* What phi.key_provider says. */
extern const char *phi_master_provider(void);

/*
 * Whether custodians must give shares before this database's KEK can be used; how
 * many have, of how many.  Zeros where keys do not come from custodians.
 */
extern bool phi_master_locked(int *given, int *wanted);

/*
 * The keys that custodians have given enough shares for, as PhiReadyKey.  ERROR
 * 55000 when shares are missing without which the seal is not to be lifted.
 */
extern List *phi_master_ready(void);

extern void phi_master_init(void);

#endif							/* PHI_MASTER_H */
