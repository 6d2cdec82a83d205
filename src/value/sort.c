/*
 * sort.c
 *		Sort support: a sort decrypts each value once.
 *
 * What it calls the abbreviated key is a pointer to the value, decrypted.  When
 * it merges runs that it wrote to disk, as ciphertext, a cache serves.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "guc.h"
#include "value/guard.h"
#include "value/order.h"

PG_FUNCTION_INFO_V1(phi_enc_sortsupport);
PG_FUNCTION_INFO_V1(phi_enc_equality_sortsupport);

/* Longer values are decrypted again when two of them meet. */
#define KEPT_BYTES 128

/* An item with room for its value. */
typedef struct KeptItem
{
	PhiItem		item;
	uint8		bytes[KEPT_BYTES];
} KeptItem;

#define CACHED_ITEMS 512

/* Values with the same of these are equal. */
typedef struct SharedKey
{
	uint64		prf;
	int32		clinic_id;
	int16		class;			/* 0 unless it matters */
	bool		hidden;
} SharedKey;

typedef struct SharedItem
{
	SharedKey	key;
	PhiItem    *item;
} SharedItem;

/*
 * A sort holds only the latest of its tuples, as many as fit into its memory,
 * or writes them all to disk; an item needs less than three times the memory of
 * its tuple.  So two areas of three times a sort's memory take turns.
 */
typedef struct Sorter
{
	PhiOrder	order;
	MemoryContext area;			/* of the latest items */
	MemoryContext old_area;
	Size		used;			/* bytes in "area" */
	Size		limit;
	bool		shares;			/* one item for equal values; see share_item */
	HTAB	   *shared;			/* SharedItem, of the items in "area" */
	const PhiItem *equal_a;		/* just found equal by their items alone */
	const PhiItem *equal_b;
	KeptItem   *cache;			/* by mark */
} Sorter;

static void
change_areas(Sorter *sorter)
{
	MemoryContext next = sorter->old_area;
	HASHCTL		control = {.keysize = sizeof(SharedKey),.entrysize = sizeof(SharedItem)};

	if (next == NULL)
		next = GenerationContextCreate(sorter->order.base.ssup_cxt, "pg_phi sort",
									   ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(next);
	sorter->old_area = sorter->area;
	sorter->area = control.hcxt = next;
	sorter->used = 0;
	if (sorter->shares)
		sorter->shared = hash_create("pg_phi sort", 1024, &control,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Room for an item and "bytes" of its value. */
static PhiItem *
new_item(Sorter *sorter, Size bytes)
{
	Size		size = offsetof(KeptItem, bytes) + MAXALIGN(bytes);

	if (sorter->area == NULL || sorter->used + size > sorter->limit)
		change_areas(sorter);
	sorter->used += size;
	return MemoryContextAlloc(sorter->area, size);
}

/* Moves a value that lies elsewhere to "bytes". */
static void
keep_value(PhiItem *item, uint8 *bytes, Size size)
{
	memcpy(bytes, DatumGetPointer(item->value), size);
	item->value = PointerGetDatum(bytes);
}

/* Bytes of an item's value that are to be kept; none of long ones. */
static Size
bytes_to_keep(const PhiOrder *order, PhiItem *item)
{
	Size		size;

	if (item->hidden || item->dead || order->type->kind == PHI_PAYLOAD_INTEGER)
		return 0;
	size = VARSIZE_ANY(DatumGetPointer(item->value));
	item->cut = size > KEPT_BYTES;
	return item->cut ? 0 : size;
}

/* A value out of line is shorter in the sort's memory than its item: not kept. */
static bool
is_far(Datum datum)
{
	return VARATT_IS_EXTERNAL(DatumGetPointer(datum));
}

/* A copy of an item and its value. */
static PhiItem *
keep_item(Sorter *sorter, PhiItem *read, Size size)
{
	PhiItem    *item = new_item(sorter, size);

	*item = *read;
	if (size > 0)
		keep_value(item, ((KeptItem *) item)->bytes, size);
	return item;
}

/*
 * Where the server sorts single values, for DISTINCT in an aggregate, it takes
 * those for different whose abbreviated keys differ.
 */
static PhiItem *
share_item(Sorter *sorter, PhiItem *read, Size size)
{
	SharedKey	key;
	SharedItem *shared;
	bool		found;

	if (sorter->area == NULL)
		change_areas(sorter);
	memset(&key, 0, sizeof(key));
	key.prf = read->prf;
	key.clinic_id = read->clinic_id;
	key.hidden = read->hidden;
	key.class = read->hidden && !read->comparable ? read->class : 0;
	shared = hash_search(sorter->shared, &key, HASH_FIND, &found);
	if (found)
		return shared->item;
	read = keep_item(sorter, read, size);
	shared = hash_search(sorter->shared, &key, HASH_ENTER, &found);
	shared->item = read;
	return read;
}

/* The abbreviated key of an envelope. */
static Datum
make_item(Datum datum, SortSupport ssup)
{
	Sorter	   *sorter = ssup->ssup_extra;
	MemoryContext old = phi_enter_scratch();
	PhiItem		read;
	PhiItem    *item;
	Size		size;

	phi_read_item(&sorter->order, datum, true, &read);
	size = bytes_to_keep(&sorter->order, &read);
	if (sorter->shares && read.dead)
		memcpy(&read.prf, read.mark, sizeof(read.prf));
	else if (sorter->shares && !read.hidden)
		read.prf = phi_search_plain(sorter->order.type, read.clinic_id, read.value);
	if (is_far(datum))
	{
		read.cut |= size > 0;
		size = 0;
	}
	item = sorter->shares ? share_item(sorter, &read, size) : keep_item(sorter, &read, size);
	phi_leave_scratch(old);
	return PointerGetDatum(item);
}

static int
compare_kept(Datum x, Datum y, SortSupport ssup)
{
	Sorter	   *sorter = ssup->ssup_extra;
	const PhiItem *a = (const PhiItem *) DatumGetPointer(x);
	const PhiItem *b = (const PhiItem *) DatumGetPointer(y);
	bool		known;
	int			result = phi_compare_items(&sorter->order, a, b, &known);

	/* The server asks compare_full next, for the same pair. */
	sorter->equal_a = result == 0 && known ? a : NULL;
	sorter->equal_b = b;
	return result;
}

static bool
is_marked(const PhiEnvelope *envelope, const PhiItem *item)
{
	return memcmp(envelope->nonce.ptr, item->mark, PHI_MARK_BYTES) == 0;
}

/*
 * The item of a value, from the cache or put there; but in "scratch" when it is
 * long, or its place is "taken".
 */
static const PhiItem *
cached_item(Sorter *sorter, Datum datum, const PhiEnvelope *envelope, PhiItem *scratch,
			const PhiItem *taken)
{
	uint32		slot;
	KeptItem   *kept;
	Size		size;

	memcpy(&slot, envelope->nonce.ptr, sizeof(slot));
	kept = &sorter->cache[slot % CACHED_ITEMS];
	if (kept->item.clinic_id != 0 && is_marked(envelope, &kept->item))
		return &kept->item;
	phi_read_item(&sorter->order, datum, true, scratch);
	size = bytes_to_keep(&sorter->order, scratch);
	if (scratch->cut || taken == &kept->item)
	{
		scratch->cut = false;
		return scratch;
	}
	kept->item = *scratch;
	if (size > 0)
		keep_value(&kept->item, kept->bytes, size);
	return &kept->item;
}

static int
compare_full(Datum x, Datum y, SortSupport ssup)
{
	Sorter	   *sorter = ssup->ssup_extra;
	MemoryContext old = phi_enter_scratch();
	PhiEnvelope of_x;
	PhiEnvelope of_y;
	PhiItem		scratch_a;
	PhiItem		scratch_b;
	const PhiItem *a;
	const PhiItem *b;
	bool		known;
	int			result = 0;

	phi_parse_datum(sorter->order.type, x, &of_x);
	phi_parse_datum(sorter->order.type, y, &of_y);
	if (sorter->equal_a == NULL || !is_marked(&of_x, sorter->equal_a) ||
		!is_marked(&of_y, sorter->equal_b))
	{
		if (sorter->cache == NULL)
			sorter->cache = MemoryContextAllocZero(sorter->order.base.ssup_cxt,
												   CACHED_ITEMS * sizeof(KeptItem));
		a = cached_item(sorter, x, &of_x, &scratch_a, NULL);
		b = cached_item(sorter, y, &of_y, &scratch_b, a);
		result = phi_compare_items(&sorter->order, a, b, &known);
	}
	sorter->equal_a = NULL;
	phi_leave_scratch(old);
	return result;
}

static bool
never_abort(int count, SortSupport ssup)
{
	return false;
}

static void
support_sort(FunctionCallInfo fcinfo, bool equality)
{
	SortSupport ssup = (SortSupport) PG_GETARG_POINTER(0);
	MemoryContext old = MemoryContextSwitchTo(ssup->ssup_cxt);
	Sorter	   *sorter = palloc0(sizeof(Sorter));

	phi_init_order(&sorter->order, phi_type_named_by(fcinfo->flinfo->fn_oid), equality,
				   ssup->ssup_collation, ssup->ssup_cxt);
	sorter->shares = ssup->ssup_attno == 0;
	/* Only index builds take maintenance_work_mem; here no flag of theirs is to be had. */
	sorter->limit = 3 * 1024 * (Size) (equality || phi_allow_ordered_index ?
									   Max(work_mem, maintenance_work_mem) : work_mem);
	ssup->ssup_extra = sorter;
	ssup->comparator = compare_full;
	if (ssup->abbreviate)
	{
		ssup->comparator = compare_kept;
		ssup->abbrev_converter = make_item;
		ssup->abbrev_abort = never_abort;
		ssup->abbrev_full_comparator = compare_full;
	}
	MemoryContextSwitchTo(old);
}

/* Support function 2 of the default class; errors as phi_enc_cmp. */
Datum
phi_enc_sortsupport(PG_FUNCTION_ARGS)
{
	phi_check_rebuild();
	support_sort(fcinfo, false);
	PG_RETURN_VOID();
}

/* Support function 2 of the equality class; errors as phi_enc_equality_cmp. */
Datum
phi_enc_equality_sortsupport(PG_FUNCTION_ARGS)
{
	support_sort(fcinfo, true);
	PG_RETURN_VOID();
}
