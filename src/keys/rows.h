/*
 * rows.h
 *		Returning a table from C, the same way in all versions of PostgreSQL.
 */
#ifndef PHI_ROWS_H
#define PHI_ROWS_H

#include "fmgr.h"
#include "utils/tuplestore.h"

typedef struct PhiRows
{
	Tuplestorestate *store;
	TupleDesc	desc;
} PhiRows;

extern PhiRows phi_rows_begin(FunctionCallInfo fcinfo);

/* A row without NULLs. */
extern void phi_rows_add(PhiRows *rows, Datum *values);

#endif							/* PHI_ROWS_H */
