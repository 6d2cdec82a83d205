/*
 * advance.c
 *		Sequencing: every committed record gets a leaf of the Merkle tree.
 *
 * A pass takes the records of all transactions that have ended: those below the
 * oldest that runs, as its snapshot tells.  What the pass before took is below
 * its own horizon.  So no record is left out or taken twice, and nobody waits.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "audit/advance.h"
#include "audit/audit.h"
#include "audit/log.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(phi_advance_audit);
PG_FUNCTION_INFO_V1(phi_rebuild_audit);

#define FETCH 1000

/* A row of phi.audit_leaf that is being filled. */
typedef struct Leaves
{
	int64		first;
	int			n;
	int64		min_id;
	int64		max_id;
	uint64		first_xact;
	uint64		last_xact;
	Datum		ids[PHI_ROW_LEAVES];
	uint8		hashes[PHI_ROW_LEAVES * PHI_HASH_SIZE];
} Leaves;

typedef struct Pass
{
	PhiFrontier frontier;
	Leaves		leaves;
	SPIPlanPtr	insert_leaves;
	SPIPlanPtr	insert_node;
} Pass;

static void
run(const char *sql, int expected)
{
	int			code = SPI_execute(sql, false, 0);

	if (code != expected)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
}

static SPIPlanPtr
prepare(const char *sql, int n, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, n, types);

	if (plan == NULL)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
subtree_done(int height, uint64_t index, const PhiHash *root, void *context)
{
	Pass	   *pass = context;
	Datum		values[3];

	if (height == 0 || height % PHI_ROW_HEIGHT != 0)
		return;
	values[0] = Int16GetDatum(height);
	values[1] = Int64GetDatum(index);
	values[2] = PointerGetDatum(phi_make_bytea(root->byte, PHI_HASH_SIZE));
	if (SPI_execute_plan(pass->insert_node, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into phi.audit_node");
	pfree(DatumGetPointer(values[2]));
}

static void
write_leaves(Pass *pass)
{
	Leaves	   *leaves = &pass->leaves;
	ArrayType  *ids;
	Datum		values[7];

	if (leaves->n == 0)
		return;
	ids = construct_array(leaves->ids, leaves->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE);
	values[0] = Int64GetDatum(leaves->first);
	values[1] = Int64GetDatum(leaves->min_id);
	values[2] = Int64GetDatum(leaves->max_id);
	values[3] = UInt64GetDatum(leaves->first_xact);
	values[4] = UInt64GetDatum(leaves->last_xact);
	values[5] = PointerGetDatum(ids);
	values[6] = PointerGetDatum(phi_make_bytea(leaves->hashes, leaves->n * PHI_HASH_SIZE));
	if (SPI_execute_plan(pass->insert_leaves, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into phi.audit_leaf");
	pfree(ids);
	pfree(DatumGetPointer(values[6]));
	leaves->n = 0;
}

static void
add_leaf(Pass *pass, int64 id, uint64 xact, const PhiHash *hash)
{
	Leaves	   *leaves = &pass->leaves;

	if (leaves->n == 0)
	{
		leaves->first = pass->frontier.size;
		leaves->min_id = leaves->max_id = id;
		leaves->first_xact = leaves->last_xact = xact;
	}
	leaves->min_id = Min(leaves->min_id, id);
	leaves->max_id = Max(leaves->max_id, id);
	/* Records that came with a dump have the numbers of another server. */
	leaves->first_xact = Min(leaves->first_xact, xact);
	leaves->last_xact = Max(leaves->last_xact, xact);
	leaves->ids[leaves->n] = Int64GetDatum(id);
	memcpy(leaves->hashes + leaves->n * PHI_HASH_SIZE, hash->byte, PHI_HASH_SIZE);
	leaves->n++;
	if (phi_merkle_append(&pass->frontier, hash, subtree_done, pass) != PHI_OK)
		elog(ERROR, "could not add a leaf to the Merkle tree");
	if (pass->frontier.size % PHI_ROW_LEAVES == 0)
		write_leaves(pass);
}

/* Not from SPI_tuptable: the leaves are written meanwhile. */
static void
add_fetched(Pass *pass, SPITupleTable *table)
{
	TupleDesc	desc = table->tupdesc;

	for (uint64 i = 0; i < table->numvals; i++)
	{
		HeapTuple	tuple = table->vals[i];
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		uint64		xact = DatumGetUInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		bytea	   *hash = DatumGetByteaPP(SPI_getbinval(tuple, desc, 3, &isnull));

		add_leaf(pass, id, xact, (PhiHash *) VARDATA_ANY(hash));
	}
}

/* Under the caller's snapshot, which tells what has ended. */
static void
add_records(Pass *pass, const char *sql, int n, Oid *types, Datum *values)
{
	Portal		portal = SPI_cursor_open_with_args(NULL, sql, n, types, values, NULL,
												   true, CURSOR_OPT_NO_SCROLL);

	for (;;)
	{
		SPITupleTable *table;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH);
		if (SPI_processed == 0)
			break;
		table = SPI_tuptable;
		add_fetched(pass, table);
		SPI_freetuptable(table);
	}
	SPI_cursor_close(portal);
	write_leaves(pass);
}

/* The oldest transaction that runs, or the next one; all before have ended. */
static uint64
horizon_of(Snapshot snapshot)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	uint64		horizon = (next & ~(uint64) PG_UINT32_MAX) | snapshot->xmin;

	return horizon > next ? horizon - ((uint64) 1 << 32) : horizon;
}

static void
complain_of_state(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the state of the audit log was altered"),
			 errhint("Verify the log with phi.verify_audit(), then call phi.resume_audit().")));
}

static void
read_frontier(PhiFrontier *frontier, int64 size, bytea *roots)
{
	frontier->size = size;
	frontier->n = VARSIZE_ANY_EXHDR(roots) / PHI_HASH_SIZE;
	if ((uint64) frontier->n != pg_popcount((char *) &frontier->size, sizeof(frontier->size)))
		complain_of_state();
	memcpy(frontier->root, VARDATA_ANY(roots), frontier->n * PHI_HASH_SIZE);
}

static void
begin_pass(Pass *pass)
{
	Oid			leaf_types[] = {INT8OID, INT8OID, INT8OID, XID8OID, XID8OID, INT8ARRAYOID, BYTEAOID};
	Oid			node_types[] = {INT2OID, INT8OID, BYTEAOID};

	pass->leaves.n = 0;
	pass->insert_leaves = prepare("INSERT INTO phi.audit_leaf VALUES ($1, $2, $3, $4, $5, $6, $7)",
								  lengthof(leaf_types), leaf_types);
	pass->insert_node = prepare("INSERT INTO phi.audit_node VALUES ($1, $2, $3)",
								lengthof(node_types), node_types);
}

static void
write_state(const Pass *pass, uint64 horizon)
{
	Oid			types[] = {XID8OID, INT8OID, BYTEAOID};
	Datum		values[3];

	values[0] = UInt64GetDatum(horizon);
	values[1] = Int64GetDatum(pass->frontier.size);
	values[2] = PointerGetDatum(phi_make_bytea(pass->frontier.root, pass->frontier.n * PHI_HASH_SIZE));
	if (SPI_execute_with_args("UPDATE phi.audit_state SET horizon = $1, size = $2, frontier = $3",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update phi.audit_state");
}

static bool
answer(const char *sql)
{
	bool		isnull;

	run(sql, SPI_OK_SELECT);
	return SPI_processed == 1 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) && !isnull;
}

/* One pass at a time. */
static void
lock_state(void)
{
	run("LOCK TABLE phi.audit_state IN SHARE UPDATE EXCLUSIVE MODE", SPI_OK_UTILITY);
}

/*
 * The records of transactions from the state's horizon to that of a new
 * snapshot.  The lock keeps other passes away.  *tree: with their leaves.
 */
static void
sequence(PhiFrontier *tree, bool *pending)
{
	Pass		pass;
	Snapshot	snapshot;
	Oid			types[] = {XID8OID, XID8OID, INT8OID};
	Datum		bounds[lengthof(types)];
	bool		isnull;
	uint64		from;
	uint64		to;
	uint64		size;

	run("SELECT horizon, size, frontier, first_id FROM phi.audit_state", SPI_OK_SELECT);
	if (SPI_processed != 1 || HeapTupleHasNulls(SPI_tuptable->vals[0]))
		complain_of_state();
	from = DatumGetUInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	size = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	read_frontier(&pass.frontier, size,
				  DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull)));
	bounds[2] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	to = horizon_of(snapshot);
	begin_pass(&pass);
	bounds[0] = UInt64GetDatum(from);
	bounds[1] = UInt64GetDatum(to);
	if (from < to)
		add_records(&pass, "SELECT record_id, xact, phi.audit_leaf_hash(l) FROM phi.audit_log l "
					"WHERE xact >= $1 AND xact < $2 AND record_id >= $3 ORDER BY xact, record_id",
					lengthof(types), types, bounds);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	/* Without records the horizon may stay: no write where nothing happens. */
	if (pass.frontier.size != size)
		write_state(&pass, to);
	*tree = pass.frontier;
	/* Up to now: records of another server may bear any larger number. */
	*pending = answer(psprintf("SELECT EXISTS (SELECT FROM phi.audit_log WHERE xact >= '%llu' AND xact < '%llu' AND record_id >= %lld)",
							   (unsigned long long) to,
							   (unsigned long long) U64FromFullTransactionId(ReadNextFullTransactionId()),
							   (long long) DatumGetInt64(bounds[2])));
}

bool
phi_audit_advance(bool *pending)
{
	static const char *const off[] = {"enable_seqscan", "jit"};
	PhiFrontier tree;
	bool		signed_one;
	int			settings;

	*pending = false;
	if (!phi_audit_ready())
		return false;
	SPI_connect();
	/* Statistics lag behind a log that grows, and compiling takes longer than a pass. */
	settings = NewGUCNestLevel();
	for (int i = 0; i < (int) lengthof(off); i++)
		(void) set_config_option(off[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	lock_state();
	sequence(&tree, pending);
	signed_one = phi_audit_sign_tree(&tree);
	/* What leaves the server must still be there after a crash. */
	if (signed_one)
		ForceSyncCommit();
	AtEOXact_GUC(true, settings);
	SPI_finish();
	return signed_one;
}

/* phi.advance_audit() returns boolean: a new checkpoint was made */
Datum
phi_advance_audit(PG_FUNCTION_ARGS)
{
	bool		pending;

	PG_RETURN_BOOL(phi_audit_advance(&pending));
}

/*
 * phi.rebuild_audit() returns void
 *
 * Records of another server that have no leaf get one, whatever transaction
 * numbers they bear; of this server's those that a pass would not take again.
 */
Datum
phi_rebuild_audit(PG_FUNCTION_ARGS)
{
	Pass		pass;
	Snapshot	snapshot;
	Oid			types[] = {XID8OID};
	Datum		horizon;

	SPI_connect();
	lock_state();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	/* As they are stored, up to where one is missing. */
	memset(&pass.frontier, 0, sizeof(pass.frontier));
	phi_walk_leaves(PHI_ALL_LEAVES, 0, NULL, NULL, phi_append_leaf, &pass.frontier);
	begin_pass(&pass);
	horizon = UInt64GetDatum(horizon_of(snapshot));
	add_records(&pass, "SELECT record_id, xact, phi.audit_leaf_hash(l) FROM phi.audit_log l "
				"WHERE NOT EXISTS (SELECT FROM phi.audit_leaf k, unnest(k.ids) id WHERE id = l.record_id) "
				"AND (xact < $1 OR (SELECT record_id < s.first_id OR s.system <> phi.audit_system() FROM phi.audit_state s)) "
				"ORDER BY xact, record_id", lengthof(types), types, &horizon);
	write_state(&pass, DatumGetUInt64(horizon));
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	SPI_finish();
	PG_RETURN_VOID();
}
