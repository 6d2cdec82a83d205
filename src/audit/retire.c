/*
 * retire.c
 *		What retire.sql needs from C.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"

#include "audit/log.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_root_of_leaves);

/* phi.root_of_leaves(leaves int8multirange) returns bytea */
Datum
phi_root_of_leaves(PG_FUNCTION_ARGS)
{
	Oid			types[] = {INT8MULTIRANGEOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	PhiHash		root;
	PhiFrontier frontier = {0};

	SPI_connect();
	phi_walk_leaves("SELECT substr(k.hashes, (32 * (p.first - k.first_leaf) + 1)::int, (32 * (p.past - p.first))::int) "
					   "FROM unnest($1) r JOIN phi.audit_leaf k ON k.first_leaf > lower(r) - 64 AND k.first_leaf < upper(r), "
					   "LATERAL (SELECT greatest(k.first_leaf, lower(r)) AS first, "
					   "least(k.first_leaf + cardinality(k.ids), upper(r)) AS past) p "
					   "WHERE p.first < p.past ORDER BY p.first",
					1, types, values, phi_append_leaf, &frontier);
	SPI_finish();
	if (phi_merkle_root(&frontier, &root) != PHI_OK)
		elog(ERROR, "could not hash a node of the Merkle tree");
	PG_RETURN_BYTEA_P(phi_make_bytea(root.byte, PHI_HASH_SIZE));
}
