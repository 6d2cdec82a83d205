/*
 * merkle.c
 *		The Merkle tree of RFC 6962, section 2.1, over SHA-256.
 */
#include "audit/merkle.h"

#include <string.h>

PhiStatus
phi_merkle_leaf(PhiSpan data, PhiHash *out)
{
	static const uint8_t prefix = 0x00;
	PhiSpan		parts[] = {{&prefix, 1}, data};

	return phi_sha256(parts, 2, out->byte);
}

PhiStatus
phi_merkle_node(const PhiHash *left, const PhiHash *right, PhiHash *out)
{
	static const uint8_t prefix = 0x01;
	PhiSpan		parts[] = {{&prefix, 1}, {left->byte, PHI_HASH_SIZE}, {right->byte, PHI_HASH_SIZE}};

	return phi_sha256(parts, 3, out->byte);
}

/* A frontier may come from disk. */
static bool
is_sound(const PhiFrontier *frontier)
{
	return frontier->size <= PHI_TREE_MAX && frontier->n == __builtin_popcountll(frontier->size);
}

PhiStatus
phi_merkle_append(PhiFrontier *frontier, const PhiHash *leaf, PhiSubtreeDone done, void *context)
{
	PhiHash		hash = *leaf;
	uint64_t	index = frontier->size;
	int			height = 0;

	if (!is_sound(frontier) || frontier->size == PHI_TREE_MAX)
		return PHI_MALFORMED;
	for (;;)
	{
		PhiStatus	status;

		if (done != NULL)
			done(height, index, &hash, context);
		if (index % 2 == 0)
			break;
		status = phi_merkle_node(&frontier->root[--frontier->n], &hash, &hash);
		if (status != PHI_OK)
			return status;
		index /= 2;
		height++;
	}
	frontier->root[frontier->n++] = hash;
	frontier->size++;
	return PHI_OK;
}

PhiStatus
phi_merkle_root(const PhiFrontier *frontier, PhiHash *out)
{
	PhiStatus	status = PHI_OK;

	if (!is_sound(frontier))
		return PHI_MALFORMED;
	if (frontier->n == 0)
		return phi_sha256(NULL, 0, out->byte);
	*out = frontier->root[frontier->n - 1];
	for (int i = frontier->n - 2; i >= 0 && status == PHI_OK; i--)
		status = phi_merkle_node(&frontier->root[i], out, out);
	return status;
}

/* A path that is found from the root downwards, and is told the other way round. */
typedef struct Path
{
	PhiSubtreeFetch fetch;
	void	   *context;
	PhiHash    *proof;
	int			n;
} Path;

/*
 * Appends the hash of "size" leaves from "begin" on, which is a multiple of the
 * largest power of two that is not above "size".
 */
static PhiStatus
add_subtree(Path *path, uint64_t begin, uint64_t size)
{
	PhiFrontier parts;

	parts.size = size;
	parts.n = 0;
	for (int height = 63; height >= 0; height--)
	{
		PhiStatus	status;

		if ((size >> height & 1) == 0)
			continue;
		status = path->fetch(height, begin >> height, &parts.root[parts.n++], path->context);
		if (status != PHI_OK)
			return status;
		begin += UINT64_C(1) << height;
	}
	return phi_merkle_root(&parts, &path->proof[path->n++]);
}

/* The largest power of two below "size", which is at least 2. */
static uint64_t
split(uint64_t size)
{
	return UINT64_C(1) << (63 - __builtin_clzll(size - 1));
}

static void
reverse(Path *path)
{
	for (int i = 0, j = path->n - 1; i < j; i++, j--)
	{
		PhiHash		hash = path->proof[i];

		path->proof[i] = path->proof[j];
		path->proof[j] = hash;
	}
}

PhiStatus
phi_merkle_inclusion(uint64_t leaf, uint64_t size, PhiSubtreeFetch fetch, void *context,
					 PhiHash proof[PHI_PROOF_MAX], int *n)
{
	Path		path = {fetch, context, proof, 0};
	uint64_t	begin = 0;

	if (size > PHI_TREE_MAX || leaf >= size)
		return PHI_MALFORMED;
	while (size > 1)
	{
		uint64_t	left = split(size);
		PhiStatus	status;

		if (leaf - begin < left)
		{
			status = add_subtree(&path, begin + left, size - left);
			size = left;
		}
		else
		{
			status = add_subtree(&path, begin, left);
			begin += left;
			size -= left;
		}
		if (status != PHI_OK)
			return status;
	}
	reverse(&path);
	*n = path.n;
	return PHI_OK;
}

PhiStatus
phi_merkle_consistency(uint64_t from, uint64_t to, PhiSubtreeFetch fetch, void *context,
					   PhiHash proof[PHI_PROOF_MAX], int *n)
{
	Path		path = {fetch, context, proof, 0};
	PhiStatus	status = PHI_OK;
	uint64_t	begin = 0;
	bool		known = true;	/* "from" leaves from "begin" on are the whole old tree */

	if (to > PHI_TREE_MAX || from > to)
		return PHI_MALFORMED;
	while (from > 0 && from < to && status == PHI_OK)
	{
		uint64_t	left = split(to);

		if (from <= left)
		{
			status = add_subtree(&path, begin + left, to - left);
			to = left;
		}
		else
		{
			status = add_subtree(&path, begin, left);
			begin += left;
			from -= left;
			to -= left;
			known = false;
		}
	}
	if (status == PHI_OK && !known)
		status = add_subtree(&path, begin, to);
	reverse(&path);
	*n = path.n;
	return status;
}

static bool
same(const PhiHash *a, const PhiHash *b)
{
	return memcmp(a->byte, b->byte, PHI_HASH_SIZE) == 0;
}

/* Goes up to where the path has the next hash on the left. */
static void
skip_missing(uint64_t *fn, uint64_t *sn)
{
	while (*fn % 2 == 0 && *fn != 0)
	{
		*fn /= 2;
		*sn /= 2;
	}
}

PhiStatus
phi_merkle_check_inclusion(uint64_t leaf, uint64_t size, const PhiHash *leaf_hash,
						   const PhiHash *proof, int n, const PhiHash *root)
{
	PhiHash		hash = *leaf_hash;
	uint64_t	fn = leaf;
	uint64_t	sn = size - 1;

	if (leaf >= size)
		return PHI_AUTH;
	for (int i = 0; i < n; i++)
	{
		PhiStatus	status;

		if (sn == 0)
			return PHI_AUTH;
		if (fn % 2 == 1 || fn == sn)
		{
			status = phi_merkle_node(&proof[i], &hash, &hash);
			skip_missing(&fn, &sn);
		}
		else
			status = phi_merkle_node(&hash, &proof[i], &hash);
		if (status != PHI_OK)
			return status;
		fn /= 2;
		sn /= 2;
	}
	return sn == 0 && same(&hash, root) ? PHI_OK : PHI_AUTH;
}

/* Both trees are the same, or the old one is empty: there is nothing to prove. */
static PhiStatus
check_trivial(uint64_t from, uint64_t to, int n, const PhiHash *root_from, const PhiHash *root_to)
{
	const PhiFrontier empty = {0};
	PhiHash		hash;
	PhiStatus	status = PHI_OK;

	if (from > to || n != 0 || (from == to && !same(root_from, root_to)))
		return PHI_AUTH;
	if (from == 0)
	{
		status = phi_merkle_root(&empty, &hash);
		if (status == PHI_OK && !same(&hash, root_from))
			status = PHI_AUTH;
	}
	return status;
}

PhiStatus
phi_merkle_check_consistency(uint64_t from, uint64_t to, const PhiHash *proof, int n,
							 const PhiHash *root_from, const PhiHash *root_to)
{
	uint64_t	fn = from - 1;
	uint64_t	sn = to - 1;
	bool		whole = (from & (from - 1)) == 0;	/* the old tree is a subtree of the new */
	PhiHash		old;
	PhiHash		new;

	if (from == 0 || from >= to)
		return check_trivial(from, to, n, root_from, root_to);
	if (n < 1)
		return PHI_AUTH;
	while (fn % 2 == 1)
	{
		fn /= 2;
		sn /= 2;
	}
	old = new = whole ? *root_from : proof[0];
	for (int i = whole ? 0 : 1; i < n; i++)
	{
		PhiStatus	status = PHI_OK;

		if (sn == 0)
			return PHI_AUTH;
		if (fn % 2 == 1 || fn == sn)
		{
			status = phi_merkle_node(&proof[i], &old, &old);
			if (status == PHI_OK)
				status = phi_merkle_node(&proof[i], &new, &new);
			skip_missing(&fn, &sn);
		}
		else
			status = phi_merkle_node(&new, &proof[i], &new);
		if (status != PHI_OK)
			return status;
		fn /= 2;
		sn /= 2;
	}
	return sn == 0 && same(&old, root_from) && same(&new, root_to) ? PHI_OK : PHI_AUTH;
}
