/*
 * digest.c
 *		Digests of rows: what the audit log tells of their content.
 *
 * A digest is the keyed hash (phi_digest) of all columns of the row but dropped
 * ones, in the order of the table; of a partition's row, of its root's table.
 * Each column is an item:
 *
 *		int32	length of the name in bytes
 *				the name, in UTF-8
 *		uint8	kind
 *		int32	length of the content in bytes
 *				the content
 *
 * All integers are big-endian.  Kinds and their content:
 *
 *		0	NULL: nothing
 *		1	encrypted column: the payload of its envelope (docs/format.md), which
 *			stays the same under another key
 *		2	encrypted column that cannot be opened: the envelope as stored
 *		3	another column: the binary form of its type (as in COPY BINARY, text
 *			in UTF-8), or its text where the type has no binary form
 *
 * An array is of kind 1 when its elements are encrypted, else of kind 3:
 *
 *		int32	number of dimensions, then for each
 *		int32	its size
 *		int32	its lower bound
 *				the elements in their order, each as kind, length, content
 *
 * So what is equal in plaintext has the same digest under the same key, whatever
 * encrypts it.  Kinds 1 and 3 differ so that nobody tries his guesses at
 * an encrypted value with a plain one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "audit/digest.h"
#include "audit/log.h"
#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

enum
{
	KIND_NULL = 0,
	KIND_PAYLOAD = 1,
	KIND_STORED = 2,
	KIND_PLAIN = 3
};

/* How the content of a value is made. */
typedef enum Form
{
	FORM_ENVELOPE,				/* of an encrypted type */
	FORM_STORED,				/* holds envelopes, but is no array of them */
	FORM_INTEGER,				/* passed by value, sent big-endian */
	FORM_BYTES,					/* what follows the length word */
	FORM_SEND,
	FORM_TEXT
} Form;

typedef struct Column
{
	AttrNumber	attnum;
	bool		is_array;		/* then the rest is about its elements */
	Form		form;
	const PhiType *type;		/* FORM_ENVELOPE */
	Oid			element;
	int16		typlen;			/* of the column, then of its elements */
	bool		typbyval;
	int16		element_len;
	bool		element_byval;
	char		element_align;
	FmgrInfo	function;		/* FORM_SEND, FORM_TEXT */
	char	   *name;
	Size		name_len;
} Column;

struct PhiDigester
{
	int			n;
	bool		sends;			/* some column has a function that sends text */
	Column		columns[FLEXIBLE_ARRAY_MEMBER];
};

/* The send function of a type; InvalidOid when it has none. */
static Oid
send_function(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			function;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	function = ((Form_pg_type) GETSTRUCT(tuple))->typsend;
	ReleaseSysCache(tuple);
	return function;
}

static void
choose_form(Column *column, Oid type)
{
	Oid			function = send_function(type);
	bool		is_varlena;

	column->type = phi_type_by_oid(type);
	if (column->type != NULL)
		column->form = FORM_ENVELOPE;
	else if (phi_contains_encrypted(type))
		column->form = FORM_STORED;
	else if (type == INT2OID || type == INT4OID || type == INT8OID || type == OIDOID ||
			 type == BOOLOID || type == DATEOID || type == TIMEOID || type == TIMESTAMPOID ||
			 type == TIMESTAMPTZOID)
		column->form = FORM_INTEGER;
	else if (type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == BYTEAOID ||
			 type == JSONOID)
		column->form = FORM_BYTES;
	else if (OidIsValid(function))
		column->form = FORM_SEND;
	else
	{
		getTypeOutputInfo(type, &function, &is_varlena);
		column->form = FORM_TEXT;
	}
	if (column->form == FORM_SEND || column->form == FORM_TEXT)
		fmgr_info(function, &column->function);
}

static void
describe_column(Column *column, Form_pg_attribute attribute)
{
	Oid			type = getBaseType(attribute->atttypid);
	Oid			element = get_element_type(type);

	column->attnum = attribute->attnum;
	column->name = pstrdup(NameStr(attribute->attname));
	column->name_len = strlen(column->name);
	column->typlen = attribute->attlen;
	column->typbyval = attribute->attbyval;
	column->is_array = OidIsValid(element);
	if (column->is_array)
	{
		column->element = element;
		get_typlenbyvalalign(element, &column->element_len, &column->element_byval,
							 &column->element_align);
		type = getBaseType(element);
	}
	else
	{
		column->element_len = column->typlen;
		column->element_byval = column->typbyval;
	}
	choose_form(column, type);
}

static Form_pg_attribute
column_by_name(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return TupleDescAttr(desc, i);
	}
	elog(ERROR, "column \"%s\" of a partition is missing", name);
}

PhiDigester *
phi_digester(TupleDesc desc, TupleDesc order)
{
	PhiDigester *digester = palloc0(offsetof(PhiDigester, columns) +
									order->natts * sizeof(Column));

	for (int i = 0; i < order->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(order, i);
		Column	   *column = &digester->columns[digester->n];

		if (attribute->attisdropped)
			continue;
		if (desc != order)
			attribute = column_by_name(desc, NameStr(attribute->attname));
		describe_column(column, attribute);
		digester->sends |= column->form == FORM_SEND;
		digester->n++;
	}
	return digester;
}

int
phi_digester_columns(const PhiDigester *digester)
{
	return digester->n;
}

AttrNumber
phi_digester_attnum(const PhiDigester *digester, int i)
{
	return digester->columns[i].attnum;
}

const char *
phi_digester_name(const PhiDigester *digester, int i)
{
	return digester->columns[i].name;
}

static bool
holds_envelopes(const Column *column)
{
	return column->form == FORM_ENVELOPE || column->form == FORM_STORED;
}

bool
phi_digester_is_encrypted(const PhiDigester *digester, int i)
{
	return holds_envelopes(&digester->columns[i]);
}

/* Decrypts to where the payload belongs; false: it can't be opened. */
static bool
put_payload(PhiRowBytes *out, const PhiType *type, PhiSpan stored)
{
	PhiEnvelope envelope;
	PhiPayload	payload;
	PhiKey	   *key;
	uint8	   *body;
	Size		len;

	if (phi_envelope_parse(stored.ptr, stored.len, &envelope) != PHI_OK ||
		envelope.type != type->id)
		return false;
	key = phi_key_by_id(envelope.key_id);
	if (key == NULL || key->state == PHI_KEY_DESTROYED || !phi_key_available(key))
		return false;
	body = phi_row_reserve(out, envelope.body.len);
	if (phi_envelope_open(&envelope, phi_key_secret(key), body, &payload) != PHI_OK)
		return false;
	len = payload.data.len;
	if (payload.expanded == 0)
		memmove(body, payload.data.ptr, len);
	else
	{
		Size		at = payload.data.ptr - body;

		/* Behind the body, which may move. */
		out->len += envelope.body.len;
		phi_row_reserve(out, payload.expanded);
		out->len -= envelope.body.len;
		body = out->data + out->len;
		payload.data.ptr = body + at;
		len = payload.expanded;
		if (phi_payload_expand(&payload, body + envelope.body.len) != PHI_OK)
			return false;
		memmove(body, body + envelope.body.len, len);
	}
	out->len += len;
	return true;
}

static PhiSpan
bytes_of(Datum value, int16 typlen)
{
	struct varlena *bytes;

	if (typlen != -1)
		return (PhiSpan) {(uint8 *) DatumGetPointer(value), datumGetSize(value, false, typlen)};
	bytes = PG_DETOAST_DATUM_PACKED(value);
	return (PhiSpan) {(uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};
}

static void
put_integer(PhiRowBytes *out, Datum value, int16 typlen)
{
	uint64		bytes = pg_hton64((uint64) value);

	phi_row_put(out, (uint8 *) &bytes + sizeof(bytes) - typlen, typlen);
}

/* The content; returns its kind. */
static uint8
put_content(PhiRowBytes *out, Column *column, Datum value)
{
	PhiSpan		span;
	char	   *text;

	switch (column->form)
	{
		case FORM_INTEGER:
			put_integer(out, value, column->element_len);
			return KIND_PLAIN;
		case FORM_ENVELOPE:
			span = bytes_of(value, -1);
			if (put_payload(out, column->type, span))
				return KIND_PAYLOAD;
			phi_row_put(out, span.ptr, span.len);
			return KIND_STORED;
		case FORM_STORED:
			span = bytes_of(value, column->element_len);
			phi_row_put(out, span.ptr, span.len);
			return KIND_STORED;
		case FORM_BYTES:
			span = bytes_of(value, -1);
			phi_row_put(out, span.ptr, span.len);
			return KIND_PLAIN;
		case FORM_SEND:
			span = bytes_of(PointerGetDatum(SendFunctionCall(&column->function, value)), -1);
			phi_row_put(out, span.ptr, span.len);
			return KIND_PLAIN;
		case FORM_TEXT:
			text = OutputFunctionCall(&column->function, value);
			phi_row_put(out, text, strlen(text));
			return KIND_PLAIN;
	}
	pg_unreachable();
}

/* Kind, length and content: a whole value, or an element. */
static void
put_value(PhiRowBytes *out, Column *column, Datum value, bool isnull,
		  uint8 (*put) (PhiRowBytes *, Column *, Datum))
{
	Size		at = out->len;
	uint32		len;

	phi_row_reserve(out, 1 + sizeof(len));
	out->len += 1 + sizeof(len);
	out->data[at] = KIND_NULL;
	if (!isnull)
	{
		uint8		kind = put(out, column, value);

		out->data[at] = kind;
	}
	len = pg_hton32((uint32) (out->len - at - 1 - sizeof(len)));
	memcpy(out->data + at + 1, &len, sizeof(len));
}

static uint8
put_array(PhiRowBytes *out, Column *column, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	phi_row_put_int32(out, ARR_NDIM(array));
	for (int i = 0; i < ARR_NDIM(array); i++)
	{
		phi_row_put_int32(out, ARR_DIMS(array)[i]);
		phi_row_put_int32(out, ARR_LBOUND(array)[i]);
	}
	deconstruct_array(array, column->element, column->element_len, column->element_byval,
					  column->element_align, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		put_value(out, column, elements[i], nulls[i], put_content);
	return holds_envelopes(column) ? KIND_PAYLOAD : KIND_PLAIN;
}

static void
put_item(PhiRowBytes *out, Column *column, Datum value, bool isnull)
{
	phi_row_put_int32(out, column->name_len);
	phi_row_put(out, column->name, column->name_len);
	put_value(out, column, value, isnull, column->is_array ? put_array : put_content);
}

/* What a row's form is made of. */
typedef struct Source
{
	const PhiRowBytes *old_row; /* NULL: there is none */
	const Datum *old_values;
	const bool *old_nulls;
	const Datum *values;
	const bool *nulls;
	bool	   *changed;
} Source;

/* Bytewise, and without following pointers to what lies out of line. */
static bool
is_same_image(const Column *column, Datum one, Datum other)
{
	if (column->typbyval)
		return one == other;
	return datumIsEqual(one, other, column->typbyval, column->typlen);
}

/* Whether what is not bytewise equal differs; envelopes by their plaintext. */
static bool
is_changed(const Column *column, const Source *source, const PhiRowBytes *out, int i)
{
	int			at = column->attnum - 1;
	PhiSpan		one = phi_row_item(source->old_row, i);
	PhiSpan		other = phi_row_item(out, i);

	if (source->old_nulls[at] != source->nulls[at])
		return true;
	if (holds_envelopes(column))
		return one.len != other.len || memcmp(one.ptr, other.ptr, one.len) != 0;
	return !datum_image_eq(source->old_values[at], source->values[at], column->typbyval,
						   column->typlen);
}

static void
put_row(PhiDigester *digester, const Source *source, PhiRowBytes *out)
{
	phi_row_begin(out, digester->n);
	for (int i = 0; i < digester->n; i++)
	{
		Column	   *column = &digester->columns[i];
		int			at = column->attnum - 1;

		out->begins[i] = out->len;
		if (source->old_row != NULL && source->nulls[at] == source->old_nulls[at] &&
			(source->nulls[at] ||
			 is_same_image(column, source->old_values[at], source->values[at])))
		{
			PhiSpan		item = phi_row_item(source->old_row, i);

			phi_row_put(out, item.ptr, item.len);
			source->changed[i] = false;
			continue;
		}
		put_item(out, column, source->values[at], source->nulls[at]);
		out->begins[i + 1] = out->len;
		if (source->old_row != NULL)
			source->changed[i] = is_changed(column, source, out, i);
	}
	out->begins[digester->n] = out->len;
}

typedef struct Putting
{
	PhiDigester *digester;
	const Source *source;
	PhiRowBytes *out;
} Putting;

static void
put_one(void *argument)
{
	Putting    *putting = argument;

	put_row(putting->digester, putting->source, putting->out);
}

static void
put_row_in_utf8(PhiDigester *digester, const Source *source, PhiRowBytes *out)
{
	if (digester->sends)
		phi_run_in_utf8(put_one, &(Putting) {digester, source, out});
	else
		put_row(digester, source, out);
}

void
phi_digest_row(PhiDigester *digester, const Datum *values, const bool *nulls, PhiRowBytes *out)
{
	Source		source = {.values = values, .nulls = nulls};

	put_row_in_utf8(digester, &source, out);
}

void
phi_digest_new_row(PhiDigester *digester, const PhiRowBytes *old_row,
				   const Datum *old_values, const bool *old_nulls,
				   const Datum *values, const bool *nulls, PhiRowBytes *out, bool *changed)
{
	Source		source = {old_row, old_values, old_nulls, values, nulls, changed};

	put_row_in_utf8(digester, &source, out);
}
