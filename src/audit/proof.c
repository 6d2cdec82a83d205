/*
 * proof.c
 *		Proofs that a record is in the log, and that the log only grew.
 *
 * What is read are leaves of one row of 64 and hashes of complete subtrees, so
 * that a proof from a log of any length takes a handful of look-ups.  A proof
 * that does not lead to the checkpoint's root is not given.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit/log.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_inclusion_proof);
PG_FUNCTION_INFO_V1(phi_consistency_proof);
PG_FUNCTION_INFO_V1(phi_check_inclusion);
PG_FUNCTION_INFO_V1(phi_check_consistency);

/* A checkpoint; size -1: none was found. */
typedef struct Checkpoint
{
	int64		size;
	PhiHash		root;
	Datum		note;
} Checkpoint;

static void pg_attribute_noreturn()
log_is_damaged(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the audit log has no proof of this"),
			 errdetail_internal("%s", what),
			 errhint("Find the fault with phi.verify_audit().")));
}

static void
query(const char *sql, int n, const int64 *arguments)
{
	Oid			types[3] = {INT8OID, INT8OID, INT8OID};
	Datum		values[3];

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(arguments[i]);
	if (SPI_execute_with_args(sql, n, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
}

static Datum
fetched(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

static int64
fetched_number(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt64(fetched(row, column, &isnull));
}

/* Hashes one after the other, and how many. */
static bytea *
fetched_hashes(uint64 row, int column, int *n)
{
	bool		isnull;
	bytea	   *bytes = DatumGetByteaPP(fetched(row, column, &isnull));

	*n = VARSIZE_ANY_EXHDR(bytes) / PHI_HASH_SIZE;
	return bytes;
}

static void
fetched_hash(uint64 row, int column, PhiHash *out)
{
	int			n;
	bytea	   *bytes = fetched_hashes(row, column, &n);

	if (n != 1)
		log_is_damaged("A hash is of the wrong length.");
	memcpy(out, VARDATA_ANY(bytes), PHI_HASH_SIZE);
}

/* Leaves, where those of a row may still stand in several. */
static void
read_leaves(int64 first, int n, PhiHash *hashes)
{
	int64		arguments[2] = {first - first % PHI_ROW_LEAVES, first + n};
	int			found = 0;

	query("SELECT first_leaf, hashes FROM phi.audit_leaf WHERE first_leaf >= $1 AND first_leaf < $2 ORDER BY first_leaf",
		  2, arguments);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		int64		leaf = fetched_number(row, 1);
		int			in_row;
		bytea	   *bytes = fetched_hashes(row, 2, &in_row);

		for (int i = 0; i < in_row; i++, leaf++)
		{
			if (leaf == first + found && found < n)
				memcpy(&hashes[found++], VARDATA_ANY(bytes) + i * PHI_HASH_SIZE, PHI_HASH_SIZE);
		}
	}
	if (found < n)
		log_is_damaged("A leaf is missing in phi.audit_leaf.");
}

static void
read_nodes(int level, int64 first, int n, PhiHash *hashes)
{
	int64		arguments[3] = {level, first, first + n};

	query("SELECT hash FROM phi.audit_node WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index",
		  3, arguments);
	if (SPI_processed != (uint64) n)
		log_is_damaged("A hash is missing in phi.audit_node.");
	for (int i = 0; i < n; i++)
		fetched_hash(i, 1, &hashes[i]);
}

/* The root of a complete subtree from what is stored just below it. */
static PhiStatus
fetch_subtree(int height, uint64_t index, PhiHash *out, void *context)
{
	PhiHash		hashes[PHI_ROW_LEAVES];
	int			n = 1 << height % PHI_ROW_HEIGHT;
	int			level = height - height % PHI_ROW_HEIGHT;
	PhiStatus	status = PHI_OK;

	if (level == 0)
		read_leaves(index * n, n, hashes);
	else
		read_nodes(level, index * n, n, hashes);
	SPI_freetuptable(SPI_tuptable);
	for (; n > 1 && status == PHI_OK; n /= 2)
	{
		for (int i = 0; i < n / 2 && status == PHI_OK; i++)
			status = phi_merkle_node(&hashes[2 * i], &hashes[2 * i + 1], &hashes[i]);
	}
	*out = hashes[0];
	return status;
}

static Datum
proof_datum(const PhiHash *proof, int n)
{
	Datum		hashes[PHI_PROOF_MAX];

	for (int i = 0; i < n; i++)
		hashes[i] = PointerGetDatum(phi_make_bytea(proof[i].byte, PHI_HASH_SIZE));
	return PointerGetDatum(construct_array(hashes, n, BYTEAOID, -1, false, TYPALIGN_INT));
}

/* Of a size, or (-1) the newest; "context" is where its note is to live. */
static void
find_checkpoint(int64 size, Checkpoint *checkpoint, MemoryContext context)
{
	bool		isnull;

	query(size < 0 ? "SELECT size, root, note FROM phi.audit_checkpoint ORDER BY size DESC LIMIT 1"
		  : "SELECT size, root, note FROM phi.audit_checkpoint WHERE size = $1", size < 0 ? 0 : 1, &size);
	checkpoint->size = -1;
	if (SPI_processed == 1)
	{
		MemoryContext old;

		checkpoint->size = fetched_number(0, 1);
		fetched_hash(0, 2, &checkpoint->root);
		old = MemoryContextSwitchTo(context);
		checkpoint->note = PointerGetDatum(DatumGetTextPCopy(fetched(0, 3, &isnull)));
		MemoryContextSwitchTo(old);
	}
}

static void
no_such_checkpoint(int64 size)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the audit log has no checkpoint of size %lld", (long long) size),
			 errhint("phi.audit_checkpoint lists them.")));
}

/* Later ids are found at once, since the search begins with the largest. */
static int64
find_leaf(int64 id, PhiHash *hash)
{
	int			n;
	int64		position;
	bytea	   *hashes;

	query("SELECT first_leaf, array_position(ids, $1)::bigint, hashes FROM phi.audit_leaf "
		  "WHERE min_id <= $1 AND max_id >= $1 AND array_position(ids, $1) IS NOT NULL "
		  "ORDER BY min_id DESC LIMIT 1", 1, &id);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("record %lld has no leaf in the audit log", (long long) id),
				 errhint("If the record was just written, ask again after phi.checkpoint_interval.")));
	position = fetched_number(0, 2);
	hashes = fetched_hashes(0, 3, &n);
	if (position < 1 || position > n)
		log_is_damaged("A leaf is missing in phi.audit_leaf.");
	memcpy(hash, VARDATA_ANY(hashes) + (position - 1) * PHI_HASH_SIZE, PHI_HASH_SIZE);
	return fetched_number(0, 1) + position - 1;
}

static void
require_covered(int64 id, int64 leaf, const Checkpoint *checkpoint)
{
	if (leaf >= checkpoint->size)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("record %lld is not covered by the checkpoint", (long long) id),
				 checkpoint->size < 0 ? errdetail("There is no checkpoint yet.") :
				 errdetail("It is leaf %lld, and the checkpoint has %lld leaves.",
						   (long long) leaf, (long long) checkpoint->size),
				 errhint("If the record was just written, ask again after phi.checkpoint_interval.")));
}

/*
 * phi.inclusion_proof(id bigint, checkpoint_size bigint) returns (leaf bigint,
 *		size bigint, leaf_hash bytea, proof bytea[], checkpoint text)
 */
Datum
phi_inclusion_proof(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi;
	Checkpoint	checkpoint;
	TupleDesc	desc;
	PhiHash		hash;
	PhiHash		proof[PHI_PROOF_MAX];
	int			n;
	int64		id;
	int64		leaf;
	Datum		values[5];
	bool		nulls[5] = {false};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the record's id must not be null")));
	id = PG_GETARG_INT64(0);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	SPI_connect();
	leaf = find_leaf(id, &hash);
	find_checkpoint(PG_ARGISNULL(1) ? -1 : Max(PG_GETARG_INT64(1), 0), &checkpoint, context);
	if (!PG_ARGISNULL(1) && checkpoint.size < 0)
		no_such_checkpoint(PG_GETARG_INT64(1));
	require_covered(id, leaf, &checkpoint);
	if (phi_merkle_inclusion(leaf, checkpoint.size, fetch_subtree, NULL, proof, &n) != PHI_OK ||
		phi_merkle_check_inclusion(leaf, checkpoint.size, &hash, proof, n, &checkpoint.root) != PHI_OK)
		log_is_damaged("The leaves do not lead to the root of the checkpoint.");
	spi = MemoryContextSwitchTo(context);
	values[0] = Int64GetDatum(leaf);
	values[1] = Int64GetDatum(checkpoint.size);
	values[2] = PointerGetDatum(phi_make_bytea(hash.byte, PHI_HASH_SIZE));
	values[3] = proof_datum(proof, n);
	values[4] = checkpoint.note;
	MemoryContextSwitchTo(spi);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static void
require_sizes(int64 a, int64 b)
{
	int64		size = 0;

	query("SELECT size FROM phi.audit_state", 0, NULL);
	if (SPI_processed == 1)
		size = fetched_number(0, 1);
	if (a < 0 || a > b)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a log of size %lld is not the beginning of one of size %lld",
						(long long) a, (long long) b),
				 errhint("Name the older size first.")));
	if (b > size)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the audit log has no size %lld", (long long) b),
				 errdetail("It has %lld leaves.", (long long) size)));
}

/* phi.consistency_proof(a bigint, b bigint) returns bytea[] */
Datum
phi_consistency_proof(PG_FUNCTION_ARGS)
{
	int64		a = PG_GETARG_INT64(0);
	int64		b = PG_GETARG_INT64(1);
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi;
	Checkpoint	older;
	Checkpoint	newer;
	PhiHash		proof[PHI_PROOF_MAX];
	int			n;
	Datum		result;

	SPI_connect();
	require_sizes(a, b);
	if (phi_merkle_consistency(a, b, fetch_subtree, NULL, proof, &n) != PHI_OK)
		elog(ERROR, "could not hash a node of the Merkle tree");
	find_checkpoint(a, &older, context);
	find_checkpoint(b, &newer, context);
	if (older.size == a && newer.size == b &&
		phi_merkle_check_consistency(a, b, proof, n, &older.root, &newer.root) != PHI_OK)
		log_is_damaged("The leaves do not lead to the roots of the checkpoints.");
	spi = MemoryContextSwitchTo(context);
	result = proof_datum(proof, n);
	MemoryContextSwitchTo(spi);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/* What a user gives as a hash; false: it is none. */
static bool
read_hash(Datum datum, PhiHash *out)
{
	bytea	   *bytes = DatumGetByteaPP(datum);

	if (VARSIZE_ANY_EXHDR(bytes) != PHI_HASH_SIZE)
		return false;
	memcpy(out->byte, VARDATA_ANY(bytes), PHI_HASH_SIZE);
	return true;
}

static bool
read_proof(ArrayType *array, PhiHash *proof, int *n)
{
	Datum	   *values;
	bool	   *nulls;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	if (*n > PHI_PROOF_MAX)
		return false;
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i] || !read_hash(values[i], &proof[i]))
			return false;
	}
	return true;
}

/*
 * phi.check_inclusion(leaf bigint, size bigint, leaf_hash bytea, proof bytea[],
 *		root bytea) returns boolean
 */
Datum
phi_check_inclusion(PG_FUNCTION_ARGS)
{
	int64		leaf = PG_GETARG_INT64(0);
	int64		size = PG_GETARG_INT64(1);
	PhiHash		hash;
	PhiHash		root;
	PhiHash		proof[PHI_PROOF_MAX];
	int			n;

	PG_RETURN_BOOL(leaf >= 0 && size >= 0 && read_hash(PG_GETARG_DATUM(2), &hash) &&
				   read_proof(PG_GETARG_ARRAYTYPE_P(3), proof, &n) &&
				   read_hash(PG_GETARG_DATUM(4), &root) &&
				   phi_merkle_check_inclusion(leaf, size, &hash, proof, n, &root) == PHI_OK);
}

/*
 * phi.check_consistency(a bigint, b bigint, proof bytea[], root_a bytea,
 *		root_b bytea) returns boolean
 */
Datum
phi_check_consistency(PG_FUNCTION_ARGS)
{
	int64		a = PG_GETARG_INT64(0);
	int64		b = PG_GETARG_INT64(1);
	PhiHash		older;
	PhiHash		newer;
	PhiHash		proof[PHI_PROOF_MAX];
	int			n;

	PG_RETURN_BOOL(a >= 0 && b >= 0 && read_proof(PG_GETARG_ARRAYTYPE_P(2), proof, &n) &&
				   read_hash(PG_GETARG_DATUM(3), &older) && read_hash(PG_GETARG_DATUM(4), &newer) &&
				   phi_merkle_check_consistency(a, b, proof, n, &older, &newer) == PHI_OK);
}
