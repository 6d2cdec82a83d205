/*
 * convert.c
 *		Rows of a table on their way to its shadow, whose columns are encrypted,
 *		or not any more.
 *
 * What is to be done with a column follows from its types on both sides.  No
 * code of the table's owner has a part in it: types are built in or our own,
 * domains count as what they are made of.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "protect/convert.h"
#include "session/grants.h"

#define CODE_SIZE 260			/* bytes of a clinic's code, with the zero */

typedef struct Clinic
{
	char		code[CODE_SIZE];	/* hash key, must be first */
	int32		clinic_id;		/* 0: there is none */
} Clinic;

static void
refuse_columns(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the columns of table \"%s\" have changed", RelationGetRelationName(rel)),
			 errhint("Cancel the job with phi.cancel_protect(), and begin again.")));
}

static void
describe_change(PhiField *field, Form_pg_attribute from, Form_pg_attribute to)
{
	const PhiType *sealed = phi_type_by_oid(to->atttypid);
	const PhiType *opened = phi_type_by_oid(from->atttypid);

	if (sealed != NULL && opened == NULL)
	{
		field->change = PHI_SEAL;
		field->type = sealed;
		field->class = Max(to->atttypmod, PHI_CLASS_GENERAL);
		field->plain = getBaseType(from->atttypid);
	}
	else if (opened != NULL && sealed == NULL)
	{
		field->change = PHI_OPEN;
		field->type = opened;
		field->plain = getBaseType(to->atttypid);
	}
	if (field->change != PHI_KEEP && field->plain >= FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" is of type %s, which cannot be converted",
						NameStr(from->attname), format_type_be(field->plain))));
}

/* "change": the one that the job makes. */
static void
describe_field(PhiConverter *converter, int i, PhiChange change)
{
	Form_pg_attribute from = TupleDescAttr(RelationGetDescr(converter->from), i);
	Form_pg_attribute to = TupleDescAttr(RelationGetDescr(converter->to), i);
	PhiField   *field = &converter->fields[i];

	if (from->attisdropped != to->attisdropped ||
		strcmp(NameStr(from->attname), NameStr(to->attname)) != 0)
		refuse_columns(converter->from);
	if (from->attisdropped)
		return;
	if (from->atttypid != to->atttypid)
		describe_change(field, from, to);
	else
	{
		field->type = phi_type_by_oid(from->atttypid);
		field->walk = phi_walk_of_type(from->atttypid);
	}
	/* The shadow's owner may have changed its columns, to have others decrypted. */
	if (field->change == PHI_KEEP ?
		from->atttypid != to->atttypid || from->atttypmod != to->atttypmod :
		field->change != change)
		refuse_columns(converter->from);
}

static void
describe_clinics(PhiConverter *converter, const char *column)
{
	HASHCTL		control = {.keysize = CODE_SIZE,.entrysize = sizeof(Clinic),
		.hcxt = CurrentMemoryContext};
	Form_pg_attribute attribute;
	Oid			output;
	bool		is_varlena;

	converter->clinic_column = get_attnum(RelationGetRelid(converter->from), column);
	if (converter->clinic_column <= 0)
		refuse_columns(converter->from);
	attribute = TupleDescAttr(RelationGetDescr(converter->from), converter->clinic_column - 1);
	getTypeOutputInfo(attribute->atttypid, &output, &is_varlena);
	fmgr_info(output, &converter->clinic_output);
	converter->clinic_padded = getBaseType(attribute->atttypid) == BPCHAROID;
	converter->clinics = hash_create("pg_phi clinics", 64, &control,
									 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

PhiConverter *
phi_converter(Relation from, Relation to, const char *clinic_column)
{
	int			natts = RelationGetDescr(from)->natts;
	PhiConverter *converter = palloc0(sizeof(PhiConverter));

	converter->from = from;
	converter->to = to;
	converter->fields = palloc0(Max(natts, 1) * sizeof(PhiField));
	converter->call.fn_mcxt = CurrentMemoryContext;
	if (RelationGetDescr(to)->natts != natts)
		refuse_columns(from);
	for (int i = 0; i < natts; i++)
		describe_field(converter, i, clinic_column != NULL ? PHI_SEAL : PHI_OPEN);
	if (clinic_column != NULL)
		describe_clinics(converter, clinic_column);
	converter->slot = MakeSingleTupleTableSlot(RelationGetDescr(to), &TTSOpsVirtual);
	return converter;
}

void
phi_end_converter(PhiConverter *converter)
{
	ExecDropSingleTupleTableSlot(converter->slot);
}

/* 0 when there is no such clinic. */
static int32
clinic_of(PhiConverter *converter, TupleTableSlot *row)
{
	bool		isnull;
	Datum		value = slot_getattr(row, converter->clinic_column, &isnull);
	Clinic	   *clinic;
	char	   *code;
	int			len;
	bool		found;

	if (isnull)
		return 0;
	code = OutputFunctionCall(&converter->clinic_output, value);
	len = strlen(code);
	while (converter->clinic_padded && len > 0 && code[len - 1] == ' ')
		code[--len] = '\0';
	if (len >= CODE_SIZE)
		return 0;
	clinic = hash_search(converter->clinics, code, HASH_ENTER, &found);
	if (!found)
		clinic->clinic_id = phi_find_clinic(code);
	return clinic->clinic_id;
}

bool
phi_has_clinic(PhiConverter *converter, TupleTableSlot *row)
{
	return converter->clinic_column == 0 || clinic_of(converter, row) > 0;
}

/*
 * Errors of casts quote the value, or tell where in it they are.  For use in
 * PG_CATCH.
 */
static void
rethrow_without_value(PhiConverter *converter, int i, MemoryContext context)
{
	int			code = geterrcode();

	if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	FlushErrorState();
	ereport(ERROR,
			(errcode(code),
			 errmsg("a value of column \"%s\" cannot be converted",
					NameStr(TupleDescAttr(RelationGetDescr(converter->from), i)->attname)),
			 errdetail("It is in the row with ctid (%u,%u). The value is not shown: it may be patient data.",
					   ItemPointerGetBlockNumberNoCheck(&converter->tid),
					   ItemPointerGetOffsetNumberNoCheck(&converter->tid))));
}

static Datum
cast(PhiConverter *converter, int i, Datum value, Oid from, Oid to)
{
	MemoryContext context = CurrentMemoryContext;
	PhiField   *field = &converter->fields[i];
	volatile Datum result = value;
	LOCAL_FCINFO(fcinfo, 1);

	if (from == to)
		return value;
	InitFunctionCallInfoData(*fcinfo, &converter->call, 1, InvalidOid, NULL, NULL);
	PG_TRY();
	{
		result = phi_convert(fcinfo, &field->cast, value, from, to);
	}
	PG_CATCH();
	{
		rethrow_without_value(converter, i, context);
	}
	PG_END_TRY();
	return result;
}

/* The payload of a plain value, in memory that is not given back here. */
static PhiSpan
plain_payload(PhiConverter *converter, int i, Datum value, uint8 scratch[8])
{
	PhiField   *field = &converter->fields[i];
	void	   *owned;

	value = cast(converter, i, value, field->plain, field->type->base);
	return phi_payload_from(field->type, value, scratch, &owned);
}

/* The payload of an encrypted value, likewise. */
static PhiSpan
sealed_payload(const PhiType *type, Datum value)
{
	PhiOpened  *opened = palloc(sizeof(PhiOpened));
	PhiEnvelope envelope;

	phi_parse_datum(type, value, &envelope);
	phi_open_envelope(&envelope, phi_envelope_key(&envelope), opened);
	return opened->payload;
}

static bool
same_span(PhiSpan one, PhiSpan other)
{
	return one.len == other.len && memcmp(one.ptr, other.ptr, one.len) == 0;
}

static Datum
seal(PhiConverter *converter, int i, Datum value, int32 clinic_id)
{
	PhiField   *field = &converter->fields[i];
	uint8		scratch[8];
	PhiSpan		payload = plain_payload(converter, i, value, scratch);
	Datum		sealed = phi_seal_payload_for(field->type, payload, clinic_id, field->class);

	if (converter->check && !same_span(payload, sealed_payload(field->type, sealed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("an encrypted value is not the one that it was made of")));
	return sealed;
}

static Datum
open_value(PhiConverter *converter, int i, Datum value)
{
	PhiField   *field = &converter->fields[i];
	PhiEnvelope envelope;

	phi_parse_datum(field->type, value, &envelope);
	value = phi_open_datum(field->type, &envelope, phi_envelope_key(&envelope));
	return cast(converter, i, value, field->type->base, field->plain);
}

/* Who destroys keys is to count what is copied under an old one. */
static Datum
note_old_key(const PhiType *type, Datum value, void *context)
{
	PhiHead		head;
	PhiKey	   *key;

	if (phi_read_head(type, value, &head))
	{
		key = phi_key_by_id(head.key_id);
		if (key == NULL || key->state != PHI_KEY_ACTIVE)
			phi_key_hold_for_copy();
	}
	return value;
}

static Datum
convert_value(PhiConverter *converter, int i, Datum value, int32 clinic_id)
{
	PhiField   *field = &converter->fields[i];

	switch (field->change)
	{
		case PHI_SEAL:
			return seal(converter, i, value, clinic_id);
		case PHI_OPEN:
			return open_value(converter, i, value);
		case PHI_KEEP:
			if (field->walk != NULL)
				(void) phi_walk(field->walk, value, note_old_key, NULL);
			return value;
	}
	return value;
}

bool
phi_convert_row(PhiConverter *converter, TupleTableSlot *row)
{
	TupleDesc	desc = RelationGetDescr(converter->from);
	TupleTableSlot *to = converter->slot;
	int32		clinic_id = 0;

	if (converter->clinic_column != 0 && (clinic_id = clinic_of(converter, row)) <= 0)
		return false;
	converter->tid = row->tts_tid;
	slot_getallattrs(row);
	ExecClearTuple(to);
	for (int i = 0; i < desc->natts; i++)
	{
		/* Of what is dropped nothing is copied. */
		to->tts_isnull[i] = row->tts_isnull[i] || TupleDescAttr(desc, i)->attisdropped;
		to->tts_values[i] = to->tts_isnull[i] ? (Datum) 0 :
			convert_value(converter, i, row->tts_values[i], clinic_id);
	}
	ExecStoreVirtualTuple(to);
	to->tts_tableOid = RelationGetRelid(converter->to);
	return true;
}

static void
append_span(StringInfo content, PhiSpan span)
{
	uint64		len = span.len;

	appendBinaryStringInfo(content, (char *) &len, sizeof(len));
	appendBinaryStringInfo(content, (const char *) span.ptr, span.len);
}

static Datum
append_envelope(const PhiType *type, Datum value, void *content)
{
	append_span(content, sealed_payload(type, value));
	return value;
}

/* The bytes of a value that is the same on both sides. */
static void
append_value(StringInfo content, Form_pg_attribute attribute, Datum value)
{
	if (attribute->attbyval)
		append_span(content, (PhiSpan) {(uint8 *) &value, sizeof(value)});
	else if (attribute->attlen == -1)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		append_span(content, (PhiSpan) {(uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)});
	}
	else
		append_span(content, (PhiSpan) {(uint8 *) DatumGetPointer(value),
			datumGetSize(value, false, attribute->attlen)});
}

void
phi_plain_row(PhiConverter *converter, TupleTableSlot *row, bool converted, StringInfo content)
{
	TupleDesc	desc = RelationGetDescr(converter->from);

	converter->tid = row->tts_tid;
	slot_getallattrs(row);
	for (int i = 0; i < desc->natts; i++)
	{
		PhiField   *field = &converter->fields[i];
		Datum		value = row->tts_values[i];
		uint8		scratch[8];

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		appendStringInfoChar(content, row->tts_isnull[i]);
		if (row->tts_isnull[i])
			continue;
		/* Rekeying may have changed the bytes on one side. */
		if (field->walk != NULL)
			(void) phi_walk(field->walk, value, append_envelope, content);
		else if (field->change == PHI_KEEP)
			append_value(content, TupleDescAttr(desc, i), value);
		else if (converted == (field->change == PHI_SEAL))
			append_span(content, sealed_payload(field->type, value));
		else
			append_span(content, plain_payload(converter, i, value, scratch));
	}
}
