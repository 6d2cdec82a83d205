/*
 * leaves.c
 *		Reading leaves, and hashes as values of SQL.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"

#include "audit/log.h"
#include "compat.h"

#define FETCH 1000

bytea *
phi_make_bytea(const void *data, Size len)
{
	bytea	   *bytes = palloc(VARHDRSZ + len);

	SET_VARSIZE(bytes, VARHDRSZ + len);
	memcpy(VARDATA(bytes), data, len);
	return bytes;
}

static void
walk_row(bytea *hashes, void (*visit) (const PhiHash *, void *), void *context)
{
	const PhiHash *hash = (const PhiHash *) VARDATA_ANY(hashes);

	for (Size n = VARSIZE_ANY_EXHDR(hashes) / PHI_HASH_SIZE; n > 0; n--)
		visit(hash++, context);
}

void
phi_walk_leaves(const char *sql, int n, Oid *types, Datum *values,
				void (*visit) (const PhiHash *, void *), void *context)
{
	Portal		portal = SPI_cursor_open_with_args(NULL, sql, n, types, values, NULL, true,
												   CURSOR_OPT_NO_SCROLL);

	for (;;)
	{
		SPITupleTable *table;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH);
		if (SPI_processed == 0)
			break;
		table = SPI_tuptable;
		for (uint64 i = 0; i < table->numvals; i++)
		{
			bool		isnull;
			Datum		hashes = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);

			/* Constraints are gone if a superuser wants. */
			if (isnull || VARSIZE_ANY_EXHDR(DatumGetByteaPP(hashes)) % PHI_HASH_SIZE != 0)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a row of phi.audit_leaf holds no leaf hashes")));
			walk_row(DatumGetByteaPP(hashes), visit, context);
		}
		SPI_freetuptable(table);
	}
	SPI_cursor_close(portal);
}

void
phi_append_leaf(const PhiHash *leaf, void *frontier)
{
	if (phi_merkle_append(frontier, leaf, NULL, NULL) != PHI_OK)
		elog(ERROR, "could not add a leaf to the Merkle tree");
}
