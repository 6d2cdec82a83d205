/*
 * verify.c
 *		What verify.sql needs from C.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit/log.h"
#include "compat.h"
#include "keys/rows.h"

PG_FUNCTION_INFO_V1(phi_audit_tree);

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
	bytea	   *bytes = phi_make_bytea(hash->byte, PHI_HASH_SIZE);
	Datum		values[3] = {Int16GetDatum(level), Int64GetDatum(index), PointerGetDatum(bytes)};

	phi_rows_add(&walk->rows, values);
	pfree(bytes);
}

static void
subtree_done(int height, uint64_t index, const PhiHash *root, void *context)
{
	if (height > 0 && height % PHI_ROW_HEIGHT == 0)
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
add_leaf(const PhiHash *leaf, void *context)
{
	Walk	   *walk = context;

	if (phi_merkle_append(&walk->frontier, leaf, subtree_done, walk) != PHI_OK)
		elog(ERROR, "could not hash a node of the Merkle tree");
	add_root_if_asked(walk);
}

/* phi.audit_tree(sizes bigint[]) returns setof (level, index, hash) */
Datum
phi_audit_tree(PG_FUNCTION_ARGS)
{
	Walk		walk = {.next = 0};

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &walk.sizes, NULL, &walk.n);
	walk.rows = phi_rows_begin(fcinfo);
	add_root_if_asked(&walk);
	SPI_connect();
	phi_walk_leaves(PHI_ALL_LEAVES, 0, NULL, NULL, add_leaf, &walk);
	SPI_finish();
	return (Datum) 0;
}
