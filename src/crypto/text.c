/*
 * text.c
 *		Base64 and hexadecimal, in constant time since keys pass through here.
 *
 * libsodium refuses unused bits that are set and, told to ignore no character
 * and given no place to report where it stopped, anything that is left over.
 */
#include "internal.h"

#include <sodium.h>

#define VARIANT sodium_base64_VARIANT_ORIGINAL

size_t
phi_base64_size(size_t len)
{
	return sodium_base64_encoded_len(len, VARIANT);
}

void
phi_base64_encode(const uint8_t *data, size_t len, char *out)
{
	sodium_bin2base64(out, phi_base64_size(len), data, len, VARIANT);
}

/*
 * libsodium 1.0.18 compares characters as int, and where char is signed takes
 * every byte above 127 for a "/".  One value would have many spellings.
 */
static bool
all_ascii(const char *text, size_t len)
{
	unsigned char any = 0;

	for (size_t i = 0; i < len; i++)
		any |= (unsigned char) text[i];
	return any < 128;
}

/* The beginning of what turned out not to be sound may be half a key. */
static PhiStatus
decoded(int result, uint8_t *out, size_t room, size_t *used)
{
	if (result == 0)
		return PHI_OK;
	if (room > 0)
		sodium_memzero(out, room);
	*used = 0;
	return PHI_MALFORMED;
}

PhiStatus
phi_base64_decode(const char *text, size_t len, uint8_t *out, size_t room,
				  size_t *used)
{
	int			result = -1;

	if (all_ascii(text, len))
		result = sodium_base642bin(out, room, text, len, NULL, used, NULL,
								   VARIANT);
	return decoded(result, out, room, used);
}

void
phi_hex_encode(const uint8_t *data, size_t len, char *out)
{
	sodium_bin2hex(out, len * 2 + 1, data, len);
}

PhiStatus
phi_hex_decode(const char *text, size_t len, uint8_t *out, size_t room,
			   size_t *used)
{
	return decoded(sodium_hex2bin(out, room, text, len, NULL, used, NULL),
				   out, room, used);
}
