/*
 * verify_tree.c
 *		Leaves in their order, against checkpoints and retirements.
 */
#include "client/verify.h"

#include <stdlib.h>
#include <string.h>

void
phi_tree_failed(PhiStatus status)
{
	if (status != PHI_OK)
		phi_fail("could not hash");
}

/* The address of an empty list may be NULL, which qsort refuses. */
void
phi_sort(void *items, size_t n, size_t size, int (*compare) (const void *, const void *))
{
	if (n > 1)
		qsort(items, n, size, compare);
}

static int
by_number(const void *a, const void *b)
{
	int64_t		x = ((const Leaf *) a)->number;
	int64_t		y = ((const Leaf *) b)->number;

	return (x > y) - (x < y);
}

/* Leaves from the first one that is missing, or there twice, are left out. */
void
phi_order_leaves(Log *log)
{
	phi_sort(log->leaves.items, log->leaves.n, sizeof(Leaf), by_number);
	for (size_t i = 0; i < log->leaves.n; i++)
	{
		int64_t		number = log->leaves.items[i].number;

		if (number == (int64_t) i)
			continue;
		if (number < (int64_t) i)
			phi_fault("leaves: leaf %lld is there twice; those behind it are not verified",
					  (long long) number);
		else
			phi_fault("leaves: leaves %zu to %lld are missing; those behind them are not verified",
					  i, (long long) number - 1);
		log->leaves.n = i;
		log->gap = true;
	}
}

static void
append(PhiFrontier *frontier, const PhiHash *hash)
{
	phi_tree_failed(phi_merkle_append(frontier, hash, NULL, NULL));
}

static void
root_of(const PhiFrontier *frontier, PhiHash *root)
{
	phi_tree_failed(phi_merkle_root(frontier, root));
}

static PhiSpan
ranges_of(const Retired *retired)
{
	return (PhiSpan) {(const uint8_t *) retired->ranges, strlen(retired->ranges)};
}

/* Whether the note is of leaves that are there, as they are. */
static bool
fits(const Log *log, const Retired *retired)
{
	PhiFrontier frontier = {0};
	PhiSpan		ranges = ranges_of(retired);
	PhiHash		root;
	uint64_t	from;
	uint64_t	to;

	while (phi_ranges_next(&ranges, &from, &to))
	{
		if (to > log->leaves.n)
			return false;
		for (uint64_t i = from; i < to; i++)
			append(&frontier, &log->leaves.items[i].hash);
	}
	root_of(&frontier, &root);
	return memcmp(&root, &retired->root, sizeof(root)) == 0;
}

void
phi_apply_retirements(Log *log)
{
	for (size_t i = 0; i < log->retired.n; i++)
	{
		const Retired *retired = &log->retired.items[i];
		PhiSpan		ranges = ranges_of(retired);
		uint64_t	from;
		uint64_t	to;

		if (!fits(log, retired))
		{
			phi_fault("retirement: that of leaves %s does not fit these leaves", retired->ranges);
			continue;
		}
		while (phi_ranges_next(&ranges, &from, &to))
		{
			for (uint64_t leaf = from; leaf < to; leaf++)
				log->leaves.items[leaf].retired = true;
		}
	}
}

static int
by_size(const void *a, const void *b)
{
	uint64_t	x = ((const Head *) a)->size;
	uint64_t	y = ((const Head *) b)->size;

	return (x > y) - (x < y);
}

/* Tells where to look: since the last checkpoint that fitted. */
static void
tell_misfit(const Log *log, uint64_t size, uint64_t fitted)
{
	const Leaf *leaf = log->leaves.items;

	if (fitted == size)
		phi_fault("checkpoint: two of %llu leaves have different roots", (unsigned long long) size);
	else
		phi_fault("checkpoint: that of %llu leaves has not their root; the fault is in leaves %llu to %llu, records %lld to %lld",
				  (unsigned long long) size, (unsigned long long) fitted, (unsigned long long) size - 1,
				  (long long) leaf[fitted].id, (long long) leaf[size - 1].id);
}

/*
 * The root of all leaves; those of checkpoints on the way must be theirs.  A
 * checkpoint of more leaves than there are tells that some were cut off.
 */
void
phi_compare_heads(Log *log, PhiHash *root)
{
	PhiFrontier frontier = {0};
	const Head *heads = log->heads.items;
	size_t		head = 0;
	uint64_t	fitted = 0;

	phi_sort(log->heads.items, log->heads.n, sizeof(Head), by_size);
	for (;;)
	{
		root_of(&frontier, root);
		for (; head < log->heads.n && heads[head].size == frontier.size; head++)
		{
			if (memcmp(&heads[head].root, root, sizeof(*root)) == 0)
				fitted = frontier.size;
			else
				tell_misfit(log, frontier.size, fitted);
		}
		if (frontier.size == log->leaves.n)
			break;
		append(&frontier, &log->leaves.items[frontier.size].hash);
	}
	for (; head < log->heads.n; head++)
		phi_fault("cut off: a checkpoint has %llu leaves, the log only %zu",
				  (unsigned long long) heads[head].size, log->leaves.n);
	if (log->heads.n > 0 && heads[log->heads.n - 1].size < log->leaves.n)
		phi_remark("leaves %llu to %zu are covered by no checkpoint",
				   (unsigned long long) heads[log->heads.n - 1].size, log->leaves.n - 1);
}

void
phi_root_of_present(const Log *log, PhiHash *root)
{
	PhiFrontier frontier = {0};

	for (size_t i = 0; i < log->leaves.n; i++)
	{
		if (log->leaves.items[i].found)
			append(&frontier, &log->leaves.items[i].hash);
	}
	root_of(&frontier, root);
}
