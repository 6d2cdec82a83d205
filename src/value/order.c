/*
 * order.c
 *		Sorting, and the two kinds of btree index.
 *
 * The default class sorts by plaintext, and what the session may not read
 * behind the rest, by a keyed PRF.  An index of this class, where allowed, goes
 * by clinic and plaintext for all sessions.
 *
 * The equality class goes by clinic, then by the keyed PRF, then, for the few
 * that share one, by plaintext, for all sessions alike.  Here the PRF depends
 * on the class too: else one could see which of one's guesses, of a class that
 * one holds, has the rank of a value that one may not read.  For the same
 * reason it is for indexes alone: its family has no "<", and the planner is told
 * that such an index has no order (phi_hide_index_order).  And its columns
 * declare their class, so that all values of an index are of one.
 *
 * Values of a destroyed key have a place of their own, so that those of other
 * clinics in the same index go on being found.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
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

/* What hides the rank of a value among those of other classes. */
static uint64
hidden_prf(const PhiOrder *order, const PhiItem *item, const PhiEnvelope *envelope)
{
	uint64		prf = phi_search_cached(order->type, envelope);

	return item->comparable ? prf : phi_search_of_class(item->clinic_id, prf, item->class);
}

void
phi_read_item(const PhiOrder *order, Datum datum, bool whole, PhiItem *item)
{
	PhiOperand	operand;
	PhiKey	   *key;

	phi_read_encrypted(order->type, datum, &operand);
	key = phi_envelope_key(&operand.envelope);
	memset(item, 0, sizeof(PhiItem));
	item->clinic_id = operand.clinic_id;
	item->class = operand.class;
	item->comparable = phi_may_compare_any(operand.access);
	item->dead = key->state == PHI_KEY_DESTROYED;
	item->hidden = !order->by_plaintext && operand.access != PHI_READABLE;
	memcpy(item->mark, operand.envelope.nonce.ptr, PHI_MARK_BYTES);
	item->cut = !whole && !item->hidden;
	if (item->dead)
		return;
	if (item->hidden)
		item->prf = hidden_prf(order, item, &operand.envelope);
	else if (!whole)
		item->prf = phi_search_cached(order->type, &operand.envelope);
	else
	{
		item->value = phi_open_datum(order->type, &operand.envelope, key);
		if (order->equality)
			item->prf = phi_search_plain(order->type, item->clinic_id, item->value);
	}
}

/* A plain value counts as one of the session's clinic; two need no clinic. */
static void
read_argument(FunctionCallInfo fcinfo, const PhiOrder *order, int n, bool whole, PhiItem *item)
{
	PhiFunction *function = phi_function(fcinfo);
	PhiOperand	operand;

	if (function->arg[n] != NULL)
	{
		phi_read_item(order, PG_GETARG_DATUM(n), whole, item);
		return;
	}
	memset(item, 0, sizeof(PhiItem));
	item->class = -1;
	item->comparable = true;
	item->value = phi_convert(fcinfo, function, PG_GETARG_DATUM(n), function->plain,
							  order->type->base);
	if (function->arg[1 - n] == NULL)
		return;
	phi_read_operand(fcinfo, function, n, &operand);
	item->clinic_id = operand.clinic_id;
	if (order->equality)
		item->prf = phi_search_plain(order->type, item->clinic_id, item->value);
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
compare_dead(const PhiItem *a, const PhiItem *b)
{
	if (a->dead != b->dead)
		return a->dead ? 1 : -1;
	return memcmp(a->mark, b->mark, PHI_MARK_BYTES);
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

/*
 * By the PRF of the class of a: the server gives what lies in the index first.
 * Values of two classes that may not be compared are not equal, as for "=".
 */
static int
compare_searches(const PhiItem *a, const PhiItem *b)
{
	int			class = a->class >= 0 ? a->class : b->class;

	if (a->class != b->class && !(a->comparable && b->comparable))
		return a->class < b->class ? -1 : 1;
	if (class < 0)
		return 0;
	return compare_numbers(phi_search_of_class(a->clinic_id, a->prf, class),
						   phi_search_of_class(b->clinic_id, b->prf, class));
}

int
phi_compare_items(PhiOrder *order, const PhiItem *a, const PhiItem *b, bool *known)
{
	int			result = 0;

	*known = true;
	if (a->clinic_id != b->clinic_id)
		return a->clinic_id < b->clinic_id ? -1 : 1;
	if (a->dead || b->dead)
		return compare_dead(a, b);
	if (a->hidden || b->hidden)
		return compare_hidden(a, b);
	if (order->equality)
		result = compare_searches(a, b);
	if (result != 0)
		return result;
	*known = !a->cut && !b->cut;
	return *known ? compare_values(order, a, b) : 0;
}

/* One for each type, class and collation, for the life of the process: they are few. */
static PhiOrder *
order_for(const PhiType *type, bool equality, Oid collation)
{
	static PhiOrder *orders = NULL;
	PhiOrder   *order;

	if (equality)
		collation = C_COLLATION_OID;
	for (order = orders; order != NULL; order = order->next)
	{
		if (order->type == type && order->equality == equality &&
			order->base.ssup_collation == collation)
			return order;
	}
	order = MemoryContextAlloc(TopMemoryContext, sizeof(PhiOrder));
	phi_init_order(order, type, equality, collation, TopMemoryContext);
	order->next = orders;
	return orders = order;
}

static int
compare_arguments(FunctionCallInfo fcinfo, bool equality)
{
	PhiOrder   *order = order_for(phi_function(fcinfo)->type, equality, PG_GET_COLLATION());
	MemoryContext old = phi_enter_scratch();
	PhiItem		a;
	PhiItem		b;
	int			result;
	bool		known;

	order->by_plaintext = equality || phi_allow_ordered_index;
	read_argument(fcinfo, order, 0, !equality, &a);
	read_argument(fcinfo, order, 1, !equality, &b);
	result = phi_compare_items(order, &a, &b, &known);
	if (!known)
	{
		read_argument(fcinfo, order, 0, true, &a);
		read_argument(fcinfo, order, 1, true, &b);
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
 * Support function 1 of the equality class.
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
