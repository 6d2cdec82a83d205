/*
 * kat_text.c
 *		Base64 and hexadecimal: RFC 4648, and all that must be refused.
 */
#include "kat.h"

#include <string.h>

#define ROOM 16

static const char *const pairs[][3] = {
	{"", "", ""},				/* RFC 4648 section 10 */
	{"f", "Zg==", "66"},
	{"fo", "Zm8=", "666f"},
	{"foo", "Zm9v", "666f6f"},
	{"foob", "Zm9vYg==", "666f6f62"},
	{"fooba", "Zm9vYmE=", "666f6f6261"},
	{"foobar", "Zm9vYmFy", "666f6f626172"},
	{"\xfb\xff\xfe", "+//+", "fbfffe"},
};

static const char *const bad_base64[] = {
	"Zh==", "Zm9=",				/* unused bits set */
	"Zg", "Zg=", "Zm8", "Zm9vYg", "Z",	/* padding missing */
	"Zg===", "Zm9v=", "====", "=", "Zg==Zg==",	/* padding too much, or within */
	" Zg==", "Z g==", "Zg ==", "Zg== ", "Zg==\n", "Zm9v\n", "\tZm9v",
	"-__-", "Zm9*", "Zm\xc3\xa9", "Zm9vYmFyZm9vYmFyZm9vYmFy"	/* the last: no room */
};

static const char *const bad_hex[] = {
	"6", "666", "6g", "g6", " 66", "66 ", "6 6", "66\n", "66:66", "0x66", "-6",
	"000102030405060708090a0b0c0d0e0f10"	/* the last: no room */
};

typedef PhiStatus (*Decoder) (const char *text, size_t len, uint8_t *out,
							  size_t room, size_t *used);

static bool
decodes(Decoder decoder, const char *text, const char *expected)
{
	uint8_t		out[ROOM];
	size_t		used = 99;

	return decoder(text, strlen(text), out, sizeof(out), &used) == PHI_OK &&
		used == strlen(expected) && memcmp(out, expected, used) == 0;
}

static bool
refuses(Decoder decoder, const char *text, size_t len)
{
	uint8_t		out[ROOM + 1];
	size_t		used = 99;

	memset(out, 0xaa, sizeof(out));
	return decoder(text, len, out, ROOM, &used) == PHI_MALFORMED &&
		used == 0 && all_zero(out, ROOM) && out[ROOM] == 0xaa;
}

/* How many of the 256 bytes are accepted, put at each place of a sound text. */
static int
accepted(Decoder decoder, const char *sound)
{
	char		text[5];
	uint8_t		out[ROOM];
	size_t		used;
	int			n = 0;

	for (size_t at = 0; at < 4; at++)
	{
		for (int byte = 0; byte < 256; byte++)
		{
			memcpy(text, sound, sizeof(text));
			text[at] = (char) byte;
			if (decoder(text, 4, out, ROOM, &used) == PHI_OK)
				n++;
		}
	}
	return n;
}

void
test_text(void)
{
	char		out[64];
	uint8_t		byte[1];
	size_t		used;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		const uint8_t *data = (const uint8_t *) pairs[i][0];
		size_t		len = strlen(pairs[i][0]);

		phi_base64_encode(data, len, out);
		ok(strcmp(out, pairs[i][1]) == 0 &&
		   phi_base64_size(len) == strlen(out) + 1 &&
		   decodes(phi_base64_decode, out, pairs[i][0]),
		   "base64 \"%s\"", pairs[i][1]);
		phi_hex_encode(data, len, out);
		ok(strcmp(out, pairs[i][2]) == 0 &&
		   decodes(phi_hex_decode, out, pairs[i][0]), "hex \"%s\"", pairs[i][2]);
	}
	ok(decodes(phi_hex_decode, "4A4b", "JK"), "hex of either case");
	for (size_t i = 0; i < sizeof(bad_base64) / sizeof(bad_base64[0]); i++)
		ok(refuses(phi_base64_decode, bad_base64[i], strlen(bad_base64[i])),
		   "bad base64 %zu is refused", i);
	for (size_t i = 0; i < sizeof(bad_hex) / sizeof(bad_hex[0]); i++)
		ok(refuses(phi_hex_decode, bad_hex[i], strlen(bad_hex[i])),
		   "bad hex %zu is refused", i);
	ok(refuses(phi_base64_decode, "Zg=\0", 4) &&
	   refuses(phi_base64_decode, "Zm9v\0\0\0\0", 8) &&
	   refuses(phi_hex_decode, "66\0\0", 4), "zero bytes are refused");
	ok(accepted(phi_base64_decode, "Zm9v") == 4 * 64 &&
	   accepted(phi_hex_decode, "6666") == 4 * 22,
	   "each byte that is not of the alphabet is refused");
	ok(phi_base64_decode("Zg==", 4, byte, 1, &used) == PHI_OK && used == 1 &&
	   phi_base64_decode("Zm8=", 4, byte, 1, &used) == PHI_MALFORMED,
	   "the room suffices to the byte");
}
