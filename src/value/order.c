/*
 * order.c
 *		Sorting, and the two kinds of btree index.
 *
 * The default class sorts by plaintext, and what the session may not read
 * behind the rest, by a keyed PRF: that tells no more than "=" does.  An index
 * of this class, where allowed, goes by clinic and plaintext for all sessions.
 *
 * The equality class goes by clinic, then by the keyed PRF, then, for the few
 * that share one, by plaintext: its order is of no use to anybody, and the
 * same for all sessions.  It is for indexes alone: its family has no "<", and
 * the planner is told that such an index has no order (phi_hide_index_order).
 * Otherwise one could see which of one's guesses sorts beside a value that one
 * may not read.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "guc.h"
#include "value/guard.h"
#include "value/order.h"

PG_FUNCTION_INFO_V1(phi_enc_cmp);
PG_FUNCTION_INFO_V1(phi_enc_equality_cmp);
PG_FUNCTION_INFO_V1(phi_enc_equalimage);

static int
compare_numbers(uint64 a, uint64 b)
{
	return a < b ? -1 : a > b;
}

void
phi_init_order(PhiOrder *order, const PhiType *type, bool equality, Oid collation,
			   MemoryContext context)
{
	memset(order, 0, sizeof(PhiOrder));
	order->type = type;
	order->equality = equality;
	order->by_plaintext = equality || phi_allow_ordered_index;
	order->base.ssup_cxt = context;
	order->base.ssup_collation = equality ? C_COLLATION_OID : collation;
	PrepareSortSupportFromOrderingOp(lookup_type_cache(type->base, TYPECACHE_LT_OPR)->lt_opr,
									 &order->base);
}

void
phi_read_item(const PhiOrder *order, Datum datum, bool whole, PhiItem *item)
{
	PhiOperand	operand;

	phi_read_encrypted(order->type, datum, &operand);
	item->clinic_id = operand.clinic_id;
	item->class = operand.class;
	item->access = operand.access;
	item->comparable = phi_may_compare_any(operand.access);
	item->hidden = !order->by_plaintext && operand.access != PHI_READABLE;
	item->prf = 0;
	memcpy(item->mark, operand.envelope.nonce.ptr, Min(PHI_MARK_BYTES, operand.envelope.nonce.len));
	if (item->hidden || !whole)
		item->prf = phi_search_cached(order->type, &operand.envelope);
	item->cut = !item->hidden && !whole;
	if (item->hidden || !whole)
		return;
	item->value = phi_open_datum(order->type, &operand.envelope,
								 phi_envelope_key(&operand.envelope));
	if (order->equality)
		item->prf = phi_search_plain(order->type, item->clinic_id, item->value);
}

/* A plain value counts as one of the session's clinic. */
static void
read_argument(FunctionCallInfo fcinfo, PhiFunction *function, int n, bool whole, PhiItem *item)
{
	const PhiOrder *order = function->order;
	PhiOperand	operand;

	if (function->arg[n] != NULL)
	{
		phi_read_item(order, PG_GETARG_DATUM(n), whole, item);
		return;
	}
	phi_read_operand(fcinfo, function, n, &operand);
	memset(item, 0, sizeof(PhiItem));
	item->clinic_id = operand.clinic_id;
	item->class = -1;
	item->comparable = true;
	item->value = phi_plain_value(fcinfo, function, &operand);
	if (order->equality)
		item->prf = phi_search_plain(order->type, item->clinic_id, item->value);
}

static bool
may_compare(const PhiItem *a, const PhiItem *b)
{
	return a->class == b->class || (a->comparable && b->comparable);
}

/*
 * Nobody has a value that he may not read sorted beside his guesses, but where
 * it stays beside what it was beside before.
 */
static void
check_right(const PhiOrder *order, const PhiItem *a, const PhiItem *b)
{
	const PhiItem *forbidden = a->comparable ? b : a;

	if (!may_compare(a, b) && !(order->in_index && phi_only_carries()))
		phi_report_access(forbidden->access, forbidden->class);
}

static int
compare_hidden(const PhiItem *a, const PhiItem *b)
{
	if (a->hidden != b->hidden)
		return a->hidden ? 1 : -1;
	if (!a->comparable && a->class != b->class)
		return a->class < b->class ? -1 : 1;
	return compare_numbers(a->prf, b->prf);
}

static int
compare_values(PhiOrder *order, const PhiItem *a, const PhiItem *b)
{
	int			result = order->base.comparator(a->value, b->value, &order->base);

	/* Some collations call different texts equal; "=" does not. */
	if (result == 0 && order->type->base == TEXTOID)
		result = DatumGetInt32(DirectFunctionCall2Coll(bttextcmp, C_COLLATION_OID,
													   a->value, b->value));
	return result;
}

int
phi_compare_items(PhiOrder *order, const PhiItem *a, const PhiItem *b, bool *known)
{
	int			result = 0;

	*known = true;
	if (a->clinic_id != b->clinic_id)
		return a->clinic_id < b->clinic_id ? -1 : 1;
	if (a->hidden || b->hidden)
		return compare_hidden(a, b);
	if (order->equality)
	{
		check_right(order, a, b);
		result = compare_numbers(a->prf, b->prf);
	}
	if (result != 0)
		return result;
	*known = !a->cut && !b->cut;
	if (*known)
		result = compare_values(order, a, b);
	/* As for "=", values that may not be compared are not equal. */
	if (*known && result == 0 && order->equality && !may_compare(a, b))
		result = a->class < b->class ? -1 : 1;
	return result;
}

static int
compare_arguments(FunctionCallInfo fcinfo, bool equality)
{
	PhiFunction *function = phi_function(fcinfo);
	PhiOrder   *order = function->order;
	MemoryContext old;
	PhiItem		a;
	PhiItem		b;
	int			result;
	bool		known;

	if (order == NULL)
	{
		order = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(PhiOrder));
		phi_init_order(order, function->type, equality, PG_GET_COLLATION(),
					fcinfo->flinfo->fn_mcxt);
		order->in_index = function->in_index;
		function->order = order;
	}
	order->by_plaintext = equality || phi_allow_ordered_index;
	old = phi_enter_scratch();
	read_argument(fcinfo, function, 0, !equality, &a);
	read_argument(fcinfo, function, 1, !equality, &b);
	result = phi_compare_items(order, &a, &b, &known);
	if (!known)
	{
		read_argument(fcinfo, function, 0, true, &a);
		read_argument(fcinfo, function, 1, true, &b);
		result = phi_compare_items(order, &a, &b, &known);
	}
	phi_leave_scratch(old);
	return result;
}

void
phi_refuse_ordered_index(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("ordered indexes on encrypted columns are not allowed"),
			 errdetail("Such an index tells the order of all values to whoever reads it."),
			 errhint("Use CREATE INDEX ... USING hash, or a btree with an operator class such as enctext_equality_ops; or, as superuser, SET phi.allow_ordered_index = on.")));
}

/*
 * Where ordered indexes are allowed all sessions must sort alike; so where they
 * are not, one that was allowed before cannot be rebuilt.
 */
void
phi_check_rebuild(void)
{
	if (!phi_allow_ordered_index && phi_in_rebuild())
		phi_refuse_ordered_index();
}

/* Support function 1 of the default class; ERROR 0A000 for an index, unless allowed. */
Datum
phi_enc_cmp(PG_FUNCTION_ARGS)
{
	phi_check_rebuild();
	PG_RETURN_INT32(compare_arguments(fcinfo, false));
}

/*
 * Support function 1 of the equality class.  ERROR 42501 for values of two
 * classes of a clinic that the session may not compare, unless it only carries
 * them along.
 */
Datum
phi_enc_equality_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare_arguments(fcinfo, true));
}

/*
 * Support function 4 of the default class, which the server calls when it
 * builds an index of one column: refuses it before there are values.  ERROR
 * 0A000 unless allowed.  The answer is no: equal values have different envelopes.
 */
Datum
phi_enc_equalimage(PG_FUNCTION_ARGS)
{
	if (!phi_allow_ordered_index)
		phi_refuse_ordered_index();
	PG_RETURN_BOOL(false);
}
