/*
 * copies.c
 *		Copies of values in btree indexes: src/value/order.c says which those are.
 *
 * Entries of dead rows and the keys in upper pages name what was there before,
 * and a search compares them.  So the pages themselves are read.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/rel.h"

#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_index_names_keys);

static bool
tuple_names_keys(Relation index, IndexTuple tuple, const int32 *keys, int n)
{
	TupleDesc	desc = RelationGetDescr(index);
	int			natts = BTreeTupleGetNAtts(tuple, index);

	for (int i = 0; i < natts; i++)
	{
		bool		isnull;
		Datum		value = index_getattr(tuple, i + 1, desc, &isnull);
		int32		typmod;
		const PhiType *type = phi_type_within(TupleDescAttr(desc, i)->atttypid, &typmod);
		PhiHead		head;

		if (isnull || type == NULL || !phi_read_head(type, value, &head))
			continue;
		for (int k = 0; k < n; k++)
		{
			if (keys[k] == head.key_id)
				return true;
		}
	}
	return false;
}

static bool
page_names_keys(Relation index, Page page, const int32 *keys, int n)
{
	OffsetNumber last;

	if (PageIsNew(page) || P_ISDELETED(BTPageGetOpaque(page)) || P_ISMETA(BTPageGetOpaque(page)))
		return false;
	last = PageGetMaxOffsetNumber(page);
	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		if (tuple_names_keys(index, (IndexTuple) PageGetItem(page, PageGetItemId(page, i)),
							 keys, n))
			return true;
	}
	return false;
}

/*
 * phi.index_names_keys(index oid, key_ids int[]) returns boolean; NULL: there is
 * no such btree index (any more)
 */
Datum
phi_index_names_keys(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	const int32 *keys = (const int32 *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	Relation	index = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	bool		found = false;

	if (index == NULL)
		PG_RETURN_NULL();
	if (index->rd_rel->relkind != RELKIND_INDEX || index->rd_rel->relam != BTREE_AM_OID ||
		ARR_HASNULL(array))
	{
		relation_close(index, AccessShareLock);
		PG_RETURN_NULL();
	}
	for (BlockNumber block = 0; block < RelationGetNumberOfBlocks(index) && !found; block++)
	{
		Buffer		buffer = ReadBuffer(index, block);

		CHECK_FOR_INTERRUPTS();
		LockBuffer(buffer, BT_READ);
		found = page_names_keys(index, BufferGetPage(buffer), keys, n);
		UnlockReleaseBuffer(buffer);
	}
	relation_close(index, AccessShareLock);
	PG_RETURN_BOOL(found);
}
