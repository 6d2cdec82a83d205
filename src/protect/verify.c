/*
 * verify.c
 *		Whether a table and its shadow hold the same.
 *
 * Each row's plain content is hashed under a key that is drawn for the occasion
 * and never stored, and the hashes are added up: so the order of rows does not
 * matter, and what was lost, doubled or changed shows.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "protect/protect.h"

typedef struct Summer
{
	PhiConverter *converter;
	pg_cryptohash_ctx *hash;
	uint8		key[32];
} Summer;

static void
add_row(Summer *summer, TupleTableSlot *row, bool converted, PhiSums *sums)
{
	StringInfoData content;
	uint64		digest[PG_SHA256_DIGEST_LENGTH / sizeof(uint64)];

	initStringInfo(&content);
	phi_plain_row(summer->converter, row, converted, &content);
	if (pg_cryptohash_init(summer->hash) < 0 ||
		pg_cryptohash_update(summer->hash, summer->key, sizeof(summer->key)) < 0 ||
		pg_cryptohash_update(summer->hash, (uint8 *) content.data, content.len) < 0 ||
		pg_cryptohash_final(summer->hash, (uint8 *) digest, sizeof(digest)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not compute a hash")));
	sums->rows++;
	sums->sum[0] += digest[0];
	sums->sum[1] += digest[1];
}

static void
sum_rows(Summer *summer, Relation rel, Snapshot snapshot, bool converted, PhiSums *sums)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "pg_phi verify",
													  ALLOCSET_DEFAULT_SIZES);

	memset(sums, 0, sizeof(*sums));
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		if (converted || phi_has_clinic(summer->converter, slot))
			add_row(summer, slot, converted, sums);
		else
			sums->unknown++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	table_endscan(scan);
	MemoryContextDelete(row_context);
	ExecDropSingleTupleTableSlot(slot);
}

void
phi_sum_pair(PhiPair *pair, Snapshot snapshot, PhiSums *table, PhiSums *shadow)
{
	Summer		summer = {.converter = pair->converter};
	Snapshot	now;

	summer.hash = pg_cryptohash_create(PG_SHA256);
	if (summer.hash == NULL || !pg_strong_random(summer.key, sizeof(summer.key)))
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not draw a key for a hash")));
	sum_rows(&summer, pair->from, snapshot, false, table);
	now = RegisterSnapshot(GetLatestSnapshot());
	sum_rows(&summer, pair->shadow, now, true, shadow);
	UnregisterSnapshot(now);
	pg_cryptohash_free(summer.hash);
	memset(summer.key, 0, sizeof(summer.key));
}
