/*
 * envelope.c
 *		Mutates envelopes and opens them, under the sanitizers of the compiler.
 *
 * Whatever the bytes: parsing and opening must not touch memory that is not
 * theirs, and must never succeed with an envelope that was changed.  The body
 * is fuzzed a second way, behind the authentication: bodies of random flags,
 * lengths and compressed data are sealed properly and then opened.
 *
 * Usage: envelope seconds [seed]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "value/envelope.h"

static uint64_t state;

/* xorshift64*: the same sequence for a seed on every machine. */
static uint64_t
next(uint64_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * UINT64_C(2685821657736338717)) % below;
}

static void
fail(const char *what, const uint8_t *bytes, size_t len)
{
	printf("not ok - %s\n# ", what);
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
	printf("\n");
	exit(1);
}

/* Opens as the extension does, with buffers of the very size. */
static PhiStatus
open_whole(const uint8_t *bytes, size_t len, PhiSecret *secret, uint8_t **out, size_t *out_len)
{
	PhiEnvelope envelope;
	PhiPayload	payload;
	PhiStatus	status = phi_envelope_parse(bytes, len, &envelope);
	uint8_t    *body;

	*out = NULL;
	if (status != PHI_OK)
		return status;
	body = malloc(envelope.body.len);
	status = phi_envelope_open(&envelope, secret, body, &payload);
	if (status == PHI_OK)
	{
		*out_len = payload.expanded ? payload.expanded : payload.data.len;
		*out = malloc(*out_len + 1);
		if (payload.expanded)
			status = phi_payload_expand(&payload, *out);
		else
			memcpy(*out, payload.data.ptr, payload.data.len);
	}
	free(body);
	return status;
}

static void
fill(uint8_t *bytes, size_t len)
{
	unsigned	letters = next(2) ? 256 : 4;

	for (size_t i = 0; i < len; i++)
		bytes[i] = next(letters);
}

static void
mutate(uint8_t *bytes, size_t *len)
{
	switch (next(3))
	{
		case 0:
			bytes[next(*len)] ^= 1 + next(255);
			break;
		case 1:
			*len = next(*len);
			break;
		default:
			for (size_t n = 1 + next(8); n > 0; n--)
				bytes[next(*len)] = next(256);
	}
}

static void
fuzz_envelope(PhiSecret *secret)
{
	const PhiSuite *suite = phi_suite_by_id(1 + next(PHI_SUITE_MAX));
	size_t		payload_len = next(4) ? next(300) : next(20000);
	size_t		size = phi_envelope_size(suite, payload_len);
	uint8_t    *payload = malloc(payload_len + 1);
	uint8_t    *bytes = malloc(size);
	uint8_t    *whole;
	uint8_t    *out;
	size_t		len;
	size_t		out_len;

	fill(payload, payload_len);
	if (phi_envelope_seal(suite, secret, next(UINT32_MAX), next(256),
						  (PhiSpan) {payload, payload_len}, next(2) ? 64 : -1,
						  bytes, &len) != PHI_OK || len > size)
		fail("seal", payload, payload_len);
	if (open_whole(bytes, len, secret, &out, &out_len) != PHI_OK ||
		out_len != payload_len || memcmp(out, payload, payload_len) != 0)
		fail("round trip", bytes, len);
	free(out);
	out = NULL;

	whole = malloc(len);
	memcpy(whole, bytes, len);
	size = len;
	mutate(bytes, &len);
	/* In memory of its own size, so that a read past its end is seen. */
	bytes = realloc(bytes, len ? len : 1);
	if ((len != size || memcmp(bytes, whole, len) != 0) &&
		open_whole(bytes, len, secret, &out, &out_len) == PHI_OK)
		fail("altered envelope was opened", bytes, len);
	free(out);
	free(whole);
	free(bytes);
	free(payload);
}

/* A body of any bytes behind a sound tag: only our own bugs make such. */
static void
fuzz_body(PhiSecret *secret)
{
	const PhiSuite *suite = phi_suite_by_id(1 + next(PHI_SUITE_MAX));
	size_t		body_len = 1 + next(600);
	size_t		len = PHI_HEADER_SIZE + suite->nonce_size + body_len + suite->tag_size;
	uint8_t    *bytes = malloc(len);
	uint8_t    *body = bytes + PHI_HEADER_SIZE + suite->nonce_size;
	uint8_t    *out;
	size_t		out_len;

	fill(bytes, len);
	bytes[0] = PHI_FORMAT;
	bytes[1] = suite->id;
	body[0] = next(5);
	if (body_len > 5 && next(2))
		memset(body + 1, 0, 3);	/* a short expanded size */
	if (next(2))
		memset(body + body_len / 2, 0, body_len - body_len / 2);	/* all padding */
	if (phi_seal(suite, secret, bytes + PHI_HEADER_SIZE, (PhiSpan) {bytes, PHI_HEADER_SIZE},
				 body, body_len, body + body_len) != PHI_OK)
		fail("seal", bytes, len);
	(void) open_whole(bytes, len, secret, &out, &out_len);
	free(out);
	free(bytes);
}

int
main(int argc, char **argv)
{
	long		seconds = argc > 1 ? atol(argv[1]) : 60;
	time_t		end = time(NULL) + seconds;
	unsigned long runs = 0;
	PhiSecret  *secret;

	state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t) time(NULL) * 2 + 1;
	printf("# seed %llu\n", (unsigned long long) state);
	secret = phi_secret_new();
	if (secret == NULL || phi_random_key(secret->material, PHI_SECRET_SIZE) != PHI_OK)
		return 1;
	while (time(NULL) < end)
	{
		for (int i = 0; i < 1000; i++, runs++)
		{
			fuzz_envelope(secret);
			fuzz_body(secret);
		}
	}
	printf("ok - %lu envelopes and as many bodies\n", runs);
	return 0;
}
