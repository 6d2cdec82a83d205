/*
 * provider.h
 *		Where master keys come from: a provider is one file that ends in a
 *		const struct of callbacks.
 */
#ifndef PHI_PROVIDER_H
#define PHI_PROVIDER_H

#include "crypto/crypto.h"

/* "20261123T041900Z-" and a fingerprint of 16 digits; sorts by age. */
#define PHI_LABEL_SIZE 40

typedef struct PhiKeyProvider
{
	const char *name;
	/* The label of the master key that wraps new keys; false: none yet. */
	bool		(*newest) (char *label);
	/* ERROR when the key cannot be had or is not the one of its label. */
	void		(*fetch) (const char *label, uint8 *key);
	/* Whether fetch is likely to succeed. */
	bool		(*available) (const char *label);
	/* Stores a key durably, or finds that another process stored one. */
	void		(*create) (char *label);
} PhiKeyProvider;

extern const PhiKeyProvider phi_provider_file;

/*
 * Makes a label for "key": when, as UTC, and the key's fingerprint.  The
 * fingerprint is what custodians compare by a second path.
 */
extern void phi_make_label(const uint8 *key, char *label);

/* ERROR F0000 (config_file_error) unless "key" has the fingerprint that "label" ends in. */
extern void phi_check_label(const uint8 *key, const char *label,
							const char *where);

#endif							/* PHI_PROVIDER_H */
