/*
 * note_sign.c
 *		Signing notes.
 */
#include "audit/note.h"

#include <stdio.h>
#include <string.h>

#define HASH_SIZE 4

size_t
phi_note_size(size_t text_len, const char *name)
{
	/* The newline, the dash and two spaces, the signature with its key's hash. */
	return text_len + 1 + 5 + strlen(name) + phi_base64_size(HASH_SIZE + PHI_SIGNATURE) + 1;
}

PhiStatus
phi_note_sign(PhiSpan text, const char *name, const PhiSecret *secret, char *out)
{
	PhiVerifier verifier;
	PhiSpan		found;
	uint8_t		signature[HASH_SIZE + PHI_SIGNATURE];
	uint8_t		public_key[PHI_SIGN_KEY];
	PhiStatus	status = phi_sign_key(secret, public_key);

	if (status == PHI_OK)
		status = phi_verifier_make(name, public_key, &verifier);
	if (status == PHI_OK)
		status = phi_sign(secret, text, signature + HASH_SIZE);
	if (status != PHI_OK)
		return status;
	memcpy(signature, verifier.hash, HASH_SIZE);
	memcpy(out, text.ptr, text.len);
	sprintf(out + text.len, "\n\xe2\x80\x94 %s ", name);
	phi_base64_encode(signature, sizeof(signature), out + strlen(out));
	strcat(out, "\n");

	/* A text that cannot be a note's is found now, not by who checks it. */
	status = phi_note_open((PhiSpan) {(uint8_t *) out, strlen(out)}, &verifier, 1, &found, NULL);
	return status == PHI_OK && found.len != text.len ? PHI_MALFORMED : status;
}
