/*
 * walk.c
 *		Finding the envelopes in stored values.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "value/walk.h"

typedef enum WalkKind
{
	WALK_VALUE,
	WALK_ARRAY,
	WALK_COMPOSITE
} WalkKind;

struct PhiWalk
{
	WalkKind	kind;
	const PhiType *type;		/* WALK_VALUE */
	/* WALK_ARRAY */
	Oid			element;
	int16		typlen;
	bool		typbyval;
	char		typalign;
	int			n;				/* 1 for an array, else of columns */
	PhiWalk   **inner;			/* NULL where there is nothing to find */
};

static PhiWalk *
make_walk(WalkKind kind, int n)
{
	PhiWalk    *walk = palloc0(sizeof(PhiWalk));

	walk->kind = kind;
	walk->n = n;
	walk->inner = palloc0(Max(n, 1) * sizeof(PhiWalk *));
	return walk;
}

static PhiWalk *
walk_of_array(Oid element)
{
	PhiWalk    *inner = phi_walk_of_type(element);
	PhiWalk    *walk;

	if (inner == NULL)
		return NULL;
	walk = make_walk(WALK_ARRAY, 1);
	walk->inner[0] = inner;
	walk->element = element;
	get_typlenbyvalalign(element, &walk->typlen, &walk->typbyval, &walk->typalign);
	return walk;
}

static PhiWalk *
walk_of_composite(Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);
	PhiWalk    *walk = make_walk(WALK_COMPOSITE, desc->natts);
	bool		found = false;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		walk->inner[i] = phi_walk_of_type(TupleDescAttr(desc, i)->atttypid);
		found |= walk->inner[i] != NULL;
	}
	FreeTupleDesc(desc);
	return found ? walk : NULL;
}

PhiWalk *
phi_walk_of_type(Oid type)
{
	const PhiType *ours;
	PhiWalk    *walk;

	check_stack_depth();
	type = getBaseType(type);
	ours = phi_type_by_oid(type);
	if (ours != NULL)
	{
		walk = make_walk(WALK_VALUE, 0);
		walk->type = ours;
		return walk;
	}
	if (OidIsValid(get_element_type(type)))
		return walk_of_array(get_element_type(type));
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
		return walk_of_composite(type);
	return NULL;
}

static Datum
walk_array(const PhiWalk *walk, Datum value, PhiVisitor visit, void *context)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	bool		changed = false;

	deconstruct_array(array, walk->element, walk->typlen, walk->typbyval,
					  walk->typalign, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		after;

		if (nulls[i])
			continue;
		after = phi_walk(walk->inner[0], elements[i], visit, context);
		changed |= after != elements[i];
		elements[i] = after;
	}
	if (!changed)
		return value;
	return PointerGetDatum(construct_md_array(elements, nulls, ARR_NDIM(array),
											  ARR_DIMS(array), ARR_LBOUND(array),
											  walk->element, walk->typlen,
											  walk->typbyval, walk->typalign));
}

/* The row may be older than the last column of its type. */
static Datum
walk_composite(const PhiWalk *walk, Datum value, PhiVisitor visit, void *context)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
											  HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	bool		changed = false;

	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts && i < walk->n; i++)
	{
		Datum		after;

		if (nulls[i] || walk->inner[i] == NULL)
			continue;
		after = phi_walk(walk->inner[i], values[i], visit, context);
		changed |= after != values[i];
		values[i] = after;
	}
	if (changed)
		value = heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc);
	ReleaseTupleDesc(desc);
	return value;
}

Datum
phi_walk(const PhiWalk *walk, Datum value, PhiVisitor visit, void *context)
{
	switch (walk->kind)
	{
		case WALK_VALUE:
			return visit(walk->type, value, context);
		case WALK_ARRAY:
			return walk_array(walk, value, visit, context);
		case WALK_COMPOSITE:
			return walk_composite(walk, value, visit, context);
	}
	return value;
}
