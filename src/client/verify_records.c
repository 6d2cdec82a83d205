/*
 * verify_records.c
 *		Records against leaves: which is altered, missing, inserted, doubled,
 *		reordered or cut off.
 *
 * A leaf is found by its hash.  The id that is stored beside it only helps to
 * find it, and to name what does not fit: nobody has signed it.
 */
#include "client/verify.h"

#include <stdlib.h>
#include <string.h>

#define TRIED_MAX 1000			/* faults that are compared with each other */

/* What is left when all that fits has been taken away. */
typedef struct Rest
{
	LIST(Record *) records;
	LIST(Leaf *) leaves;
} Rest;

static int
compare_numbers(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int
record_by_id(const void *a, const void *b)
{
	const Record *x = a;
	const Record *y = b;

	return compare_numbers(x->id, y->id) ? compare_numbers(x->id, y->id)
		: memcmp(&x->hash, &y->hash, sizeof(PhiHash));
}

static int
leaf_by_id(const void *a, const void *b)
{
	const Leaf *x = *(Leaf *const *) a;
	const Leaf *y = *(Leaf *const *) b;

	return compare_numbers(x->id, y->id) ? compare_numbers(x->id, y->id)
		: memcmp(&x->hash, &y->hash, sizeof(PhiHash));
}

static int
record_by_hash(const void *a, const void *b)
{
	return memcmp(&(*(Record *const *) a)->hash, &(*(Record *const *) b)->hash, sizeof(PhiHash));
}

static int
leaf_by_hash(const void *a, const void *b)
{
	return memcmp(&(*(Leaf *const *) a)->hash, &(*(Leaf *const *) b)->hash, sizeof(PhiHash));
}

static int
record_by_id_again(const void *a, const void *b)
{
	return record_by_id(*(Record *const *) a, *(Record *const *) b);
}

static int
leaf_by_number(const void *a, const void *b)
{
	return compare_numbers((*(Leaf *const *) a)->number, (*(Leaf *const *) b)->number);
}

static void
match(Record *record, Leaf *leaf)
{
	record->leaf = leaf->number;
	leaf->found = true;
}

/* Takes away what is the same by id and hash. */
static void
match_by_id(Log *log, Leaf **leaves, Rest *rest)
{
	Record	   *records = log->records.items;
	size_t		r = 0;
	size_t		l = 0;

	while (r < log->records.n || l < log->leaves.n)
	{
		int			order = r == log->records.n ? 1 : l == log->leaves.n ? -1
			: compare_numbers(records[r].id, leaves[l]->id);

		if (order == 0)
			order = memcmp(&records[r].hash, &leaves[l]->hash, sizeof(PhiHash));
		if (order == 0)
			match(&records[r++], leaves[l++]);
		else if (order < 0)
			*ADD(rest->records) = &records[r++];
		else
			*ADD(rest->leaves) = leaves[l++];
	}
}

/* Then what is the same by hash: the id beside the leaf was altered. */
static void
match_by_hash(Rest *rest)
{
	size_t		l = 0;

	phi_sort(rest->records.items, rest->records.n, sizeof(Record *), record_by_hash);
	phi_sort(rest->leaves.items, rest->leaves.n, sizeof(Leaf *), leaf_by_hash);
	for (size_t r = 0; r < rest->records.n && l < rest->leaves.n;)
	{
		Record	   *record = rest->records.items[r];
		Leaf	   *leaf = rest->leaves.items[l];
		int			order = memcmp(&record->hash, &leaf->hash, sizeof(PhiHash));

		if (order == 0)
		{
			phi_fault("leaves: leaf %lld is of record %lld, and is said to be of %lld",
					  (long long) leaf->number, (long long) record->id, (long long) leaf->id);
			match(record, leaf);
		}
		if (order <= 0)
			r++;
		if (order >= 0)
			l++;
	}
}

static void
drop_matched(Rest *rest)
{
	size_t		n = 0;

	for (size_t i = 0; i < rest->records.n; i++)
	{
		if (rest->records.items[i]->leaf < 0)
			rest->records.items[n++] = rest->records.items[i];
	}
	rest->records.n = n;
	n = 0;
	for (size_t i = 0; i < rest->leaves.n; i++)
	{
		if (!rest->leaves.items[i]->found)
			rest->leaves.items[n++] = rest->leaves.items[i];
	}
	rest->leaves.n = n;
	phi_sort(rest->records.items, rest->records.n, sizeof(Record *), record_by_id_again);
	phi_sort(rest->leaves.items, rest->leaves.n, sizeof(Leaf *), leaf_by_id);
}

/* The first of the records, or leaves, that have the id; NULL: none. */
static Record *
record_of(const Log *log, int64_t id)
{
	size_t		low = 0;
	size_t		high = log->records.n;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (log->records.items[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < log->records.n && log->records.items[low].id == id ? &log->records.items[low] : NULL;
}

static Leaf *
leaf_of(const Rest *rest, int64_t id)
{
	for (size_t low = 0, high = rest->leaves.n; low < high;)
	{
		size_t		middle = low + (high - low) / 2;
		Leaf	   *leaf = rest->leaves.items[middle];

		if (leaf->id == id)
			return leaf;
		if (leaf->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Whether another record of the same id has its leaf. */
static bool
is_double(const Log *log, const Record *record)
{
	const Record *end = log->records.items + log->records.n;

	for (const Record *other = record_of(log, record->id);
		 other != NULL && other < end && other->id == record->id; other++)
	{
		if (other != record && (other->leaf >= 0 || other < record))
			return true;
	}
	return false;
}

/* The leaf of the record that this one was, before it got the id of another. */
static Leaf *
content_of(const Log *log, const Record *record, Rest *rest)
{
	if (rest->records.n > TRIED_MAX || rest->leaves.n > TRIED_MAX)
		return NULL;
	return phi_content_of(log, record, rest->leaves.items, rest->leaves.n);
}

/*
 * Committed after the last record that has a leaf: the server had not come to it
 * when the export was made.
 */
static uint64_t
last_sequenced(const Log *log)
{
	const Record *last = NULL;

	for (size_t i = 0; i < log->records.n; i++)
	{
		const Record *record = &log->records.items[i];

		if (record->leaf >= 0 && (last == NULL || record->leaf > last->leaf))
			last = record;
	}
	return last == NULL ? 0 : last->xact;
}

static void
tell_records(const Log *log, Rest *rest)
{
	uint64_t	sequenced = last_sequenced(log);
	size_t		later = 0;

	for (size_t i = 0; i < rest->records.n; i++)
	{
		Record	   *record = rest->records.items[i];
		Leaf	   *own = leaf_of(rest, record->id);
		Leaf	   *content = is_double(log, record) ? NULL : content_of(log, record, rest);
		char		place[40] = "";

		if (own != NULL)
			snprintf(place, sizeof(place), ", leaf %lld", (long long) own->number);
		if (is_double(log, record))
			phi_fault("doubled: record %lld is there more than once", (long long) record->id);
		else if (content != NULL)
		{
			phi_fault("reordered: record %lld%s has the content of record %lld, leaf %lld",
					  (long long) record->id, place, (long long) content->id, (long long) content->number);
			content->found = true;
		}
		else if (own != NULL)
			phi_fault("altered: record %lld%s", (long long) record->id, place);
		else if (record->xact > sequenced)
			later++;
		else
			phi_fault("inserted: record %lld", (long long) record->id);
		if (own != NULL)
			own->found = true;
	}
	if (later > 0)
		phi_remark(log->gap ? "%zu records of later transactions are not verified" :
				   "%zu records of later transactions are not sequenced yet", later);
}

static void
tell_missing(const Log *log, Rest *rest)
{
	int64_t		last = -1;
	size_t		elsewhere = 0;

	for (size_t i = 0; i < log->leaves.n; i++)
	{
		if (log->leaves.items[i].found)
			last = log->leaves.items[i].number;
	}
	phi_sort(rest->leaves.items, rest->leaves.n, sizeof(Leaf *), leaf_by_number);
	for (size_t i = 0; i < rest->leaves.n; i++)
	{
		const Leaf *leaf = rest->leaves.items[i];

		if (leaf->found || leaf->retired)
			continue;
		if (log->part)
			elsewhere++;
		else
			phi_fault("%s: record %lld, leaf %lld", leaf->number > last ? "cut off" : "missing",
					  (long long) leaf->id, (long long) leaf->number);
	}
	if (elsewhere > 0)
		phi_remark("%zu leaves have no record in what was given", elsewhere);
}

void
phi_compare_records(Log *log)
{
	Leaf	  **leaves = phi_allocate((log->leaves.n + 1) * sizeof(Leaf *));
	Rest		rest = {{0}, {0}};

	for (size_t i = 0; i < log->leaves.n; i++)
		leaves[i] = &log->leaves.items[i];
	phi_sort(log->records.items, log->records.n, sizeof(Record), record_by_id);
	phi_sort(leaves, log->leaves.n, sizeof(Leaf *), leaf_by_id);
	match_by_id(log, leaves, &rest);
	free(leaves);
	match_by_hash(&rest);
	drop_matched(&rest);
	tell_records(log, &rest);
	tell_missing(log, &rest);
	free(rest.records.items);
	free(rest.leaves.items);
}

static int
record_by_xact(const void *a, const void *b)
{
	const Record *x = a;
	const Record *y = b;

	return x->xact != y->xact ? (x->xact > y->xact) - (x->xact < y->xact) : compare_numbers(x->id, y->id);
}

/* In the order in which a server gives them out. */
void
phi_derive_leaves(Log *log)
{
	const Record *records = log->records.items;

	phi_sort(log->records.items, log->records.n, sizeof(Record), record_by_id);
	for (size_t i = 1; i < log->records.n; i++)
	{
		if (records[i].id == records[i - 1].id)
			phi_fault("doubled: record %lld is there more than once", (long long) records[i].id);
	}
	phi_sort(log->records.items, log->records.n, sizeof(Record), record_by_xact);
	for (size_t i = 0; i < log->records.n; i++)
		*ADD(log->leaves) = (Leaf) {(int64_t) i, records[i].id, records[i].hash, true, false};
}
