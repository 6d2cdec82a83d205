/*
 * io.c
 *		Input and output of the encrypted types, as text and binary.
 *
 * What begins with "phi1:" is an envelope, in either form; all else is a
 * plaintext of the base type, which only a session with a clinic takes and
 * gives.  Binary input is held to what text input would refuse.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "compat.h"
#include "value/guard.h"
#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_enc_in);
PG_FUNCTION_INFO_V1(phi_enc_out);
PG_FUNCTION_INFO_V1(phi_enc_recv);
PG_FUNCTION_INFO_V1(phi_enc_send);
PG_FUNCTION_INFO_V1(phi_enc_to_json);
PG_FUNCTION_INFO_V1(phi_enc_typmod_in);
PG_FUNCTION_INFO_V1(phi_enc_typmod_out);

/*
 * Messages of the base types' functions quote the value, and the server logs
 * them: keep the SQLSTATE and drop the rest.  Errors of other classes, such as
 * a cancelled query, do not quote.  For use in PG_CATCH.
 */
static void
rethrow_without_value(const PhiType *type, MemoryContext context)
{
	int			code = geterrcode();

	if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	FlushErrorState();
	ereport(ERROR,
			(errcode(code),
			 errmsg("invalid input for type %s", type->name),
			 errdetail("The value is not shown: it may be patient data."),
			 errhint("The value must be valid for type %s.", format_type_be(type->base))));
}

/* From text, or from "buf" in the binary form if that is not NULL. */
static Datum
plain_value(const PhiType *type, char *text, StringInfo buf)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Datum value = (Datum) 0;

	PG_TRY();
	{
		if (buf != NULL)
			value = ReceiveFunctionCall(unconstify(FmgrInfo *, &type->recv), buf,
										type->ioparam, -1);
		else
			value = InputFunctionCall(unconstify(FmgrInfo *, &type->in), text,
									  type->ioparam, -1);
	}
	PG_CATCH();
	{
		rethrow_without_value(type, context);
	}
	PG_END_TRY();
	return value;
}

/* A value without a type modifier is general until it reaches its column. */
static int
class_of(int32 typmod)
{
	return typmod < 0 ? PHI_CLASS_GENERAL : typmod;
}

static Datum
text_in(const PhiType *type, char *text, int32 typmod)
{
	PhiSpan		span = {(uint8 *) text, strlen(text)};

	if (phi_is_envelope_text(span))
		return phi_accept_text(type, span, typmod);
	phi_require_session("encrypt a value");
	phi_literal_made();
	if (type->base == TEXTOID)
		return phi_seal_payload(type, span, class_of(typmod));
	return phi_seal_datum(type, plain_value(type, text, NULL), class_of(typmod));
}

/*
 * enctextin(cstring, oid, integer) and so on
 *
 * Errors in COPY come without their context, which quotes the column's text.
 */
Datum
phi_enc_in(PG_FUNCTION_ARGS)
{
	const PhiType *type = phi_function(fcinfo)->type;
	ErrorContextCallback *context = error_context_stack;
	Datum		value;

	if (phi_in_copy())
		error_context_stack = NULL;
	value = text_in(type, PG_GETARG_CSTRING(0), PG_GETARG_INT32(2));
	error_context_stack = context;
	PG_RETURN_DATUM(value);
}

static Datum
binary_in(const PhiType *type, StringInfo buf, int32 typmod)
{
	PhiSpan		span = {(uint8 *) buf->data + buf->cursor, buf->len - buf->cursor};

	/* A number can begin so, but no envelope is that short. */
	if (phi_is_envelope_text(span) &&
		(type->kind != PHI_PAYLOAD_INTEGER || span.len > sizeof(int64)))
	{
		buf->cursor = buf->len;
		return phi_accept_text(type, span, typmod);
	}
	phi_require_session("encrypt a value");
	return phi_seal_datum(type, plain_value(type, NULL, buf), class_of(typmod));
}

/* enctextrecv(internal, oid, integer) and so on */
Datum
phi_enc_recv(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *context = error_context_stack;
	Datum		value;

	if (phi_in_copy())
		error_context_stack = NULL;
	value = binary_in(phi_function(fcinfo)->type, (StringInfo) PG_GETARG_POINTER(0),
					  PG_GETARG_INT32(2));
	error_context_stack = context;
	PG_RETURN_DATUM(value);
}

/*
 * The key of a value that the session may read; NULL when the envelope itself
 * is to be shown.
 */
static PhiKey *
readable_key(const PhiType *type, Datum datum, PhiEnvelope *envelope)
{
	const PhiSession *session = phi_session();
	PhiKey	   *key;

	/* Not even parsed: a dump must hold what is stored. */
	if (session == NULL)
		return NULL;
	phi_parse_datum(type, datum, envelope);
	key = phi_envelope_key(envelope);
	return phi_access(session, key) == PHI_READABLE ? key : NULL;
}

/* enctextout(enctext) and so on */
Datum
phi_enc_out(PG_FUNCTION_ARGS)
{
	Datum		datum = PointerGetDatum(PG_GETARG_VARLENA_PP(0));
	const PhiType *type = phi_function(fcinfo)->type;
	PhiEnvelope envelope;
	PhiKey	   *key = readable_key(type, datum, &envelope);
	PhiOpened	opened;
	char	   *text;
	Size		len;

	if (key == NULL)
		PG_RETURN_CSTRING(phi_envelope_text((struct varlena *) DatumGetPointer(datum), &len));
	if (type->base != TEXTOID)
		PG_RETURN_CSTRING(OutputFunctionCall(unconstify(FmgrInfo *, &type->out),
											 phi_open_datum(type, &envelope, key)));
	phi_open_envelope(&envelope, key, &opened);
	text = palloc(opened.payload.len + 1);
	memcpy(text, opened.payload.ptr, opened.payload.len);
	text[opened.payload.len] = '\0';
	phi_close(&opened);
	PG_RETURN_CSTRING(text);
}

/* enctextsend(enctext) and so on */
Datum
phi_enc_send(PG_FUNCTION_ARGS)
{
	Datum		datum = PointerGetDatum(PG_GETARG_VARLENA_PP(0));
	const PhiType *type = phi_function(fcinfo)->type;
	PhiEnvelope envelope;
	PhiKey	   *key = readable_key(type, datum, &envelope);
	char	   *text;
	Size		len;

	if (key != NULL)
		PG_RETURN_BYTEA_P(SendFunctionCall(unconstify(FmgrInfo *, &type->send),
										   phi_open_datum(type, &envelope, key)));
	text = phi_envelope_text((struct varlena *) DatumGetPointer(datum), &len);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text, len));
}

/* As the server writes values of the base type. */
static void
append_json(StringInfo json, const PhiType *type, Datum value)
{
	char		buf[MAXDATELEN + 1];
	char	   *text;

	switch (type->base)
	{
		case BOOLOID:
			appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
			break;
		case DATEOID:
		case TIMESTAMPTZOID:
			appendStringInfo(json, "\"%s\"", JsonEncodeDateTime(buf, value, type->base, NULL));
			break;
		default:
			text = OutputFunctionCall(unconstify(FmgrInfo *, &type->out), value);
			if (IsValidJsonNumber(text, strlen(text)))
				appendStringInfoString(json, text);
			else
				escape_json(json, text);	/* NaN, infinity */
			break;
	}
}

/*
 * json(encbigint) and so on, for types that JSON does not print as their output
 * function does: to_json() and the like look for such a cast.
 */
Datum
phi_enc_to_json(PG_FUNCTION_ARGS)
{
	Datum		datum = PointerGetDatum(PG_GETARG_VARLENA_PP(0));
	const PhiType *type = phi_function(fcinfo)->type;
	PhiEnvelope envelope;
	PhiKey	   *key = readable_key(type, datum, &envelope);
	StringInfoData json;
	Size		len;

	initStringInfo(&json);
	if (key != NULL)
		append_json(&json, type, phi_open_datum(type, &envelope, key));
	else
		escape_json(&json, phi_envelope_text((struct varlena *) DatumGetPointer(datum), &len));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(json.data, json.len));
}

/* enctexttypmodin(cstring[]) and so on: the number of the class */
Datum
phi_enc_typmod_in(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *labels;
	int			n;

	deconstruct_array(array, CSTRINGOID, -2, false, TYPALIGN_CHAR, &labels, NULL, &n);
	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an encrypted type takes one data class"),
				 errhint("Write the type as in enctext(identity).")));
	PG_RETURN_INT32(phi_class_by_label(DatumGetCString(labels[0])));
}

/* enctexttypmodout(integer) and so on */
Datum
phi_enc_typmod_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(psprintf("(%s)", phi_class_label(PG_GETARG_INT32(0))));
}
