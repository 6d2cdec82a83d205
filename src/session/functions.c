/*
 * functions.c
 *		SQL functions that tell what the session is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "keys/keys.h"
#include "session/session.h"

PG_FUNCTION_INFO_V1(phi_current_clinic);
PG_FUNCTION_INFO_V1(phi_session_info);
PG_FUNCTION_INFO_V1(phi_class_mask);
PG_FUNCTION_INFO_V1(phi_class_list);

/* phi.current_clinic() returns text; NULL in a sealed session */
Datum
phi_current_clinic(PG_FUNCTION_ARGS)
{
	const PhiSession *session = phi_session();

	if (session == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(session->code));
}

static Datum
labels_of(uint32 classes)
{
	Datum		labels[PHI_CLASSES];
	int			n = 0;

	for (int class = 0; class < PHI_CLASSES; class++)
	{
		if (classes & PHI_CLASS_BIT(class))
			labels[n++] = CStringGetTextDatum(phi_class_label(class));
	}
	return PointerGetDatum(construct_array(labels, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* phi.class_list(int) returns text[]: names of the classes of a bit mask */
Datum
phi_class_list(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(labels_of((uint32) PG_GETARG_INT32(0)));
}

/*
 * phi.class_mask(text[]) returns int: the bit mask of a list of classes.
 * ERROR 22023 for a class that does not exist, 22004 for a null in the list.
 */
Datum
phi_class_mask(PG_FUNCTION_ARGS)
{
	Datum	   *labels;
	bool	   *nulls;
	int			n;
	uint32		classes = PHI_CLASS_BIT(PHI_CLASS_GENERAL);

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &labels, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a list of data classes must not contain nulls")));
		classes |= PHI_CLASS_BIT(phi_class_by_label(TextDatumGetCString(labels[i])));
	}
	PG_RETURN_INT32((int32) classes);
}

/*
 * How phi.clinic got its value.  Signed sessions will add one, with a person
 * and an expiry.
 */
static const char *
opened_by(GucSource source)
{
	switch (source)
	{
		case PGC_S_DATABASE:
		case PGC_S_USER:
		case PGC_S_DATABASE_USER:
		case PGC_S_GLOBAL:
			return "role setting";
		case PGC_S_CLIENT:
			return "connection";
		default:
			return "set";
	}
}

/*
 * phi.session() returns (clinic text, classes text[], session_user name,
 *		person text, opened_by text, expires timestamptz)
 */
Datum
phi_session_info(PG_FUNCTION_ARGS)
{
	const PhiSession *session = phi_session();
	TupleDesc	desc;
	Datum		values[6] = {0};
	bool		nulls[6] = {true, true, false, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[2] = DirectFunctionCall1(namein,
									CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false)));
	if (session != NULL)
	{
		values[0] = CStringGetTextDatum(session->code);
		values[1] = labels_of(session->classes);
		values[4] = CStringGetTextDatum(opened_by(session->source));
		nulls[0] = nulls[1] = nulls[4] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
