/*
 * merkle.h
 *		The Merkle tree of RFC 6962, section 2.1, over SHA-256.
 *
 * Plain C without PostgreSQL: the stand-alone verifier is made of it, too.
 * Every status but PHI_OK means that the results are not to be used.
 */
#ifndef PHI_MERKLE_H
#define PHI_MERKLE_H

#include "crypto/crypto.h"

#define PHI_HASH_SIZE	32
#define PHI_PROOF_MAX	64		/* hashes of the longest path */
#define PHI_TREE_MAX	((uint64_t) INT64_MAX)	/* leaves; more are PHI_MALFORMED */

typedef struct PhiHash
{
	uint8_t		byte[PHI_HASH_SIZE];
} PhiHash;

/* SHA-256(0x00 || data), SHA-256(0x01 || left || right). */
extern PhiStatus phi_merkle_leaf(PhiSpan data, PhiHash *out);
extern PhiStatus phi_merkle_node(const PhiHash *left, const PhiHash *right, PhiHash *out);

/*
 * The tree of the first "size" leaves as the roots of its complete subtrees, the
 * largest (leftmost) first: what is needed to add leaves to it.  All zeros is
 * the empty tree.
 */
typedef struct PhiFrontier
{
	uint64_t	size;
	int			n;				/* the number of bits set in "size" */
	PhiHash		root[PHI_PROOF_MAX];
} PhiFrontier;

/*
 * Adds a leaf.  For each subtree of 2^height leaves that it completes, from the
 * leaf itself (height 0) upwards, "done" is called, unless NULL, with the
 * subtree's number among those of its height, counted from 0.
 */
typedef void (*PhiSubtreeDone) (int height, uint64_t index, const PhiHash *root, void *context);
extern PhiStatus phi_merkle_append(PhiFrontier *frontier, const PhiHash *leaf,
								   PhiSubtreeDone done, void *context);

/* Of the empty tree: SHA-256 of nothing. */
extern PhiStatus phi_merkle_root(const PhiFrontier *frontier, PhiHash *out);

/*
 * Proofs of RFC 6962, sections 2.1.1 and 2.1.2, in its order.  "fetch" gives the
 * root of a complete subtree: number "index" of those of 2^height leaves; what
 * it returns other than PHI_OK is returned.  PHI_MALFORMED: no such leaf or size.
 * Of a tree and itself, and of the empty tree and any, the proof is empty.
 */
typedef PhiStatus (*PhiSubtreeFetch) (int height, uint64_t index, PhiHash *out, void *context);
extern PhiStatus phi_merkle_inclusion(uint64_t leaf, uint64_t size, PhiSubtreeFetch fetch, void *context,
									  PhiHash proof[PHI_PROOF_MAX], int *n);
extern PhiStatus phi_merkle_consistency(uint64_t from, uint64_t to, PhiSubtreeFetch fetch, void *context,
										PhiHash proof[PHI_PROOF_MAX], int *n);

/* Verification as in RFC 9162, section 2.1.3.2 and 2.1.4.2; PHI_AUTH: it does not prove it. */
extern PhiStatus phi_merkle_check_inclusion(uint64_t leaf, uint64_t size, const PhiHash *leaf_hash,
											const PhiHash *proof, int n, const PhiHash *root);
extern PhiStatus phi_merkle_check_consistency(uint64_t from, uint64_t to, const PhiHash *proof, int n,
											  const PhiHash *root_from, const PhiHash *root_to);

#endif							/* PHI_MERKLE_H */
