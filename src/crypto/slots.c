/*
 * slots.c
 *		OpenSSL objects kept for the life of the process.
 *
 * An implicit fetch costs more than a short value takes to encrypt, and so does
 * a new context.  Ciphers are therefore fetched once and never freed, and the
 * contexts of the last keys in use are kept under the serials of their keys.
 */
#include "internal.h"

#include <openssl/err.h>
#include <sodium.h>

PhiStatus
phi_cipher_fetch(EVP_CIPHER **cipher, const char *name)
{
	if (*cipher == NULL)
		*cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	if (*cipher != NULL)
		return PHI_OK;

	/* PostgreSQL's own TLS must not find our error in the queue */
	ERR_clear_error();
	return PHI_UNSUPPORTED;
}

/* Both free functions wipe the key schedules before they release them. */
static void
slot_drop(PhiSlot *slot)
{
	EVP_CIPHER_CTX_free(slot->cipher);
	EVP_MAC_CTX_free(slot->mac);
	sodium_memzero(slot, sizeof(*slot));
}

PhiStatus
phi_slot_get(PhiSlots *slots, const uint8_t *key, uint64_t serial,
			 PhiSlot **slot)
{
	PhiSlot    *s = &slots->slot[serial == 0 ? PHI_SLOTS : serial % PHI_SLOTS];
	PhiStatus	status;

	*slot = s;
	if (serial != 0 && s->serial == serial)
		return PHI_OK;

	slot_drop(s);
	status = slots->load(s, key);
	if (status != PHI_OK)
	{
		slot_drop(s);
		ERR_clear_error();
		return status;
	}
	s->serial = serial;
	return PHI_OK;
}

void
phi_slot_done(PhiSlot *slot)
{
	if (slot->serial == 0)
		slot_drop(slot);
}

void
phi_slots_forget(PhiSlots *slots, uint64_t serial)
{
	for (int i = 0; i <= PHI_SLOTS; i++)
	{
		if (serial == 0 || slots->slot[i].serial == serial)
			slot_drop(&slots->slot[i]);
	}
}
