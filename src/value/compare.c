/*
 * compare.c
 *		Operators, and support functions of the operator classes.
 *
 * Equality asks for no right where the answer tells nothing: two values of one
 * clinic and one class are compared whoever asks, so that indexes and
 * constraints work in a sealed session too.  Across classes, and with a
 * plaintext, one who may not read a value must not be able to guess it: there
 * such a value equals nothing.  It equals nothing rather than raising an
 * error, because "=" is LEAKPROOF: row security lets it see rows that the
 * session never gets.
 *
 * Order tells more than equality, so the operators "<" and so on take the right
 * to read both values.  Sorting itself, which serves joins, DISTINCT and the
 * like too, orders what may not be read behind the rest, by a keyed PRF.  An
 * ordered index, where allowed, goes by clinic and plaintext for all sessions.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "guc.h"
#include "value/guard.h"
#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_enc_eq);
PG_FUNCTION_INFO_V1(phi_enc_ne);
PG_FUNCTION_INFO_V1(phi_enc_lt);
PG_FUNCTION_INFO_V1(phi_enc_le);
PG_FUNCTION_INFO_V1(phi_enc_gt);
PG_FUNCTION_INFO_V1(phi_enc_ge);
PG_FUNCTION_INFO_V1(phi_enc_smaller);
PG_FUNCTION_INFO_V1(phi_enc_larger);
PG_FUNCTION_INFO_V1(phi_enc_cmp);
PG_FUNCTION_INFO_V1(phi_enc_equalimage);

/* One operand of a comparison. */
typedef struct Operand
{
	bool		encrypted;
	int32		clinic_id;
	int			class;
	PhiAccess	access;
	PhiEnvelope envelope;
	Datum		datum;
} Operand;

static void
read_operand(FunctionCallInfo fcinfo, PhiFunction *function, int n, Operand *operand)
{
	PhiKey	   *key;

	operand->datum = PG_GETARG_DATUM(n);
	operand->encrypted = function->arg[n] != NULL;
	if (!operand->encrypted)
	{
		operand->clinic_id =
			phi_require_session("compare an encrypted value with a plain one")->clinic_id;
		return;
	}
	phi_parse_datum(function->type, operand->datum, &operand->envelope);
	key = phi_envelope_key(&operand->envelope);
	operand->clinic_id = key->clinic_id;
	operand->class = key->class;
	operand->access = phi_access(phi_session(), key);
}

/* The operand as a value of the base type. */
static Datum
plain_value(FunctionCallInfo fcinfo, PhiFunction *function, Operand *operand)
{
	if (!operand->encrypted)
		return phi_convert(fcinfo, function, operand->datum, function->plain,
						   function->type->base);
	return phi_open_datum(function->type, &operand->envelope,
						  phi_envelope_key(&operand->envelope));
}

static PhiSpan
plain_bytes(FunctionCallInfo fcinfo, PhiFunction *function, Operand *operand,
			PhiOpened *opened)
{
	opened->far = NULL;
	if (operand->encrypted)
		phi_open_envelope(&operand->envelope, phi_envelope_key(&operand->envelope), opened);
	else
		opened->payload = phi_payload_from(function->type,
										   plain_value(fcinfo, function, operand),
										   opened->near, (void **) &opened->far);
	return opened->payload;
}

/* Whether the answer to "are they equal?" may depend on the plaintext. */
static bool
may_compare(const Operand *a, const Operand *b)
{
	if (a->encrypted && b->encrypted)
	{
		if (a->clinic_id != b->clinic_id)
			return false;
		if (a->class == b->class)
			return true;
	}
	return (!a->encrypted || phi_may_compare_any(a->access)) &&
		(!b->encrypted || phi_may_compare_any(b->access));
}

static bool
equal_bytes(FunctionCallInfo fcinfo, PhiFunction *function, Operand *a, Operand *b)
{
	PhiOpened	open_a;
	PhiOpened	open_b;
	PhiSpan		bytes_a = plain_bytes(fcinfo, function, a, &open_a);
	PhiSpan		bytes_b = plain_bytes(fcinfo, function, b, &open_b);
	bool		equal = bytes_a.len == bytes_b.len &&
		memcmp(bytes_a.ptr, bytes_b.ptr, bytes_a.len) == 0;

	phi_close(&open_a);
	phi_close(&open_b);
	return equal;
}

static int
compare_values(FunctionCallInfo fcinfo, PhiFunction *function, Operand *a, Operand *b)
{
	TypeCacheEntry *base = lookup_type_cache(function->type->base,
											 TYPECACHE_CMP_PROC_FINFO);
	Datum		value_a = plain_value(fcinfo, function, a);
	Datum		value_b = plain_value(fcinfo, function, b);
	int			result = DatumGetInt32(FunctionCall2Coll(&base->cmp_proc_finfo,
														 PG_GET_COLLATION(),
														 value_a, value_b));

	/* Some collations call different texts equal; "=" does not. */
	if (result == 0 && function->type->base == TEXTOID)
		result = DatumGetInt32(FunctionCall2Coll(&base->cmp_proc_finfo,
												 C_COLLATION_OID, value_a, value_b));
	return result;
}

static bool
compare_equal(FunctionCallInfo fcinfo)
{
	PhiFunction *function = phi_function(fcinfo);
	Operand		a;
	Operand		b;

	read_operand(fcinfo, function, 0, &a);
	read_operand(fcinfo, function, 1, &b);
	if (!may_compare(&a, &b))
		return false;
	if (function->type->bytewise)
		return equal_bytes(fcinfo, function, &a, &b);
	return compare_values(fcinfo, function, &a, &b) == 0;
}

static bool
is_equal(FunctionCallInfo fcinfo)
{
	MemoryContext old = phi_enter_scratch();
	bool		result = compare_equal(fcinfo);

	phi_leave_scratch(old);
	return result;
}

static void
require_readable(const Operand *operand)
{
	if (operand->encrypted && operand->access != PHI_READABLE)
		phi_report_access(operand->access, operand->class);
}

/* By plaintext. */
static int
order(FunctionCallInfo fcinfo)
{
	PhiFunction *function = phi_function(fcinfo);
	MemoryContext old = phi_enter_scratch();
	Operand		a;
	Operand		b;
	int			result;

	read_operand(fcinfo, function, 0, &a);
	read_operand(fcinfo, function, 1, &b);
	require_readable(&a);
	require_readable(&b);
	result = compare_values(fcinfo, function, &a, &b);
	phi_leave_scratch(old);
	return result;
}

static int
compare_numbers(uint64 a, uint64 b)
{
	return a < b ? -1 : a > b;
}

/* In an order that tells no more than "=" does. */
static int
compare_unreadable(const PhiType *type, const Operand *a, const Operand *b)
{
	if (!phi_may_compare_any(a->access) && a->class != b->class)
		return compare_numbers(a->class, b->class);
	return compare_numbers(phi_search_value(type, &a->envelope),
						   phi_search_value(type, &b->envelope));
}

static int
sort_order(FunctionCallInfo fcinfo, PhiFunction *function, bool by_plaintext)
{
	Operand		a;
	Operand		b;
	bool		a_hidden;
	bool		b_hidden;

	read_operand(fcinfo, function, 0, &a);
	read_operand(fcinfo, function, 1, &b);
	if (a.clinic_id != b.clinic_id)
		return compare_numbers(a.clinic_id, b.clinic_id);
	a_hidden = a.encrypted && a.access != PHI_READABLE;
	b_hidden = b.encrypted && b.access != PHI_READABLE;
	if (by_plaintext || !(a_hidden || b_hidden))
		return compare_values(fcinfo, function, &a, &b);
	if (a_hidden && b_hidden)
		return compare_unreadable(function->type, &a, &b);
	return a_hidden ? 1 : -1;
}

/* enctexteq(enctext, enctext), enctexteq(enctext, text) and so on */
Datum
phi_enc_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_equal(fcinfo));
}

Datum
phi_enc_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!is_equal(fcinfo));
}

Datum
phi_enc_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(order(fcinfo) < 0);
}

Datum
phi_enc_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(order(fcinfo) <= 0);
}

Datum
phi_enc_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(order(fcinfo) > 0);
}

Datum
phi_enc_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(order(fcinfo) >= 0);
}

/* encdatesmaller(encdate, encdate), encdatelarger(encdate, encdate) */
Datum
phi_enc_smaller(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PG_GETARG_DATUM(order(fcinfo) <= 0 ? 0 : 1));
}

Datum
phi_enc_larger(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PG_GETARG_DATUM(order(fcinfo) >= 0 ? 0 : 1));
}

void
phi_refuse_ordered_index(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("ordered indexes on encrypted columns are not allowed"),
			 errdetail("Such an index tells the order of all values to whoever reads it."),
			 errhint("Use CREATE INDEX ... USING hash, or, as superuser, SET phi.allow_ordered_index = on.")));
}

/*
 * Support function 1.  Where ordered indexes are allowed all sessions must sort
 * alike, by clinic and plaintext; so where they are not, one that was allowed
 * before cannot be rebuilt (ERROR 0A000).
 */
Datum
phi_enc_cmp(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	MemoryContext old;
	int			result;

	if (!phi_allow_ordered_index && phi_in_rebuild())
		phi_refuse_ordered_index();
	old = phi_enter_scratch();
	result = sort_order(fcinfo, function, phi_allow_ordered_index);
	phi_leave_scratch(old);
	PG_RETURN_INT32(result);
}

/*
 * Support function 4, which the server calls when it builds an index of one
 * column: refuses it before there are values.  ERROR 0A000 unless allowed.  The
 * answer is no: equal values have different envelopes.
 */
Datum
phi_enc_equalimage(PG_FUNCTION_ARGS)
{
	if (!phi_allow_ordered_index)
		phi_refuse_ordered_index();
	PG_RETURN_BOOL(false);
}
