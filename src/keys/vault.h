/*
 * vault.h
 *		The memory that all processes share for master keys and what leads to
 *		them, and the seal on it.
 */
#ifndef PHI_VAULT_H
#define PHI_VAULT_H

#include "crypto/crypto.h"
#include "keys/provider.h"
#include "pgtime.h"

/* Since when and by whom the server is sealed. */
typedef struct PhiSeal
{
	pg_time_t	since;
	char		by[NAMEDATALEN];
} PhiSeal;

/* ERROR 55000 while the server is sealed. */
extern void phi_vault_check_open(void);

/* Whether phi.seal() has sealed the server; "seal" may be NULL. */
extern bool phi_vault_sealed(PhiSeal *seal);

/* Whether the key is there and may be used. */
extern bool phi_vault_holds(const char *label);

/*
 * The key as a secret of this process, or NULL when it is not there; ERROR
 * while sealed.  From a success to phi_vault_return the extension's lock is
 * held, shared: whoever then takes it exclusively knows that no process is left
 * with a master key.
 */
extern PhiSecret *phi_vault_borrow(const char *label);
extern void phi_vault_return(PhiSecret *kek);

/* Keeps a key for all processes; the oldest gives way.  ERROR while sealed. */
extern void phi_vault_put(const char *label, const uint8 *key);

/*
 * Seals: wipes all of it, and makes the seal outlive the server.  False when it
 * will not, with errno.  Idempotent.
 */
extern bool phi_vault_close(const char *by);

/* How often all was wiped: what was found out before does not count after. */
extern uint64 phi_vault_epoch(void);

typedef enum PhiUnsealing
{
	PHI_UNSEALED,				/* or there was no seal */
	PHI_UNSEALED_FOR_NOW,		/* a crash may bring it back: errno */
	PHI_SEALED_ANEW,			/* since "epoch" */
	PHI_STAYS_SEALED			/* the file cannot be removed: errno */
} PhiUnsealing;

/* Takes the seal off.  Raises nothing: it is called when all is committed. */
extern PhiUnsealing phi_vault_unseal(uint64 epoch);

/* The server's public key, to which shares are sent; new after each seal. */
extern void phi_vault_public_key(uint8 *public_key);

/* Opens a box that was sent to it; "epoch" is for phi_vault_stage. */
extern PhiStatus phi_vault_open_box(PhiSpan box, uint8 *plain, uint64 *epoch);

/*
 * Keeps a share of a master key until phi_vault_combine.  False when the server
 * was sealed since "epoch", or too many shares are waiting.
 */
extern bool phi_vault_stage(const char *label, uint8 number, const uint8 *share,
							uint64 epoch);

/* How many different shares of the key are there. */
extern int	phi_vault_staged(const char *label);

/*
 * Makes the key of "threshold" shares, and "keep" keeps it and forgets these; it
 * stays out of use as long as the server is sealed.  PHI_AUTH when it is not the
 * one of its label: the shares are forgotten, too; PHI_MALFORMED when there are
 * too few.  Raises nothing.
 */
extern PhiStatus phi_vault_combine(const char *label, int threshold, bool keep);

extern void phi_vault_init(void);

#endif							/* PHI_VAULT_H */
