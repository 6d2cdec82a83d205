/*
 * index.c
 *		What search_key.sql needs from C.
 */
#include "postgres.h"

#include "catalog/index.h"
#include "fmgr.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(phi_invalidate_index);

/*
 * phi.invalidate_index(oid) returns void
 *
 * As when DROP INDEX CONCURRENTLY begins.  Plans that are cached must go, too:
 * the executor does not ask again.
 */
Datum
phi_invalidate_index(PG_FUNCTION_ARGS)
{
	Oid			index = PG_GETARG_OID(0);
	Oid			table = IndexGetRelation(index, false);

	index_set_state_flags(index, INDEX_DROP_CLEAR_VALID);
	CacheInvalidateRelcacheByRelid(table);
	PG_RETURN_VOID();
}
