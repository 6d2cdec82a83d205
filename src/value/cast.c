/*
 * cast.c
 *		Casts between the encrypted types and their base types, and the
 *		functions phi.encrypt, phi.decrypt and phi.describe.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "guc.h"
#include "session/grants.h"
#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_enc_to_base);
PG_FUNCTION_INFO_V1(phi_base_to_enc);
PG_FUNCTION_INFO_V1(phi_enc_to_enc);
PG_FUNCTION_INFO_V1(phi_encrypt);
PG_FUNCTION_INFO_V1(phi_describe);

/*
 * text(enctext) and so on, phi.decrypt(enctext) and so on.  NULL for a value
 * of a class that the session does not hold, with phi.hidden_value = 'null'.
 */
Datum
phi_enc_to_base(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	const PhiType *type = function->type;
	const PhiSession *session = phi_session();
	PhiEnvelope envelope;
	PhiKey	   *key;
	PhiAccess	access;
	Datum		value;

	/* First, so that a sealed session gets one error whatever the value. */
	if (unlikely(session == NULL))
		phi_report_access(PHI_SEALED, 0);
	phi_parse_datum(type, PG_GETARG_DATUM(0), &envelope);
	key = phi_envelope_key(&envelope);
	access = phi_access(session, key);
	if (unlikely(access != PHI_READABLE))
	{
		if (access == PHI_CLASS_NOT_HELD && phi_hidden_value == PHI_HIDDEN_NULL)
			PG_RETURN_NULL();
		phi_report_access(access, key->class);
	}
	value = phi_open_datum(type, &envelope, key);
	PG_RETURN_DATUM(phi_convert(fcinfo, function, value, type->base, function->plain));
}

/* The argument as a value of the base type. */
static Datum
plain_argument(FunctionCallInfo fcinfo, PhiFunction *function)
{
	return phi_convert(fcinfo, function, PG_GETARG_DATUM(0), function->plain,
					   function->type->base);
}

/*
 * enctext(text, integer, boolean) and so on: encrypts for the column's class
 * at once.  As in input, text that looks like an envelope is one.
 */
Datum
phi_base_to_enc(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	const PhiType *type = function->type;
	int32		class = PG_GETARG_INT32(1);

	if (type->kind == PHI_PAYLOAD_BYTES)
	{
		void	   *owned;
		PhiSpan		text = phi_payload_from(type, plain_argument(fcinfo, function),
											NULL, &owned);
		Datum		value;

		value = phi_is_envelope_text(text) ? phi_accept_text(type, text, class) :
			phi_seal_payload(type, text, class < 0 ? PHI_CLASS_GENERAL : class);
		if (owned != NULL)
			pfree(owned);
		PG_RETURN_DATUM(value);
	}
	phi_require_session("encrypt a value");
	PG_RETURN_DATUM(phi_seal_datum(type, plain_argument(fcinfo, function),
								   class < 0 ? PHI_CLASS_GENERAL : class));
}

/* phi.encrypt(text, text) and so on: takes its argument literally */
Datum
phi_encrypt(PG_FUNCTION_ARGS)
{
	PhiFunction *function = phi_function(fcinfo);
	char	   *class = text_to_cstring(PG_GETARG_TEXT_PP(1));

	phi_require_session("encrypt a value");
	PG_RETURN_DATUM(phi_seal_datum(function->type, plain_argument(fcinfo, function),
								   phi_class_by_label(class)));
}

/* enctext(enctext, integer, boolean) and so on: moves to the column's class */
Datum
phi_enc_to_enc(PG_FUNCTION_ARGS)
{
	int32		class = PG_GETARG_INT32(1);

	if (class < 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_DATUM(phi_move_to_class(phi_function(fcinfo)->type,
									  PG_GETARG_DATUM(0), class));
}

/* Or else forged envelopes would list the clinics to anybody. */
static bool
may_describe(const PhiKey *key)
{
	const PhiSession *session = phi_session();

	return (session != NULL && session->clinic_id == key->clinic_id) ||
		superuser() || phi_is_keeper(GetUserId());
}

/*
 * phi.describe(enctext) and so on returns (key_id int, clinic text, class text,
 *		version int, suite text, type text, bytes int)
 *
 * From the header alone.  Clinic, class and version are NULL when the key is
 * not in phi.data_key, or of a clinic that is none of the user's business.
 */
Datum
phi_describe(PG_FUNCTION_ARGS)
{
	struct varlena *bytes = PG_GETARG_VARLENA_PP(0);
	const PhiType *type = phi_function(fcinfo)->type;
	TupleDesc	desc;
	Datum		values[7] = {0};
	bool		nulls[7] = {false};
	PhiEnvelope envelope;
	PhiKey	   *key;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	phi_parse_datum(type, PointerGetDatum(bytes), &envelope);
	key = phi_key_by_id(envelope.key_id);
	nulls[1] = nulls[2] = nulls[3] = true;
	if (key != NULL && may_describe(key))
	{
		char	   *code;

		values[2] = CStringGetTextDatum(phi_class_label(key->class));
		values[3] = Int32GetDatum(key->version);
		nulls[2] = nulls[3] = false;
		code = phi_clinic_code(key->clinic_id);
		if (code != NULL)
			values[1] = CStringGetTextDatum(code);
		nulls[1] = code == NULL;
	}
	values[0] = Int32GetDatum((int32) envelope.key_id);
	values[4] = CStringGetTextDatum(envelope.suite->name);
	values[5] = CStringGetTextDatum(format_type_be(type->base));
	values[6] = Int32GetDatum(VARSIZE_ANY_EXHDR(bytes));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
