/*
 * kat_negative.c
 *		What must not open: any flipped bit, another key, another length.
 */
#include "kat.h"

#include <stdio.h>
#include <string.h>

#define LONGEST 5000
#define GUARD	16				/* bytes behind the plaintext, left alone */

static const size_t lengths[] = {0, 1, 15, 16, 17, 300, LONGEST};

/* Everything that goes into an open. */
typedef struct Message
{
	const PhiSuite *suite;
	PhiSecret  *secret;
	uint8_t		nonce[PHI_NONCE_MAX];
	uint8_t		aad[23];
	uint8_t		cipher[LONGEST];
	uint8_t		tag[PHI_TAG_MAX];
	size_t		len;
} Message;

static uint8_t plain[LONGEST];
static uint8_t out[LONGEST + GUARD];

static PhiStatus
message_open(const Message *m, uint8_t *to)
{
	PhiSpan		aad = {m->aad, sizeof(m->aad)};

	return phi_open(m->suite, m->secret, m->nonce, aad, m->cipher, m->len,
					m->tag, to);
}

/* True when it does not authenticate and leaves zeros, and only where it may. */
static bool
refused(const Message *m)
{
	memset(out, 0xaa, m->len + GUARD);
	if (message_open(m, out) != PHI_AUTH || !all_zero(out, m->len))
		return false;
	for (int i = 0; i < GUARD; i++)
	{
		if (out[m->len + (size_t) i] != 0xaa)
			return false;
	}
	return true;
}

static bool
flips_refused(const Message *m, uint8_t *bytes, size_t len)
{
	bool		good = true;

	for (size_t bit = 0; bit < len * 8; bit++)
	{
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		good = good && refused(m);
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	return good;
}

static bool
opens(const Message *m)
{
	memset(out, 0xaa, m->len + GUARD);
	return message_open(m, out) == PHI_OK &&
		memcmp(out, plain, m->len) == 0 && out[m->len] == 0xaa;
}

static bool
opens_in_place(Message *m, bool expected)
{
	static uint8_t kept[LONGEST];
	PhiStatus	status;
	bool		good;

	memcpy(kept, m->cipher, m->len);
	status = message_open(m, m->cipher);
	good = expected ?
		status == PHI_OK && memcmp(m->cipher, plain, m->len) == 0 :
		status == PHI_AUTH && all_zero(m->cipher, m->len);
	memcpy(m->cipher, kept, m->len);
	return good;
}

static bool
other_aad_refused(const Message *m)
{
	PhiSpan		longer = {m->aad, sizeof(m->aad)};
	bool		good = true;

	for (longer.len = 0; longer.len < sizeof(m->aad); longer.len++)
		good = good && phi_open(m->suite, m->secret, m->nonce, longer, m->cipher,
								m->len, m->tag, out) == PHI_AUTH;
	return good;
}

/* The boundary of AAD and ciphertext moved: the bytes are the same. */
static bool
shifted_refused(const Message *m)
{
	static uint8_t both[sizeof(m->aad) + LONGEST];
	PhiSpan		aad = {both, sizeof(m->aad) + 1};

	if (m->len == 0)
		return true;
	memcpy(both, m->aad, sizeof(m->aad));
	memcpy(both + sizeof(m->aad), m->cipher, m->len);
	return phi_open(m->suite, m->secret, m->nonce, aad, both + aad.len,
					m->len - 1, m->tag, out) == PHI_AUTH;
}

static void
test_message(Message *m, PhiSecret *other, const char *by)
{
	PhiSecret  *right = m->secret;
	PhiSpan		aad = {m->aad, sizeof(m->aad)};
	bool		good;
	char		name[100];

	snprintf(name, sizeof(name), "%s%s, %zu bytes", m->suite->name, by, m->len);
	fill(m->nonce, sizeof(m->nonce), 11);
	fill(m->aad, sizeof(m->aad), 12);
	fill(plain, sizeof(plain), 13);
	memcpy(m->cipher, plain, m->len);
	good = phi_seal(m->suite, m->secret, m->nonce, aad, m->cipher, m->len,
					m->tag) == PHI_OK;
	ok(good && opens(m) && opens_in_place(m, true), "%s: opens", name);
	ok(flips_refused(m, m->nonce, m->suite->nonce_size) &&
	   flips_refused(m, m->aad, sizeof(m->aad)) &&
	   flips_refused(m, m->cipher, m->len) &&
	   flips_refused(m, m->tag, m->suite->tag_size),
	   "%s: no flipped bit is accepted", name);
	ok(other_aad_refused(m) && shifted_refused(m),
	   "%s: AAD of another length is refused", name);
	m->secret = other;
	ok(refused(m) && opens_in_place(m, false), "%s: another key is refused", name);
	m->secret = right;
	ok(opens(m), "%s: still opens", name);
}

static void
test_lengths(void)
{
	PhiSecret  *secret = phi_secret_new();
	uint8_t		byte = 0;
	bool		good = true;

	secret->material[0] = 1;
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
	{
		const PhiSuite *suite = phi_suite_by_id(id);
		uint8_t		nonce[PHI_NONCE_MAX] = {0};
		uint8_t		tag[PHI_TAG_MAX];
		PhiSpan		none = {NULL, 0};
		PhiSpan		huge = {&byte, SIZE_MAX};

		good = good &&
			phi_seal(suite, secret, nonce, none, NULL, 0, tag) == PHI_OK &&
			phi_open(suite, secret, nonce, none, NULL, 0, tag, NULL) == PHI_OK &&
			phi_seal(suite, secret, nonce, none, &byte, SIZE_MAX,
					 tag) == PHI_MALFORMED &&
			phi_seal(suite, secret, nonce, huge, &byte, 1,
					 tag) == PHI_MALFORMED &&
			phi_open(suite, secret, nonce, none, &byte, SIZE_MAX, tag,
					 &byte) == PHI_MALFORMED &&
			phi_open(suite, secret, nonce, huge, &byte, 1, tag,
					 &byte) == PHI_MALFORMED;
		tag[0] ^= 1;
		good = good &&
			phi_open(suite, secret, nonce, none, NULL, 0, tag, NULL) == PHI_AUTH;
	}
	ok(good, "nothing at no address is sealed; absurd lengths are refused");
	ok(phi_open(NULL, secret, &byte, (PhiSpan) {NULL, 0}, NULL, 0, &byte,
				NULL) == PHI_MALFORMED,
	   "a suite that does not exist is refused");
	phi_secret_free(secret);
}

void
test_negative(void)
{
	static Message m;
	PhiSecret  *other = phi_secret_new();
	size_t		usual = phi_gcm_short;

	m.secret = phi_secret_new();
	fill(m.secret->material, PHI_SECRET_SIZE, 21);
	fill(other->material, PHI_SECRET_SIZE, 22);
	for (unsigned id = 1; id <= PHI_SUITE_MAX; id++)
	{
		m.suite = phi_suite_by_id(id);
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		{
			m.len = lengths[i];
			for (int l = 0; l < (id == 1 ? LIBRARIES : 1); l++)
			{
				phi_gcm_short = libraries[l].gcm_short;
				test_message(&m, other, id != 1 ? "" : l == 0 ?
							 " by libsodium" : " by OpenSSL");
			}
		}
	}
	phi_gcm_short = usual;
	test_lengths();
	phi_secret_free(m.secret);
	phi_secret_free(other);
}
