/*
 * digest_key.c
 *		The key that a digest is made with.
 */
#include "postgres.h"

#include "audit/digest.h"
#include "session/session.h"

void
phi_compute_digest(PhiSecret *secret, PhiSpan data, uint8 *out)
{
	if (phi_digest(secret, data, out) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not compute a digest of a row")));
}

PhiKey *
phi_digest_key(void)
{
	const PhiSession *session = phi_session();
	PhiKey	   *key = session == NULL ? NULL :
		phi_key_active(session->clinic_id, PHI_CLASS_DIGEST);

	if (key == NULL)
		key = phi_key_active(PHI_NO_CLINIC, PHI_CLASS_DIGEST);
	return key != NULL && phi_key_available(key) ? key : NULL;
}
