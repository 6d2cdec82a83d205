/*
 * types.c
 *		The eight encrypted types: one row each, and what differs by type.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "value/types.h"
#include "value/value.h"

#define JSONB_VERSION 1			/* as in jsonb_send */

static PhiType types[] = {
	{.id = 1,.name = "enctext",.base = TEXTOID,.kind = PHI_PAYLOAD_BYTES,.bytewise = true},
	{.id = 2,.name = "encbytea",.base = BYTEAOID,.kind = PHI_PAYLOAD_BYTES,.bytewise = true},
	{.id = 3,.name = "encjsonb",.base = JSONBOID,.kind = PHI_PAYLOAD_JSONB},
	{.id = 4,.name = "encbigint",.base = INT8OID,.kind = PHI_PAYLOAD_INTEGER,.width = 8,.bytewise = true},
	{.id = 5,.name = "encnumeric",.base = NUMERICOID,.kind = PHI_PAYLOAD_NUMERIC},
	{.id = 6,.name = "encdate",.base = DATEOID,.kind = PHI_PAYLOAD_INTEGER,.width = 4,.bytewise = true},
	{.id = 7,.name = "enctimestamptz",.base = TIMESTAMPTZOID,.kind = PHI_PAYLOAD_INTEGER,.width = 8,.bytewise = true},
	{.id = 8,.name = "encboolean",.base = BOOLOID,.kind = PHI_PAYLOAD_INTEGER,.width = 1,.bytewise = true},
};

static bool loaded = false;

static uint64 loads = 0;

/* Functions that were called: plans look them up anew each time they run. */
typedef struct Known
{
	Oid			oid;
	uint64		load;			/* of the types, that "function" is of */
	PhiFunction function;
} Known;

static HTAB *known_functions = NULL;

/* The base types are built in, so what is looked up here never changes. */
static void
load_base(PhiType *type)
{
	Oid			function;
	bool		varlena;

	getTypeInputInfo(type->base, &function, &type->ioparam);
	fmgr_info_cxt(function, &type->in, TopMemoryContext);
	getTypeOutputInfo(type->base, &function, &varlena);
	fmgr_info_cxt(function, &type->out, TopMemoryContext);
	getTypeBinaryInputInfo(type->base, &function, &type->ioparam);
	fmgr_info_cxt(function, &type->recv, TopMemoryContext);
	getTypeBinaryOutputInfo(type->base, &function, &varlena);
	fmgr_info_cxt(function, &type->send, TopMemoryContext);
}

static void
load_types(void)
{
	for (int i = 0; i < (int) lengthof(types); i++)
	{
		PhiType    *type = &types[i];
		char		family[NAMEDATALEN];

		if (type->send.fn_oid == InvalidOid)
			load_base(type);
		type->oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									PointerGetDatum(type->name),
									ObjectIdGetDatum(PG_CATALOG_NAMESPACE));
		snprintf(family, sizeof(family), "%s_unique_ops", type->name);
		type->equality_family =
			GetSysCacheOid3(OPFAMILYAMNAMENSP, Anum_pg_opfamily_oid,
							ObjectIdGetDatum(BTREE_AM_OID), CStringGetDatum(family),
							ObjectIdGetDatum(PG_CATALOG_NAMESPACE));
	}
	loads++;
	loaded = true;
}

/* The extension may have been dropped and created again. */
static void
types_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	loaded = false;
}

void
phi_types_init(void)
{
	CacheRegisterSyscacheCallback(TYPEOID, types_changed, (Datum) 0);
}

const PhiType *
phi_type_by_oid(Oid oid)
{
	if (!loaded)
		load_types();
	for (int i = 0; i < (int) lengthof(types) && OidIsValid(oid); i++)
	{
		if (types[i].oid == oid)
			return &types[i];
	}
	return NULL;
}

const PhiType *
phi_type_within(Oid oid, int32 *typmod)
{
	Oid			element;

	/* For each column of every query: built-in types first. */
	if (oid < FirstNormalObjectId)
		return NULL;
	oid = getBaseTypeAndTypmod(oid, typmod);
	element = get_element_type(oid);
	if (OidIsValid(element))
		oid = getBaseTypeAndTypmod(element, typmod);
	return phi_type_by_oid(oid);
}

const PhiType *
phi_type_named_by(Oid function)
{
	const char *name = get_func_name(function);

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		if (strstr(name, types[i].name) != NULL)
			return &types[i];
	}
	return NULL;
}

static void
read_signature(Oid oid, PhiFunction *function)
{
	Oid		   *args;
	int			nargs;
	Oid			result = get_func_signature(oid, &args, &nargs);

	memset(function, 0, sizeof(PhiFunction));
	for (int i = 0; i < Min(nargs, 2); i++)
	{
		function->arg[i] = phi_type_by_oid(args[i]);
		if (function->arg[i] == NULL && function->plain == InvalidOid)
			function->plain = args[i];
	}
	function->result = phi_type_by_oid(result);
	if (nargs == 1 && function->arg[0] != NULL && function->result == NULL)
		function->plain = result;
	function->type = function->arg[0] ? function->arg[0] :
		function->arg[1] ? function->arg[1] : function->result;
	if (function->type == NULL)
		function->type = phi_type_named_by(oid);
	if (function->type == NULL)
		elog(ERROR, "function %u has no argument or result of an encrypted type", oid);
}

static PhiFunction *
resolve(Oid oid)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Known)};
	PhiFunction function;
	Known	   *known;
	bool		found;

	if (known_functions == NULL)
		known_functions = hash_create("pg_phi functions", 128, &control, HASH_ELEM | HASH_BLOBS);
	if (!loaded)
		load_types();
	known = hash_search(known_functions, &oid, HASH_FIND, NULL);
	if (known != NULL && known->load == loads)
		return &known->function;
	read_signature(oid, &function);
	known = hash_search(known_functions, &oid, HASH_ENTER, &found);
	known->function = function;
	known->load = loads;
	return &known->function;
}

/* What it gives stays for the life of the process, whatever the memory of the call. */
PhiFunction *
phi_function(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;

	if (unlikely(flinfo->fn_extra == NULL))
		flinfo->fn_extra = resolve(flinfo->fn_oid);
	return (PhiFunction *) flinfo->fn_extra;
}

/* The server keeps the support functions of an index in a context of its own. */
bool
phi_in_index(FunctionCallInfo fcinfo)
{
	return strcmp(fcinfo->flinfo->fn_mcxt->name, "index info") == 0;
}

static Datum
convert_via_text(Datum value, Oid from, Oid to)
{
	Oid			output;
	Oid			input;
	Oid			ioparam;
	bool		is_varlena;

	getTypeOutputInfo(from, &output, &is_varlena);
	getTypeInputInfo(to, &input, &ioparam);
	return OidInputFunctionCall(input, OidOutputFunctionCall(output, value), ioparam, -1);
}

/*
 * Casts a value of "from" to "to", two types that are not encrypted and of
 * which one is the function's base type.
 */
Datum
phi_convert(FunctionCallInfo fcinfo, PhiFunction *function, Datum value,
			Oid from, Oid to)
{
	if (from == to)
		return value;
	if (!function->conversion_known)
	{
		Oid			cast;

		function->path = find_coercion_pathway(to, from, COERCION_EXPLICIT, &cast);
		if (function->path == COERCION_PATH_FUNC)
			fmgr_info_cxt(cast, &function->convert, TopMemoryContext);
		function->conversion_known = true;
	}
	switch (function->path)
	{
		case COERCION_PATH_RELABELTYPE:
			return value;
		case COERCION_PATH_FUNC:
			return FunctionCall1(&function->convert, value);
		case COERCION_PATH_COERCEVIAIO:
			return convert_via_text(value, from, to);
		default:
			elog(ERROR, "no cast from type %u to type %u", from, to);
	}
}

static PhiSpan
integer_payload(int width, Datum value, uint8 *scratch)
{
	uint64		bytes = pg_hton64((uint64) (width == 8 ? DatumGetInt64(value) :
											width == 4 ? DatumGetInt32(value) :
											DatumGetBool(value)));

	memcpy(scratch, (uint8 *) &bytes + 8 - width, width);
	return (PhiSpan) {scratch, width};
}

/* Not jsonb_send: that converts to the client's encoding. */
static PhiSpan
jsonb_payload(Datum value)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, JSONB_VERSION);
	JsonbToCString(&text, &jsonb->root, VARSIZE(jsonb));
	return (PhiSpan) {(uint8 *) text.data, text.len};
}

PhiSpan
phi_payload_from(const PhiType *type, Datum value, uint8 scratch[8], void **owned)
{
	struct varlena *given = (struct varlena *) DatumGetPointer(value);
	struct varlena *bytes;
	PhiSpan		payload;

	*owned = NULL;
	switch (type->kind)
	{
		case PHI_PAYLOAD_INTEGER:
			return integer_payload(type->width, value, scratch);
		case PHI_PAYLOAD_JSONB:
			payload = jsonb_payload(value);
			*owned = unconstify(uint8 *, payload.ptr);
			return payload;
		case PHI_PAYLOAD_NUMERIC:
			value = DirectFunctionCall1(numeric_send, value);
			break;
		case PHI_PAYLOAD_BYTES:
			break;
	}
	bytes = PG_DETOAST_DATUM_PACKED(value);
	if (bytes != given)
		*owned = bytes;
	return (PhiSpan) {(uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};
}

static Datum
integer_value(int width, const uint8 *payload)
{
	uint64		bytes = 0;

	memcpy((uint8 *) &bytes + 8 - width, payload, width);
	bytes = pg_ntoh64(bytes);
	if (width == 8)
		return Int64GetDatum((int64) bytes);
	return width == 4 ? Int32GetDatum((int32) bytes) : BoolGetDatum(bytes != 0);
}

static Datum
numeric_value(PhiSpan payload)
{
	StringInfoData buf;

	/* Read only: numeric_recv does not write to its buffer. */
	buf.data = unconstify(char *, (const char *) payload.ptr);
	buf.len = buf.maxlen = payload.len;
	buf.cursor = 0;
	return DirectFunctionCall3(numeric_recv, PointerGetDatum(&buf),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

Datum
phi_payload_to(const PhiType *type, PhiSpan payload)
{
	switch (type->kind)
	{
		case PHI_PAYLOAD_BYTES:
			return PointerGetDatum(cstring_to_text_with_len((const char *) payload.ptr,
															payload.len));
		case PHI_PAYLOAD_NUMERIC:
			return numeric_value(payload);
		case PHI_PAYLOAD_INTEGER:
			if (payload.len == (size_t) type->width)
				return integer_value(type->width, payload.ptr);
			break;
		case PHI_PAYLOAD_JSONB:
			if (payload.len > 1 && payload.ptr[0] == JSONB_VERSION)
				return DirectFunctionCall1(jsonb_in,
										   CStringGetDatum(pnstrdup((const char *) payload.ptr + 1,
																	payload.len - 1)));
			break;
	}
	phi_report_envelope(PHI_MALFORMED);
	return (Datum) 0;
}
