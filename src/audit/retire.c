/*
 * retire.c
 *		What retire.sql needs from C.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "audit/merkle.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_root_of_leaves);

#define FETCH 1000

static void
add_leaves(PhiFrontier *frontier, bytea *hashes)
{
	for (Size at = 0; at + PHI_HASH_SIZE <= VARSIZE_ANY_EXHDR(hashes); at += PHI_HASH_SIZE)
	{
		if (phi_merkle_append(frontier, (PhiHash *) (VARDATA_ANY(hashes) + at), NULL, NULL) != PHI_OK)
			elog(ERROR, "could not hash a node of the Merkle tree");
	}
}

/* phi.root_of_leaves(leaves int8multirange) returns bytea */
Datum
phi_root_of_leaves(PG_FUNCTION_ARGS)
{
	Oid			types[] = {INT8MULTIRANGEOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	bytea	   *root = palloc(VARHDRSZ + PHI_HASH_SIZE);
	PhiFrontier frontier = {0};
	Portal		portal;

	SPI_connect();
	portal = SPI_cursor_open_with_args("phi_root_of_leaves",
									   "SELECT substr(k.hashes, (32 * (p.first - k.first_leaf) + 1)::int, (32 * (p.past - p.first))::int) "
									   "FROM unnest($1) r JOIN phi.audit_leaf k ON k.first_leaf > lower(r) - 64 AND k.first_leaf < upper(r), "
									   "LATERAL (SELECT greatest(k.first_leaf, lower(r)) AS first, "
									   "least(k.first_leaf + cardinality(k.ids), upper(r)) AS past) p "
									   "WHERE p.first < p.past ORDER BY p.first",
									   1, types, values, NULL, true, CURSOR_OPT_NO_SCROLL);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			add_leaves(&frontier, DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1, &isnull)));
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	SET_VARSIZE(root, VARHDRSZ + PHI_HASH_SIZE);
	if (phi_merkle_root(&frontier, (PhiHash *) VARDATA(root)) != PHI_OK)
		elog(ERROR, "could not hash a node of the Merkle tree");
	PG_RETURN_BYTEA_P(root);
}
