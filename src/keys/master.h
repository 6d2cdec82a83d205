/*
 * master.h
 *		Wrapping of data keys by a master key (KEK).
 */
#ifndef PHI_MASTER_H
#define PHI_MASTER_H

#include "nodes/pg_list.h"

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

/* Whether a KEK could be used, without an error if not. */
extern bool phi_master_available(const char *label);

/* Whether the provider has it, also for the time after a restart. */
extern bool phi_master_stored(const char *label);

/* Makes a KEK whose label sorts after the one given, which may be "". */
extern void phi_master_create(const char *after, char *label);

/* The labels (char *) that the provider has, in no order. */
extern List *phi_master_labels(void);

/* Returns the number of bytes written: nonce, ciphertext, tag. */
extern Size phi_master_wrap(const char *label, const PhiKeyIdentity *identity,
							const uint8 *material, uint8 *wrapped);

/* ERROR 22000 when the row was altered or the KEK is another. */
extern void phi_master_unwrap(const char *label, const PhiKeyIdentity *identity,
							  PhiSpan wrapped, uint8 *material);

extern void phi_master_init(void);

#endif							/* PHI_MASTER_H */
