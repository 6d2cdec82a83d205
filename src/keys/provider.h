/*
 * provider.h
 *		Where master keys come from: a provider is one file that ends in a
 *		const struct of callbacks.
 */
#ifndef PHI_PROVIDER_H
#define PHI_PROVIDER_H

#include "crypto/crypto.h"
#include "nodes/pg_list.h"

/* A name of up to 62 characters, "-", and a fingerprint of 16 digits. */
#define PHI_LABEL_SIZE 80
#define PHI_NAME_SIZE (PHI_LABEL_SIZE - PHI_FINGERPRINT_SIZE)

/* A key that "threshold" shares in the vault make. */
typedef struct PhiReadyKey
{
	char		label[PHI_LABEL_SIZE];
	int			threshold;
} PhiReadyKey;

/*
 * No callback is called with the extension's lock held, but for "newest" and
 * "create" where the first key of all is made.
 */
typedef struct PhiKeyProvider
{
	const char *name;
	/* The label of the master key that wraps new keys; false: none yet. */
	bool		(*newest) (char *label);
	/* ERROR when the key cannot be had or is not the one of its label. */
	void		(*fetch) (const char *label, uint8 *key);
	/* Whether fetch is likely to succeed; no error. */
	bool		(*available) (const char *label);
	/* Whether the key is there after a restart too; no error. */
	bool		(*stored) (const char *label);
	/*
	 * Stores a new key durably and gives it.  Its label sorts after "after",
	 * unless that is NULL.
	 */
	void		(*create) (const char *after, char *label, uint8 *key);
	/* The labels of the keys that are stored, palloc'ed. */
	List	   *(*list) (void);

	/*
	 * Only where keys come from people.  "locked": whether more of them are
	 * needed before this database's key can be used, how many have come, of
	 * how many.  "ready" tells the keys for which enough have come, as
	 * PhiReadyKey; ERROR 55000 when this database's is neither among them nor
	 * in use.
	 */
	bool		(*locked) (int *given, int *wanted);
	List	   *(*ready) (void);
} PhiKeyProvider;

extern const PhiKeyProvider phi_provider_file;
extern const PhiKeyProvider phi_provider_command;
extern const PhiKeyProvider phi_provider_custodian;

/* A key as text: 64 hexadecimal digits and a line feed, which may be missing. */
#define PHI_KEY_TEXT_SIZE (2 * PHI_SECRET_SIZE + 1)
extern PhiStatus phi_parse_key(const char *text, ssize_t len, uint8 *key);

/* 32 random bytes. */
extern void phi_new_master_key(uint8 *key);

/* Makes "<name>-<fingerprint>". */
extern void phi_make_label(const char *name, const uint8 *key, char *label);

/* Likewise, with the time as name: "20261123T041900Z-70dd20c845281de2". */
extern void phi_make_timed_label(const char *after, const uint8 *key, char *label);
extern bool phi_label_is_timed(const char *label);

/* ERROR F0000 (config_file_error) unless "key" has the fingerprint that "label" ends in. */
extern void phi_check_label(const uint8 *key, const char *label,
							const char *where);

#endif							/* PHI_PROVIDER_H */
