/*
 * entries.c
 *		Index entries for a row that was written below the executor.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/rel.h"

#include "audit/audit.h"
#include "compat.h"

/* Whatever indexes there are. */
void
phi_insert_index_entries(Relation partition, HeapTuple tuple)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(partition), &TTSOpsHeapTuple);

	InitResultRelInfo(result, partition, 1, NULL, 0);
	ExecOpenIndices(result, false);
	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(partition);
	if (result->ri_NumIndices > 0)
		list_free(PhiInsertNewIndexTuples(result, slot, estate));
	ExecCloseIndices(result);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}
