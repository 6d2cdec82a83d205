/*
 * verify.c
 *		What verify.sql needs from C.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit/merkle.h"
#include "compat.h"
#include "keys/rows.h"

PG_FUNCTION_INFO_V1(phi_audit_tree);

#define ROW_HEIGHT 6
#define FETCH 1000

typedef struct Walk
{
	PhiRows		rows;
	PhiFrontier frontier;
	Datum	   *sizes;			/* ascending */
	int			n;
	int			next;
} Walk;

static void
add_row(Walk *walk, int level, int64 index, const PhiHash *hash)
{
	union
	{
		struct varlena header;
		char		data[VARHDRSZ + PHI_HASH_SIZE];
	}			bytes;
	Datum		values[3] = {Int16GetDatum(level), Int64GetDatum(index), PointerGetDatum(&bytes)};

	SET_VARSIZE(&bytes, sizeof(bytes.data));
	memcpy(bytes.data + VARHDRSZ, hash->byte, PHI_HASH_SIZE);
	phi_rows_add(&walk->rows, values);
}

static void
subtree_done(int height, uint64_t index, const PhiHash *root, void *context)
{
	if (height > 0 && height % ROW_HEIGHT == 0)
		add_row(context, height, index, root);
}

/* Sizes that are not reached yet are left for later, those passed are none. */
static void
add_root_if_asked(Walk *walk)
{
	PhiHash		root;

	while (walk->next < walk->n && DatumGetInt64(walk->sizes[walk->next]) < (int64) walk->frontier.size)
		walk->next++;
	if (walk->next == walk->n || DatumGetInt64(walk->sizes[walk->next]) != (int64) walk->frontier.size)
		return;
	if (phi_merkle_root(&walk->frontier, &root) != PHI_OK)
		elog(ERROR, "could not hash a node of the Merkle tree");
	add_row(walk, 0, walk->frontier.size, &root);
}

static void
add_leaves(Walk *walk, bytea *hashes)
{
	for (Size at = 0; at + PHI_HASH_SIZE <= VARSIZE_ANY_EXHDR(hashes); at += PHI_HASH_SIZE)
	{
		if (phi_merkle_append(&walk->frontier, (PhiHash *) (VARDATA_ANY(hashes) + at), subtree_done, walk) != PHI_OK)
			elog(ERROR, "could not hash a node of the Merkle tree");
		add_root_if_asked(walk);
	}
}

/* phi.audit_tree(sizes bigint[]) returns setof (level, index, hash) */
Datum
phi_audit_tree(PG_FUNCTION_ARGS)
{
	Walk		walk = {.next = 0};
	Portal		portal;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &walk.sizes, NULL, &walk.n);
	walk.rows = phi_rows_begin(fcinfo);
	add_root_if_asked(&walk);
	SPI_connect();
	portal = SPI_cursor_open_with_args("phi_audit_tree",
									   "SELECT hashes FROM phi.audit_leaf ORDER BY first_leaf",
									   0, NULL, NULL, NULL, true, CURSOR_OPT_NO_SCROLL);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			add_leaves(&walk, DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
															1, &isnull)));
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	return (Datum) 0;
}
