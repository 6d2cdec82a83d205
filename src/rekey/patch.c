/*
 * patch.c
 *		Rekeying values in the very bytes where they lie.
 *
 * An envelope has the same length under its new key, and the plaintext is the
 * same: so it can take the old one's place in the page, and nobody will see a
 * difference.  There is no new row version, so no bloat, no index entry, no
 * conflict with row locks or snapshots, no change of xmin or ctid.  Whatever
 * rows lie on the page are served: deleted ones, and those not yet committed,
 * but not those of aborted transactions.
 *
 * Who reads a row holds a pin on its page but no lock.  So the bytes are
 * changed under a cleanup lock, as VACUUM moves rows: nobody else has a pin.
 * The change is logged as an image of the page in the record of a pruning that
 * removes nothing, for that is restored under a cleanup lock too: a reader on a
 * standby never meets half a value.
 *
 * The encryption is done on a copy of the page, without a lock; what has
 * changed meanwhile is left to the next pass.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/heapam_xlog.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xloginsert.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "guc.h"
#include "rekey/recrypt.h"
#include "value/guard.h"

#define LOCK_TRIES 5
#define LOCK_NAP 20				/* microseconds between them */

/* Bytes that take the place of as many others, of the row at "item". */
typedef struct Patch
{
	OffsetNumber item;
	uint16		at;				/* in the page */
	uint16		len;
	const char *bytes;
} Patch;

typedef struct Patcher
{
	PhiTable   *table;
	const PhiTarget *target;
	PGAlignedBlock copy;
	Datum	   *values;
	bool	   *nulls;
	Patch	   *patches;
	int			n;
	int			room;
	PhiTally	tally;			/* of the page */
	bool		slow;			/* the page has values that must be moved */
} Patcher;

typedef enum Outcome
{
	PAGE_DONE,
	PAGE_BUSY,					/* others have it pinned, or changed it */
	PAGE_SLOW
} Outcome;

/* Copies of values in a btree index would keep the old key. */
static bool
index_holds_values(Relation index)
{
	if (index->rd_rel->relam == HASH_AM_OID)
		return false;
	for (int i = 0; i < RelationGetDescr(index)->natts; i++)
	{
		if (phi_contains_encrypted(TupleDescAttr(RelationGetDescr(index), i)->atttypid))
			return true;
	}
	return false;
}

/*
 * Logical decoding would not see the change.  A slot that is made meanwhile
 * waits for the end of our transaction, and then copies what is there.
 */
bool
phi_is_decoded(Relation rel)
{
	int			slots;
	int			active;

	if (!RelationIsLogicallyLogged(rel))
		return false;
	(void) GetCurrentTransactionId();
	return ReplicationSlotsCountDBSlots(MyDatabaseId, &slots, &active);
}

static bool
keeps_length(const PhiTarget *target)
{
	const PhiSuite *from = phi_suite_by_id(target->suite);
	const PhiSuite *to = phi_suite_by_id(phi_suite);

	return from == NULL || from->nonce_size + from->tag_size == to->nonce_size + to->tag_size;
}

bool
phi_can_patch(Relation rel, const PhiTarget *target)
{
	List	   *indexes;
	ListCell   *cell;
	bool		found = false;

	if (rel->rd_tableam != GetHeapamTableAmRoutine() || !keeps_length(target) || phi_is_decoded(rel))
		return false;
	indexes = RelationGetIndexList(rel);
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found |= index_holds_values(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return !found;
}

static void
add_patch(Patcher *patcher, OffsetNumber item, struct varlena *before, struct varlena *after)
{
	Patch	   *patch;

	if (patcher->n == patcher->room)
	{
		patcher->room *= 2;
		patcher->patches = repalloc(patcher->patches, patcher->room * sizeof(Patch));
	}
	patch = &patcher->patches[patcher->n++];
	patch->item = item;
	patch->at = VARDATA_ANY(before) - patcher->copy.data;
	patch->len = VARSIZE_ANY_EXHDR(before);
	patch->bytes = VARDATA_ANY(after);
}

/* Values out of line, compressed, or not in the row at all are moved. */
static void
look_at_value(Patcher *patcher, OffsetNumber item, const PhiTableColumn *column, Datum value)
{
	struct varlena *before = (struct varlena *) DatumGetPointer(value);
	struct varlena *after;

	if ((char *) before < patcher->copy.data || (char *) before >= patcher->copy.data + BLCKSZ ||
		VARATT_IS_EXTERNAL(before) || VARATT_IS_COMPRESSED(before))
	{
		patcher->slow |= phi_has_target(column->walk, patcher->target, value);
		return;
	}
	after = (struct varlena *) DatumGetPointer(phi_recrypt_datum(column->walk, patcher->target,
																 value, &patcher->tally));
	if (after == before)
		return;
	if (VARSIZE_ANY_EXHDR(after) == VARSIZE_ANY_EXHDR(before))
		add_patch(patcher, item, before, after);
	else
		patcher->slow = true;
}

/*
 * A row of an aborted transaction may have been written for columns that the
 * table never got.  Whoever changes the columns now has the table for himself,
 * so that rows in the making are as the columns are.
 */
static bool
is_of_this_table(HeapTupleHeader row)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(row);

	if (HeapTupleHeaderXminCommitted(row))	/* or frozen */
		return true;
	if (HeapTupleHeaderXminInvalid(row))
		return false;
	return TransactionIdIsCurrentTransactionId(xmin) || TransactionIdIsInProgress(xmin) ||
		TransactionIdDidCommit(xmin);
}

static void
look_at_row(Patcher *patcher, OffsetNumber item, BlockNumber block)
{
	Page		page = patcher->copy.data;
	ItemId		id = PageGetItemId(page, item);
	HeapTupleData tuple;
	int			before = patcher->n;

	if (!ItemIdIsNormal(id))
		return;
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, id);
	if (!is_of_this_table(tuple.t_data))
		return;
	tuple.t_len = ItemIdGetLength(id);
	tuple.t_tableOid = RelationGetRelid(patcher->table->rel);
	ItemPointerSet(&tuple.t_self, block, item);
	heap_deform_tuple(&tuple, RelationGetDescr(patcher->table->rel),
					  patcher->values, patcher->nulls);
	patcher->tally.rows++;
	for (int i = 0; i < patcher->table->n; i++)
	{
		const PhiTableColumn *column = &patcher->table->columns[i];

		if (!patcher->nulls[column->attnum - 1])
			look_at_value(patcher, item, column, patcher->values[column->attnum - 1]);
	}
	patcher->tally.updated += patcher->n > before;
}

/* False when somebody has the page pinned, or it is not what was copied. */
static bool
lock_unchanged(const Patcher *patcher, Buffer buffer)
{
	Page		page = BufferGetPage(buffer);
	int			tries = 0;

	while (!ConditionalLockBufferForCleanup(buffer))
	{
		if (++tries == LOCK_TRIES)
			return false;
		pg_usleep(LOCK_NAP);
	}
	for (int i = 0; i < patcher->n; i++)
	{
		const Patch *patch = &patcher->patches[i];

		if (patch->item > PageGetMaxOffsetNumber(page) ||
			memcmp(PageGetItemId(page, patch->item),
				   PageGetItemId((Page) patcher->copy.data, patch->item), sizeof(ItemIdData)) != 0 ||
			memcmp(page + patch->at, patcher->copy.data + patch->at, patch->len) != 0)
		{
			LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
			return false;
		}
	}
	return true;
}

static XLogRecPtr
log_image(Buffer buffer)
{
	xl_heap_prune record = PHI_EMPTY_PRUNE;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfHeapPrune);
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD | REGBUF_FORCE_IMAGE);
	return XLogInsert(RM_HEAP2_ID, PHI_PRUNE_RECORD);
}

static bool
apply(Patcher *patcher, Buffer buffer)
{
	Page		page = BufferGetPage(buffer);

	if (!lock_unchanged(patcher, buffer))
		return false;
	START_CRIT_SECTION();
	for (int i = 0; i < patcher->n; i++)
		memcpy(page + patcher->patches[i].at, patcher->patches[i].bytes, patcher->patches[i].len);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(patcher->table->rel))
	{
		XLogRecPtr	lsn = log_image(buffer);

		PageSetLSN(page, lsn);	/* a macro that names its argument twice */
	}
	END_CRIT_SECTION();
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return true;
}

static Outcome
patch_block(Patcher *patcher, BlockNumber block)
{
	Page		page = patcher->copy.data;
	Buffer		buffer = ReadBuffer(patcher->table->rel, block);
	Outcome		outcome = PAGE_DONE;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(page, BufferGetPage(buffer), BLCKSZ);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	patcher->n = 0;
	patcher->slow = false;
	memset(&patcher->tally, 0, sizeof(patcher->tally));
	if (!PageIsNew(page))
	{
		for (OffsetNumber item = FirstOffsetNumber; item <= PageGetMaxOffsetNumber(page); item++)
			look_at_row(patcher, item, block);
	}
	/* There it is seen whose failures count: not those of rows that are dead. */
	patcher->slow |= patcher->tally.failures != NIL;
	if (patcher->n > 0 && !apply(patcher, buffer))
		outcome = PAGE_BUSY;
	else if (patcher->slow)
		outcome = PAGE_SLOW;
	ReleaseBuffer(buffer);
	return outcome;
}

static void
add_tally(PhiTally *tally, const Patcher *patcher, Outcome outcome)
{
	if (outcome == PAGE_BUSY)
	{
		tally->rows += patcher->tally.rows;
		tally->skipped += patcher->tally.updated;
		return;
	}
	/* The rows of a slow page are counted when they are moved. */
	if (outcome == PAGE_DONE)
		tally->rows += patcher->tally.rows;
	tally->values += patcher->slow ? patcher->n : patcher->tally.values;
	tally->updated += patcher->tally.updated;
}

Bitmapset *
phi_patch_blocks(PhiTable *table, const PhiTarget *target, BlockNumber first,
				 BlockNumber last, bool patient, PhiTally *tally)
{
	int			natts = RelationGetDescr(table->rel)->natts;
	MemoryContext page_context = AllocSetContextCreate(CurrentMemoryContext, "pg_phi page",
													   ALLOCSET_DEFAULT_SIZES);
	Patcher    *patcher = palloc(sizeof(Patcher));
	Bitmapset  *slow = NULL;

	patcher->table = table;
	patcher->target = target;
	patcher->values = palloc(natts * sizeof(Datum));
	patcher->nulls = palloc(natts * sizeof(bool));
	patcher->room = 64;
	patcher->patches = palloc(patcher->room * sizeof(Patch));
	last = Min(last, RelationGetNumberOfBlocks(table->rel));	/* truncated meanwhile */
	for (BlockNumber block = first; block < last; block++)
	{
		MemoryContext old = MemoryContextSwitchTo(page_context);
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = patch_block(patcher, block);
		MemoryContextSwitchTo(old);
		MemoryContextReset(page_context);
		if (outcome == PAGE_BUSY && !patient)
		{
			/* Nothing was done here; old versions may stay on the page. */
			patcher->n = 0;
			patcher->slow = true;
			patcher->tally.updated = 0;
			outcome = PAGE_SLOW;
		}
		add_tally(tally, patcher, outcome);
		if (outcome == PAGE_SLOW)
			slow = bms_add_member(slow, block - first);
	}
	MemoryContextDelete(page_context);
	return slow;
}
