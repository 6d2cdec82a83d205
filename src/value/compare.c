/*
 * compare.c
 *		Operators.
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
 * to read both values.  Sorting itself is in sort.c.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/typcache.h"

#include "value/compare.h"

PG_FUNCTION_INFO_V1(phi_enc_eq);
PG_FUNCTION_INFO_V1(phi_enc_ne);
PG_FUNCTION_INFO_V1(phi_enc_lt);
PG_FUNCTION_INFO_V1(phi_enc_le);
PG_FUNCTION_INFO_V1(phi_enc_gt);
PG_FUNCTION_INFO_V1(phi_enc_ge);
PG_FUNCTION_INFO_V1(phi_enc_smaller);
PG_FUNCTION_INFO_V1(phi_enc_larger);

void
phi_read_encrypted(const PhiType *type, Datum datum, PhiOperand *operand)
{
	PhiKey	   *key;

	operand->datum = datum;
	operand->encrypted = true;
	phi_parse_datum(type, datum, &operand->envelope);
	key = phi_envelope_key(&operand->envelope);
	operand->clinic_id = key->clinic_id;
	operand->class = key->class;
	operand->access = phi_access(phi_session(), key);
}

void
phi_read_operand(FunctionCallInfo fcinfo, PhiFunction *function, int n, PhiOperand *operand)
{
	if (function->arg[n] != NULL)
	{
		phi_read_encrypted(function->type, PG_GETARG_DATUM(n), operand);
		return;
	}
	operand->datum = PG_GETARG_DATUM(n);
	operand->encrypted = false;
	operand->clinic_id =
		phi_require_session("compare an encrypted value with a plain one")->clinic_id;
}

Datum
phi_plain_value(FunctionCallInfo fcinfo, PhiFunction *function, PhiOperand *operand)
{
	if (!operand->encrypted)
		return phi_convert(fcinfo, function, operand->datum, function->plain,
						   function->type->base);
	return phi_open_datum(function->type, &operand->envelope,
						  phi_envelope_key(&operand->envelope));
}

static PhiSpan
plain_bytes(FunctionCallInfo fcinfo, PhiFunction *function, PhiOperand *operand,
			PhiOpened *opened)
{
	opened->far = NULL;
	if (operand->encrypted)
		phi_open_envelope(&operand->envelope, phi_envelope_key(&operand->envelope), opened);
	else
		opened->payload = phi_payload_from(function->type,
										   phi_plain_value(fcinfo, function, operand),
										   opened->near, (void **) &opened->far);
	return opened->payload;
}

bool
phi_may_compare(const PhiOperand *a, const PhiOperand *b)
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
equal_bytes(FunctionCallInfo fcinfo, PhiFunction *function, PhiOperand *a, PhiOperand *b)
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
compare_values(FunctionCallInfo fcinfo, PhiFunction *function, PhiOperand *a, PhiOperand *b)
{
	TypeCacheEntry *base = lookup_type_cache(function->type->base,
											 TYPECACHE_CMP_PROC_FINFO);
	Datum		value_a = phi_plain_value(fcinfo, function, a);
	Datum		value_b = phi_plain_value(fcinfo, function, b);
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
	PhiOperand		a;
	PhiOperand		b;

	phi_read_operand(fcinfo, function, 0, &a);
	phi_read_operand(fcinfo, function, 1, &b);
	if (!phi_may_compare(&a, &b))
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
require_readable(const PhiOperand *operand)
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
	PhiOperand		a;
	PhiOperand		b;
	int			result;

	phi_read_operand(fcinfo, function, 0, &a);
	phi_read_operand(fcinfo, function, 1, &b);
	require_readable(&a);
	require_readable(&b);
	result = compare_values(fcinfo, function, &a, &b);
	phi_leave_scratch(old);
	return result;
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
