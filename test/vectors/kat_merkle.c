/*
 * kat_merkle.c
 *		The Merkle tree of RFC 6962: published roots and proofs, and every proof of
 *		small trees against the definition.
 */
#include "kat.h"

#include <string.h>

#include "audit/merkle.h"

/*
 * The leaves, roots (of 0 to 8 leaves) and proofs that Certificate Transparency's
 * implementations are tested with: transparency-dev/merkle, proof/verify_test.go.
 */
static const char *const leaves[8] = {
	"", "00", "10", "2021", "3031", "40414243", "5051525354555657",
	"606162636465666768696a6b6c6d6e6f",
};
static const char *const roots[9] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

typedef struct Proof
{
	uint64_t	a;				/* leaf, counted from 0; or size of the old tree */
	uint64_t	size;
	const char *hashes[4];
} Proof;

static const Proof inclusion[] = {
	{0, 1, {NULL}},
	{0, 8, {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
		"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
		"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
	{5, 8, {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
		"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
	{2, 3, {"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
	{1, 5, {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
		"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
};
static const Proof consistency[] = {
	{1, 1, {NULL}},
	{1, 8, {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
		"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
		"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
	{6, 8, {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
		"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
	{2, 5, {"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
		"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
	{6, 7, {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
		"b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
};
#define PROOFS 5

#define LEAVES 131				/* of the trees that are tried exhaustively */

static PhiHash leaf[LEAVES];

static PhiHash
hash_of(const char *hex)
{
	PhiHash		hash;

	unhex(hex, hash.byte, sizeof(hash.byte));
	return hash;
}

static bool
same(const PhiHash *a, const PhiHash *b)
{
	return memcmp(a, b, sizeof(PhiHash)) == 0;
}

/* RFC 6962, section 2.1, word by word. */
static PhiHash
defined_root(uint64_t begin, uint64_t size)
{
	PhiHash		left;
	PhiHash		right;
	PhiHash		out;
	uint64_t	k = 1;

	if (size == 0)
		return hash_of(roots[0]);
	if (size == 1)
		return leaf[begin];
	while (2 * k < size)
		k *= 2;
	left = defined_root(begin, k);
	right = defined_root(begin + k, size - k);
	phi_merkle_node(&left, &right, &out);
	return out;
}

/* "context" is the size of the tree: nothing outside of it may be asked for. */
static PhiStatus
fetch(int height, uint64_t index, PhiHash *out, void *context)
{
	if (((index + 1) << height) > *(uint64_t *) context)
		return PHI_UNSUPPORTED;
	*out = defined_root(index << height, UINT64_C(1) << height);
	return PHI_OK;
}

static void
test_roots(void)
{
	PhiFrontier frontier = {0};
	PhiHash		root;
	PhiHash		published = hash_of(roots[0]);
	uint8_t		data[16];
	bool		good = phi_merkle_root(&frontier, &root) == PHI_OK && same(&root, &published);

	for (int i = 0; i < 8; i++)
	{
		PhiSpan		span = {data, unhex(leaves[i], data, sizeof(data))};

		published = hash_of(roots[i + 1]);
		good = good && phi_merkle_leaf(span, &leaf[i]) == PHI_OK &&
			phi_merkle_append(&frontier, &leaf[i], NULL, NULL) == PHI_OK &&
			phi_merkle_root(&frontier, &root) == PHI_OK && same(&root, &published);
	}
	ok(good, "published roots of 0 to 8 leaves");
}

static int
read_hashes(const Proof *proof, PhiHash *hashes)
{
	int			n = 0;

	for (; n < 4 && proof->hashes[n] != NULL; n++)
		hashes[n] = hash_of(proof->hashes[n]);
	return n;
}

static void
test_published_proofs(void)
{
	for (int i = 0; i < PROOFS; i++)
	{
		const Proof *p = &inclusion[i];
		const Proof *c = &consistency[i];
		PhiHash		hashes[4];
		PhiHash		made[PHI_PROOF_MAX];
		PhiHash		root = hash_of(roots[p->size]);
		PhiHash		old = hash_of(roots[c->a]);
		uint64_t	size = p->size;
		int			n = read_hashes(p, hashes);
		int			n_made;

		ok(phi_merkle_check_inclusion(p->a, p->size, &leaf[p->a], hashes, n, &root) == PHI_OK &&
		   phi_merkle_inclusion(p->a, p->size, fetch, &size, made, &n_made) == PHI_OK &&
		   n_made == n && memcmp(made, hashes, n * sizeof(PhiHash)) == 0,
		   "published proof that leaf %d is in %d", (int) p->a, (int) p->size);
		n = read_hashes(c, hashes);
		root = hash_of(roots[c->size]);
		size = c->size;
		ok(phi_merkle_check_consistency(c->a, c->size, hashes, n, &old, &root) == PHI_OK &&
		   phi_merkle_consistency(c->a, c->size, fetch, &size, made, &n_made) == PHI_OK &&
		   n_made == n && memcmp(made, hashes, n * sizeof(PhiHash)) == 0,
		   "published proof that %d begins %d", (int) c->a, (int) c->size);
	}
}

/* Subtrees that were told to be complete: how many, and whether rightly. */
typedef struct Told
{
	int			n;
	bool		good;
} Told;

static void
told(int height, uint64_t index, const PhiHash *root, void *context)
{
	Told	   *t = context;
	PhiHash		defined = defined_root(index << height, UINT64_C(1) << height);

	t->n++;
	t->good = t->good && same(root, &defined);
}

static void
test_append(void)
{
	PhiFrontier frontier = {0};
	Told		t = {0, true};
	PhiHash		root;
	PhiHash		defined;
	bool		good = true;

	for (int i = 0; i < LEAVES; i++)
	{
		good = good && phi_merkle_append(&frontier, &leaf[i], told, &t) == PHI_OK;
		defined = defined_root(0, i + 1);
		good = good && phi_merkle_root(&frontier, &root) == PHI_OK && same(&root, &defined);
	}
	/* 131 leaves, 65 pairs, 32, 16, 8, 4, 2, 1 */
	ok(good && t.good && t.n == 131 + 65 + 32 + 16 + 8 + 4 + 2 + 1,
	   "roots as defined; each subtree is told once when it is complete");
	frontier.n--;
	ok(phi_merkle_append(&frontier, &leaf[0], NULL, NULL) == PHI_MALFORMED &&
	   phi_merkle_root(&frontier, &root) == PHI_MALFORMED,
	   "a frontier that does not fit its size is refused");
	frontier.size = PHI_TREE_MAX;
	frontier.n = 63;
	ok(phi_merkle_root(&frontier, &root) == PHI_OK &&
	   phi_merkle_append(&frontier, &leaf[0], NULL, NULL) == PHI_MALFORMED,
	   "a tree that is full is refused");
}

/* Whether a proof is accepted as it is, and with no hash, bit, size or root else. */
static bool
inclusion_holds(uint64_t i, uint64_t size)
{
	PhiHash		proof[PHI_PROOF_MAX + 1];
	PhiHash		root = defined_root(0, size);
	int			n;
	bool		good = phi_merkle_inclusion(i, size, fetch, &size, proof, &n) == PHI_OK &&
		phi_merkle_check_inclusion(i, size, &leaf[i], proof, n, &root) == PHI_OK;

	for (int p = 0; p < n; p++)
	{
		proof[p].byte[p % PHI_HASH_SIZE] ^= 1;
		good = good && phi_merkle_check_inclusion(i, size, &leaf[i], proof, n, &root) == PHI_AUTH;
		proof[p].byte[p % PHI_HASH_SIZE] ^= 1;
	}
	proof[n] = root;
	good = good && phi_merkle_check_inclusion(i, size, &leaf[i], proof, n + 1, &root) == PHI_AUTH &&
		(n == 0 || phi_merkle_check_inclusion(i, size, &leaf[i], proof, n - 1, &root) == PHI_AUTH) &&
		phi_merkle_check_inclusion(i, size, &leaf[i + 1], proof, n, &root) == PHI_AUTH &&
		phi_merkle_check_inclusion(i + size, size, &leaf[i], proof, n, &root) == PHI_AUTH &&
		phi_merkle_check_inclusion(i, size, &leaf[i], proof, n, &leaf[size]) == PHI_AUTH;
	for (uint64_t other = 0; other < size; other++)
		good = good && (other == i ||
						phi_merkle_check_inclusion(other, size, &leaf[i], proof, n, &root) == PHI_AUTH);
	return good;
}

static bool
consistency_holds(uint64_t from, uint64_t to)
{
	PhiHash		proof[PHI_PROOF_MAX + 1];
	PhiHash		old = defined_root(0, from);
	PhiHash		new = defined_root(0, to);
	int			n;
	bool		good = phi_merkle_consistency(from, to, fetch, &to, proof, &n) == PHI_OK &&
		phi_merkle_check_consistency(from, to, proof, n, &old, &new) == PHI_OK &&
		phi_merkle_check_consistency(from, to, proof, n, &leaf[to], &new) == PHI_AUTH &&
		(from == 0 || phi_merkle_check_consistency(from, to, proof, n, &old, &leaf[to]) == PHI_AUTH);

	for (int p = 0; p < n; p++)
	{
		proof[p].byte[p % PHI_HASH_SIZE] ^= 1;
		good = good && phi_merkle_check_consistency(from, to, proof, n, &old, &new) == PHI_AUTH;
		proof[p].byte[p % PHI_HASH_SIZE] ^= 1;
	}
	proof[n] = new;
	good = good && phi_merkle_check_consistency(from, to, proof, n + 1, &old, &new) == PHI_AUTH &&
		(n == 0 || phi_merkle_check_consistency(from, to, proof, n - 1, &old, &new) == PHI_AUTH);
	return good && (from == to || phi_merkle_check_consistency(to, from, proof, n, &new, &old) == PHI_AUTH);
}

static void
test_all_small(void)
{
	bool		included = true;
	bool		consistent = true;

	for (uint64_t size = 1; size < LEAVES; size += size < 40 ? 1 : 13)
	{
		for (uint64_t i = 0; i < size; i++)
			included = included && inclusion_holds(i, size);
		for (uint64_t from = 0; from <= size; from++)
			consistent = consistent && consistency_holds(from, size);
	}
	ok(included, "inclusion of every leaf, and nothing else, can be proved");
	ok(consistent, "consistency of every two trees, and nothing else, can be proved");
}

static void
test_refusals(void)
{
	PhiHash		proof[PHI_PROOF_MAX];
	PhiHash		empty = hash_of(roots[0]);
	uint64_t	size = 3;
	int			n;

	ok(phi_merkle_inclusion(3, 3, fetch, &size, proof, &n) == PHI_MALFORMED &&
	   phi_merkle_inclusion(0, 0, fetch, &size, proof, &n) == PHI_MALFORMED &&
	   phi_merkle_inclusion(0, PHI_TREE_MAX + 1, fetch, &size, proof, &n) == PHI_MALFORMED &&
	   phi_merkle_consistency(4, 3, fetch, &size, proof, &n) == PHI_MALFORMED &&
	   phi_merkle_consistency(1, PHI_TREE_MAX + 1, fetch, &size, proof, &n) == PHI_MALFORMED,
	   "no proof of what there is not");
	ok(phi_merkle_inclusion(0, 4, fetch, &size, proof, &n) == PHI_UNSUPPORTED &&
	   phi_merkle_consistency(1, 4, fetch, &size, proof, &n) == PHI_UNSUPPORTED,
	   "what cannot be fetched is no proof");
	ok(phi_merkle_check_inclusion(0, 0, &leaf[0], NULL, 0, &empty) == PHI_AUTH &&
	   phi_merkle_check_inclusion(1, 1, &leaf[0], NULL, 0, &leaf[0]) == PHI_AUTH &&
	   phi_merkle_check_consistency(0, 1, NULL, 0, &leaf[0], &leaf[0]) == PHI_AUTH &&
	   phi_merkle_check_consistency(0, 0, NULL, 0, &leaf[0], &leaf[0]) == PHI_AUTH &&
	   phi_merkle_check_consistency(1, 1, NULL, 0, &leaf[0], &leaf[1]) == PHI_AUTH,
	   "the empty tree has one root and no leaf");
}

/* A leaf among 58 million. */
static void
test_sumdb(void)
{
	PhiHash		proof[SUMDB_PROOF];
	PhiHash		root;
	PhiHash		hash;
	PhiSpan		data = {(const uint8_t *) sumdb_leaf, strlen(sumdb_leaf)};
	size_t		used;
	bool		good = phi_merkle_leaf(data, &hash) == PHI_OK &&
		phi_base64_decode("lIyLAEe4zJUQAda6pFFg3yPOf7j1SgfMEDrpgoX39JU=", 44, root.byte,
						  sizeof(root), &used) == PHI_OK;

	for (int i = 0; i < SUMDB_PROOF; i++)
		good = good && phi_base64_decode(sumdb_proof[i], strlen(sumdb_proof[i]), proof[i].byte,
										 sizeof(PhiHash), &used) == PHI_OK;
	ok(good && phi_merkle_check_inclusion(sumdb_index, 58253265, &hash, proof, SUMDB_PROOF,
										  &root) == PHI_OK,
	   "a module is in the tree of sum.golang.org");
	ok(phi_merkle_check_inclusion(sumdb_index + 1, 58253265, &hash, proof, SUMDB_PROOF,
								  &root) == PHI_AUTH &&
	   phi_merkle_check_inclusion(sumdb_index, 58253264, &hash, proof, SUMDB_PROOF, &leaf[0]) == PHI_AUTH,
	   "and at no other place");
}

void
test_merkle(void)
{
	test_roots();
	test_published_proofs();
	for (uint8_t i = 0; i < LEAVES; i++)
		phi_merkle_leaf((PhiSpan) {&i, 1}, &leaf[i]);
	test_append();
	test_all_small();
	test_refusals();
	test_sumdb();
}
