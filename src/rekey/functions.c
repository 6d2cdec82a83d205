/*
 * functions.c
 *		Where keys are used, for SQL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "keys/keys.h"
#include "rekey/tables.h"
#include "value/guard.h"

PG_FUNCTION_INFO_V1(phi_count_values);
PG_FUNCTION_INFO_V1(phi_stored_constants);
PG_FUNCTION_INFO_V1(phi_holds_encrypted);
PG_FUNCTION_INFO_V1(phi_temp_owner);

/*
 * phi.count_values() returns setof (key_id int, relation regclass,
 *		"column" name, "values" bigint)
 */
Datum
phi_count_values(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *uses;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	uses = phi_count_uses();
	foreach(cell, uses)
	{
		const PhiUse *use = lfirst(cell);
		char	   *column = get_attname(use->relid, use->attnum, true);
		NameData	name;
		Datum		values[4];
		bool		nulls[4] = {false, false, column == NULL, false};

		namestrcpy(&name, column ? column : "");
		values[0] = Int32GetDatum(use->key_id);
		values[1] = ObjectIdGetDatum(use->relid);
		values[2] = NameGetDatum(&name);
		values[3] = Int64GetDatum(use->values);
		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* What a constant in the catalogue is counted for. */
typedef struct Constants
{
	ReturnSetInfo *set;
	ObjectAddress object;
} Constants;

static Datum
put_constant(const PhiType *type, Datum value, void *context)
{
	Constants  *constants = context;
	PhiHead		head;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (!phi_read_head(type, value, &head) || phi_key_by_id(head.key_id) == NULL)
		head.key_id = 0;
	values[0] = Int32GetDatum(head.key_id);
	values[1] = CStringGetTextDatum(getObjectDescription(&constants->object, false));
	values[2] = Int64GetDatum(1);
	tuplestore_putvalues(constants->set->setResult, constants->set->setDesc, values, nulls);
	return value;
}

static void
look_at_constant(Oid type, Datum value, const ObjectAddress *object, void *context)
{
	PhiWalk    *walk = phi_walk_of_type(type);

	if (walk == NULL)
		return;
	((Constants *) context)->object = *object;
	(void) phi_walk(walk, value, put_constant, context);
}

/* Values that ALTER TABLE ... ADD COLUMN has kept for the rows there were. */
static void
look_at_missing_values(Constants *constants)
{
	Relation	attributes = table_open(AttributeRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(attributes, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_attribute attribute = (Form_pg_attribute) GETSTRUCT(tuple);
		ObjectAddress object;
		Datum		array;
		Datum		value;
		bool		isnull;
		int			one = 1;

		if (!attribute->atthasmissing || attribute->attisdropped ||
			!phi_contains_encrypted(attribute->atttypid))
			continue;
		array = heap_getattr(tuple, Anum_pg_attribute_attmissingval,
							 RelationGetDescr(attributes), &isnull);
		if (isnull)
			continue;
		value = array_get_element(array, 1, &one, -1, attribute->attlen,
								  attribute->attbyval, attribute->attalign, &isnull);
		ObjectAddressSubSet(object, RelationRelationId, attribute->attrelid, attribute->attnum);
		if (!isnull)
			look_at_constant(attribute->atttypid, value, &object, constants);
	}
	systable_endscan(scan);
	table_close(attributes, AccessShareLock);
}

/*
 * phi.stored_constants() returns setof (key_id int, object text,
 *		"values" bigint)
 */
Datum
phi_stored_constants(PG_FUNCTION_ARGS)
{
	Constants	constants = {.set = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	phi_visit_constants(look_at_constant, &constants);
	look_at_missing_values(&constants);
	return (Datum) 0;
}

/* phi.holds_encrypted(oid) returns boolean: of a type */
Datum
phi_holds_encrypted(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(phi_contains_encrypted(PG_GETARG_OID(0)));
}

/* phi.temp_owner(oid) returns int: the process whose temporary schema it is */
Datum
phi_temp_owner(PG_FUNCTION_ARGS)
{
	pid_t		pid = PhiTempOwner(PG_GETARG_OID(0));

	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}
