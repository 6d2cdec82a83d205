/*
 * catalog.h
 *		Reading phi.data_key from C.
 */
#ifndef PHI_KEYS_CATALOG_H
#define PHI_KEYS_CATALOG_H

#include "keys/keys.h"
#include "keys/master.h"

/* A row of phi.data_key as it is stored. */
typedef struct PhiKeyRow
{
	PhiKeyIdentity identity;
	PhiKeyState state;
	char		label[PHI_LABEL_SIZE];	/* of the KEK that wraps it */
	Size		wrapped_len;	/* 0 once destroyed */
	uint8		wrapped[PHI_WRAPPED_MAX];
} PhiKeyRow;

/* False when there is none. */
extern bool phi_read_key(int32 key_id, PhiKeyRow *row);
extern bool phi_read_active_key(int32 clinic_id, int class, PhiKeyRow *row);

/* The key that was made last of those that are not destroyed. */
extern bool phi_read_last_key(PhiKeyRow *row);

#endif							/* PHI_KEYS_CATALOG_H */
