/*
 * search.c
 *		What a hash index stores of a value: 32 bits of a keyed PRF of the
 *		plaintext, under the search key of the value's clinic.
 *
 * Equal plaintexts of a clinic have equal bits whatever their class and key
 * version.  A plain value is hashed for the session's clinic, so that it finds
 * that clinic's values.
 *
 * Outside of indexes (hash joins, hash_array() and the like) the hash of a
 * value that the session may not read depends on the class too, as its "="
 * does: else a hash would tell what "=" does not.  An index can't do so, for
 * it serves all sessions; see guard.c.
 */
#include "postgres.h"

#include <math.h>

#include "commands/vacuum.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_enc_hash);
PG_FUNCTION_INFO_V1(phi_base_hash);
PG_FUNCTION_INFO_V1(phi_enc_typanalyze);

/* "class" separates what must not be compared; PHI_CLASS_SEARCH: nothing is. */
static uint64
prf(int32 clinic_id, int class, PhiSpan data)
{
	PhiKey	   *key = phi_key_active(clinic_id, PHI_CLASS_SEARCH);
	PhiStatus	status;
	uint64_t	result;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clinic %d has no active search key", clinic_id)));
	status = phi_prf64(phi_key_secret(key), data, &result);
	if (status != PHI_OK)
		phi_report_envelope(status);
	if (class != PHI_CLASS_SEARCH)
		result = phi_search_of_class(clinic_id, result, class);
	return result;
}

uint64
phi_search_of_class(int32 clinic_id, uint64 prf_of_value, int class)
{
	uint64_t	tagged[2] = {prf_of_value, (uint64_t) class};

	return prf(clinic_id, PHI_CLASS_SEARCH, (PhiSpan) {(uint8 *) tagged, sizeof(tagged)});
}

/*
 * Equal numerics and jsonbs can have different payloads; the base type's own
 * hash, which agrees with its equality, stands in for them.
 */
static uint64
prf_of_value(const PhiType *type, int32 clinic_id, int class, Datum value)
{
	TypeCacheEntry *base = lookup_type_cache(type->base,
											 TYPECACHE_HASH_EXTENDED_PROC_FINFO);
	uint64		hash = DatumGetUInt64(FunctionCall2(&base->hash_extended_proc_finfo,
													value, UInt64GetDatum(0)));

	return prf(clinic_id, class, (PhiSpan) {(uint8 *) &hash, sizeof(hash)});
}

static uint64
prf_of_envelope(const PhiType *type, const PhiEnvelope *envelope, PhiKey *key, int class)
{
	int32		clinic_id = key->clinic_id;
	PhiOpened	opened;
	uint64		result;

	if (!type->bytewise)
		return prf_of_value(type, clinic_id, class, phi_open_datum(type, envelope, key));
	phi_open_envelope(envelope, key, &opened);
	phi_keep_payload((PhiSpan) {envelope->header.ptr, phi_envelope_bytes(envelope)},
					 opened.payload);
	result = prf(clinic_id, class, opened.payload);
	phi_close(&opened);
	return result;
}

uint64
phi_search_value(const PhiType *type, const PhiEnvelope *envelope)
{
	return prf_of_envelope(type, envelope, phi_envelope_key(envelope), PHI_CLASS_SEARCH);
}

/* Who goes down a btree meets the same few values near its root again and again. */
typedef struct CachedSearch
{
	uint8		nonce[PHI_MARK_BYTES];	/* its first bytes */
	uint32		key_id;			/* 0: none */
	uint64		prf;
} CachedSearch;

#define CACHED_SEARCHES 4096

uint64
phi_search_cached(const PhiType *type, const PhiEnvelope *envelope)
{
	static CachedSearch cache[CACHED_SEARCHES];
	static uint64 round = 0;
	CachedSearch *cached;
	uint32		slot;

	/* A search key may have been rotated, or all keys called back. */
	if (round != phi_keyring_round())
		memset(cache, 0, sizeof(cache));
	round = phi_keyring_round();
	memcpy(&slot, envelope->nonce.ptr, sizeof(slot));
	cached = &cache[slot % CACHED_SEARCHES];
	if (cached->key_id != envelope->key_id ||
		memcmp(cached->nonce, envelope->nonce.ptr, PHI_MARK_BYTES) != 0)
	{
		uint64		result = phi_search_value(type, envelope);

		memcpy(cached->nonce, envelope->nonce.ptr, PHI_MARK_BYTES);
		cached->key_id = envelope->key_id;
		cached->prf = result;
	}
	return cached->prf;
}

/* What hashes of values of "key" are bound to in this session; see above. */
static int
class_to_bind(const PhiKey *key)
{
	return phi_may_compare_any(phi_access(phi_session(), key)) ?
		PHI_CLASS_SEARCH : key->class;
}

static bool
is_out_of_reach(const PhiKey *key)
{
	PhiAccess	access = phi_access(phi_session(), key);

	return access == PHI_CLASS_NOT_HELD ||
		(access != PHI_READABLE && phi_session_user_lacks(key->clinic_id, key->class));
}

/* hashenctext(enctext) and so on; support function 1 of the hash class */
Datum
phi_enc_hash(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	PhiEnvelope envelope;
	PhiKey	   *key;
	int			class = PHI_CLASS_SEARCH;
	MemoryContext old = phi_enter_scratch();
	uint64		hash;

	phi_parse_datum(function->type, PG_GETARG_DATUM(0), &envelope);
	key = phi_envelope_key(&envelope);
	if (!phi_in_index(fcinfo))
		class = class_to_bind(key);
	/* Into an index nobody copies what he may not search for, now or later; nor searches it for that. */
	else if (!phi_only_carries() && is_out_of_reach(key))
		phi_report_access(PHI_CLASS_NOT_HELD, key->class);
	/* What nobody can read is found by nobody, but keeps no index from being built. */
	if (key->state == PHI_KEY_DESTROYED && phi_in_index(fcinfo))
		memcpy(&hash, envelope.nonce.ptr, sizeof(hash));
	else
		hash = prf_of_envelope(function->type, &envelope, key, class);
	phi_leave_scratch(old);
	PG_RETURN_INT32((int32) hash);
}

uint64
phi_search_plain(const PhiType *type, int32 clinic_id, Datum value)
{
	uint8		scratch[8];
	void	   *owned;

	if (!type->bytewise)
		return prf_of_value(type, clinic_id, PHI_CLASS_SEARCH, value);
	return prf(clinic_id, PHI_CLASS_SEARCH,
			   phi_payload_from(type, value, scratch, &owned));
}

/* hashenctext(text), hashencbigint(integer) and so on: of a plain value */
Datum
phi_base_hash(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	int32		clinic_id = phi_require_session("search encrypted values")->clinic_id;
	MemoryContext old = phi_enter_scratch();
	Datum		value = phi_convert(fcinfo, function, PG_GETARG_DATUM(0),
									function->plain, function->type->base);
	uint64		hash = phi_search_plain(function->type, clinic_id, value);

	phi_leave_scratch(old);
	PG_RETURN_INT32((int32) hash);
}

/* Sampled values that the server asks to be counted; see compute_stats. */
typedef struct Sample
{
	int			n;				/* values hashed */
	int			nulls;
	double		width;			/* total, in bytes */
	uint64	   *hashes;
	bool		countable;		/* all keys were to be had */
} Sample;

static void
add_to_sample(Sample *sample, const PhiType *type, Datum value)
{
	PhiEnvelope envelope;
	PhiKey	   *key;

	sample->width += VARSIZE_ANY(DatumGetPointer(value));
	if (!sample->countable)
		return;
	/* One bad value must not keep the table from being analysed. */
	if (!phi_is_authentic(type, value, &envelope, &key))
		sample->countable = false;
	else
		sample->hashes[sample->n++] = prf_of_envelope(type, &envelope, key, class_to_bind(key));
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Number of distinct values by the Duj1 estimator (Haas and Stokes, 1998), as
 * the server uses it; negative: as a share of the rows.
 */
static float4
count_distinct(Sample *sample, double totalrows, double nullfrac)
{
	double		n = sample->n;
	double		d = 0;
	double		once = 0;
	double		estimate;

	qsort(sample->hashes, sample->n, sizeof(uint64), compare_hashes);
	for (int i = 0, run = 1; i < sample->n; i++, run++)
	{
		if (i + 1 < sample->n && sample->hashes[i] == sample->hashes[i + 1])
			continue;
		d++;
		once += run == 1;
		run = 0;
	}
	if (once == d)
		return -1.0 * (1.0 - nullfrac);
	totalrows *= 1.0 - nullfrac;
	estimate = n * d / ((n - once) + once * n / totalrows);
	estimate = Min(Max(estimate, d), totalrows);
	return estimate > 0.1 * totalrows ? -(estimate / totalrows * (1.0 - nullfrac)) :
		floor(estimate + 0.5);
}

/*
 * Null fraction, width and distinct count.  No sample values are kept: they
 * would be copies of ciphertext, in plaintext order, that a rekey would miss.
 */
static void
compute_stats(VacAttrStatsP stats, AnalyzeAttrFetchFunc fetch, int rows,
			  double totalrows)
{
	const PhiType *type = phi_type_by_oid(stats->attrtypid);
	Sample		sample = {.countable = true};
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "pg_phi analyze",
													  ALLOCSET_DEFAULT_SIZES);

	sample.hashes = palloc(Max(rows, 1) * sizeof(uint64));
	for (int i = 0; i < rows; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		bool		isnull;
		Datum		value = fetch(stats, i, &isnull);

		vacuum_delay_point();
		if (isnull)
			sample.nulls++;
		else
			add_to_sample(&sample, type, value);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	MemoryContextDelete(row_context);
	if (rows == 0)
		return;
	stats->stats_valid = true;
	stats->stanullfrac = (float4) sample.nulls / rows;
	if (rows > sample.nulls)
		stats->stawidth = sample.width / (rows - sample.nulls);
	if (sample.countable && sample.n > 0)
		stats->stadistinct = count_distinct(&sample, totalrows, stats->stanullfrac);
}

/* enctypanalyze(internal) returns boolean */
Datum
phi_enc_typanalyze(PG_FUNCTION_ARGS)
{
	VacAttrStats *stats = (VacAttrStats *) PG_GETARG_POINTER(0);

	if (phi_type_by_oid(stats->attrtypid) == NULL)
		PG_RETURN_BOOL(false);
	if (PhiStatisticsTarget(stats) < 0)
		PhiStatisticsTarget(stats) = default_statistics_target;
	stats->compute_stats = compute_stats;
	stats->minrows = 300 * PhiStatisticsTarget(stats);
	PG_RETURN_BOOL(true);
}
