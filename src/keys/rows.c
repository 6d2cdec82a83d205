/*
 * rows.c
 *		Returning a table from C, the same way in all versions of PostgreSQL.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"

#include "keys/rows.h"

PhiRows
phi_rows_begin(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	PhiRows		rows;

	if (result == NULL || !IsA(result, ReturnSetInfo) ||
		(result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set"),
				 errhint("Call it in FROM.")));
	old = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &rows.desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rows.desc = CreateTupleDescCopy(rows.desc);
	rows.store = tuplestore_begin_heap(true, false, work_mem);
	MemoryContextSwitchTo(old);
	result->returnMode = SFRM_Materialize;
	result->setResult = rows.store;
	result->setDesc = rows.desc;
	return rows;
}

void
phi_rows_add(PhiRows *rows, Datum *values)
{
	bool	   *nulls = palloc0(rows->desc->natts * sizeof(bool));

	tuplestore_putvalues(rows->store, rows->desc, values, nulls);
	pfree(nulls);
}
