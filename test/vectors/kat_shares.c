/*
 * kat_shares.c
 *		Sharing of keys: against a combination worked out here, by all subsets,
 *		and all that must be refused; boxes.
 */
#include "kat.h"

#include <string.h>

#define SIZE PHI_SECRET_SIZE

/* Product in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1, bit by bit. */
static uint8_t
times(uint8_t a, uint8_t b)
{
	uint8_t		product = 0;

	for (; b != 0; b >>= 1)
	{
		if (b & 1)
			product ^= a;
		a = (uint8_t) (a << 1 ^ (a & 0x80 ? 0x1d : 0));
	}
	return product;
}

static uint8_t
inverse(uint8_t a)
{
	uint8_t		result = 1;

	for (int i = 0; i < 254; i++)
		result = times(result, a);
	return result;
}

/* Lagrange's interpolation at zero, without the library. */
static void
interpolate(const uint8_t *numbers, const uint8_t *shares, int n, uint8_t *out)
{
	memset(out, 0, SIZE);
	for (int i = 0; i < n; i++)
	{
		uint8_t		factor = 1;

		for (int j = 0; j < n; j++)
		{
			if (j != i)
				factor = times(factor, times(numbers[j],
											 inverse(numbers[i] ^ numbers[j])));
		}
		for (int byte = 0; byte < SIZE; byte++)
			out[byte] ^= times(factor, shares[i * SIZE + byte]);
	}
}

/* The shares whose bits are set; their number. */
static int
choose(unsigned bits, const uint8_t *all, uint8_t *numbers, uint8_t *shares)
{
	int			n = 0;

	for (unsigned i = 0; i < PHI_SHARES_MAX; i++)
	{
		if ((bits & 1U << i) == 0)
			continue;
		numbers[n] = (uint8_t) (i + 1);
		memcpy(shares + n * SIZE, all + i * SIZE, SIZE);
		n++;
	}
	return n;
}

/* Every subset gives the secret if, and only if, it is large enough. */
static void
check_subsets(int threshold, int n)
{
	uint8_t		secret[SIZE];
	uint8_t		all[PHI_SHARES_MAX * SIZE];
	uint8_t		numbers[PHI_SHARES_MAX];
	uint8_t		shares[PHI_SHARES_MAX * SIZE];
	uint8_t		out[SIZE];
	uint8_t		expected[SIZE];
	bool		right = true;
	bool		agree = true;

	fill(secret, SIZE, (unsigned) (threshold * 100 + n));
	right = phi_share_split(secret, threshold, n, all) == PHI_OK;
	for (unsigned bits = 1; bits < 1U << n; bits++)
	{
		int			k = choose(bits, all, numbers, shares);

		right = right && phi_share_combine(numbers, shares, k, out) == PHI_OK &&
			(memcmp(out, secret, SIZE) == 0) == (k >= threshold);
		interpolate(numbers, shares, k, expected);
		agree = agree && memcmp(out, expected, SIZE) == 0;
	}
	ok(right, "%d of %d: enough shares give the key, fewer do not", threshold, n);
	ok(agree, "%d of %d: combined as it is worked out here", threshold, n);
}

static void
check_wrong(void)
{
	uint8_t		secret[SIZE];
	uint8_t		shares[3 * SIZE];
	uint8_t		again[3 * SIZE];
	uint8_t		numbers[3] = {1, 2, 3};
	uint8_t		out[SIZE];
	bool		differs = true;

	fill(secret, SIZE, 7);
	(void) phi_share_split(secret, 3, 3, shares);
	(void) phi_share_split(secret, 3, 3, again);
	ok(memcmp(shares, again, sizeof(shares)) != 0, "the shares are others each time");
	ok(memcmp(shares, secret, SIZE) != 0 && !all_zero(shares, sizeof(shares)),
	   "a share is not the key");
	for (int i = 0; i < 3 * SIZE; i++)
	{
		shares[i] ^= 1;
		differs = differs && phi_share_combine(numbers, shares, 3, out) == PHI_OK &&
			memcmp(out, secret, SIZE) != 0;
		shares[i] ^= 1;
	}
	ok(differs, "a wrong byte in any share makes another key");
	memcpy(shares + SIZE, again + SIZE, SIZE);
	ok(phi_share_combine(numbers, shares, 3, out) == PHI_OK &&
	   memcmp(out, secret, SIZE) != 0, "so does a share of another split");
	numbers[2] = 4;
	ok(phi_share_combine(numbers, again, 3, out) == PHI_OK &&
	   memcmp(out, secret, SIZE) != 0, "and a wrong number");
}

static void
check_refused(void)
{
	uint8_t		secret[SIZE] = {1};
	uint8_t		shares[(PHI_SHARES_MAX + 1) * SIZE] = {0};
	uint8_t		numbers[PHI_SHARES_MAX + 1];
	uint8_t		twice[2] = {5, 5};
	uint8_t		zero[2] = {1, 0};
	uint8_t		out[SIZE];

	for (int i = 0; i <= PHI_SHARES_MAX; i++)
		numbers[i] = (uint8_t) (i + 1);
	ok(phi_share_split(secret, 0, 2, shares) == PHI_MALFORMED &&
	   phi_share_split(secret, 3, 2, shares) == PHI_MALFORMED &&
	   phi_share_split(secret, 2, PHI_SHARES_MAX + 1, shares) == PHI_MALFORMED &&
	   all_zero(shares, sizeof(shares)), "a threshold that makes no sense is refused");
	ok(phi_share_combine(numbers, shares, 0, out) == PHI_MALFORMED &&
	   phi_share_combine(numbers, shares, PHI_SHARES_MAX + 1, out) == PHI_MALFORMED,
	   "no shares, and too many, are refused");
	ok(phi_share_combine(twice, shares, 2, out) == PHI_MALFORMED,
	   "a number that comes twice is refused");
	ok(phi_share_combine(zero, shares, 2, out) == PHI_MALFORMED,
	   "the number 0, which would be the key, is refused");
}

static void
check_boxes(void)
{
	uint8_t		public_key[2][PHI_BOX_KEY];
	uint8_t		secret_key[2][PHI_BOX_KEY];
	uint8_t		plain[SIZE];
	uint8_t		box[SIZE + PHI_BOX_EXTRA];
	uint8_t		out[SIZE];
	uint8_t		zero[PHI_BOX_KEY] = {0};
	bool		refused = true;

	fill(plain, SIZE, 9);
	for (int i = 0; i < 2; i++)
		(void) phi_box_keypair(public_key[i], secret_key[i]);
	ok(phi_box_seal(public_key[0], (PhiSpan) {plain, SIZE}, box) == PHI_OK &&
	   phi_box_open(public_key[0], secret_key[0], (PhiSpan) {box, sizeof(box)}, out) == PHI_OK &&
	   memcmp(out, plain, SIZE) == 0, "a box is opened with its keys");
	ok(phi_box_open(public_key[1], secret_key[1], (PhiSpan) {box, sizeof(box)}, out) == PHI_AUTH,
	   "but with no others");
	for (size_t i = 0; i < sizeof(box); i++)
	{
		box[i] ^= 1;
		refused = refused && phi_box_open(public_key[0], secret_key[0],
										  (PhiSpan) {box, sizeof(box)}, out) == PHI_AUTH;
		box[i] ^= 1;
	}
	ok(refused, "a box with a wrong byte is refused");
	ok(phi_box_open(public_key[0], secret_key[0], (PhiSpan) {box, PHI_BOX_EXTRA - 1}, out) == PHI_MALFORMED &&
	   phi_box_open(public_key[0], secret_key[0], (PhiSpan) {box, sizeof(box) - 1}, out) == PHI_AUTH,
	   "so is one that was cut");
	ok(phi_box_seal(zero, (PhiSpan) {plain, SIZE}, box) == PHI_MALFORMED,
	   "a public key that is none is refused");
}

void
test_shares(void)
{
	check_subsets(1, 1);
	check_subsets(1, 3);
	check_subsets(2, 2);
	check_subsets(2, 3);
	check_subsets(3, 5);
	check_subsets(10, 10);
	check_wrong();
	check_refused();
	check_boxes();
}
