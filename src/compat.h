/*
 * compat.h
 *		Differences between PostgreSQL 14 and 18; the only file that tests
 *		PG_VERSION_NUM.
 */
#ifndef PHI_COMPAT_H
#define PHI_COMPAT_H

#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "utils/guc.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Settings that begin with "phi." and are unknown are refused from 15 on. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* From 15 on shared memory is asked for in a hook. */
#if PG_VERSION_NUM >= 150000
#define PHI_SHMEM_REQUEST_HOOK
#endif

/* The "extra" of a check hook is malloc'ed until 15, guc_malloc'ed from 16. */
#if PG_VERSION_NUM < 160000
#define phi_guc_malloc(size) malloc(size)
#define phi_guc_free(ptr) free(ptr)
#else
#define phi_guc_malloc(size) guc_malloc(LOG, size)
#define phi_guc_free(ptr) guc_free(ptr)
#endif

/* ExecutorRun lost its last argument in 18. */
#if PG_VERSION_NUM < 180000
#define PHI_RUN_PARAMETER , bool once
#define PHI_RUN_ARGUMENT , once
#else
#define PHI_RUN_PARAMETER
#define PHI_RUN_ARGUMENT
#endif

/* Since 16 an update tells which indexes want the new row. */
#if PG_VERSION_NUM < 160000
#define PhiUpdateIndexes bool
#define PhiIndexesAreDue(indexes) (indexes)
#define PhiInsertIndexTuples(result, slot, estate, indexes) \
	ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL)
#else
#define PhiUpdateIndexes TU_UpdateIndexes
#define PhiIndexesAreDue(indexes) ((indexes) != TU_None)
#define PhiInsertIndexTuples(result, slot, estate, indexes) \
	ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL, \
						  (indexes) == TU_Summarizing)
#endif

/* For rows that are new. */
#if PG_VERSION_NUM < 160000
#define PhiInsertNewIndexTuples(result, slot, estate) \
	ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL)
#else
#define PhiInsertNewIndexTuples(result, slot, estate) \
	ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL, false)
#endif

/* A relation's file had another name until 16. */
#if PG_VERSION_NUM < 160000
#define PhiSetNewFile(rel) RelationSetNewRelfilenode(rel, (rel)->rd_rel->relpersistence)
#define PhiLastNewFile rd_newRelfilenodeSubid
#define PhiFirstNewFile rd_firstRelfilenodeSubid
#else
#define PhiSetNewFile(rel) RelationSetNewRelfilenumber(rel, (rel)->rd_rel->relpersistence)
#define PhiLastNewFile rd_newRelfilelocatorSubid
#define PhiFirstNewFile rd_firstRelfilelocatorSubid
#endif

/* MERGE came with 15. */
#if PG_VERSION_NUM < 150000
#define PhiMergeActions(query) NIL
#define PhiMergeTargets(action) NIL
#else
#define PhiMergeActions(query) ((query)->mergeActionList)
#define PhiMergeTargets(action) (((MergeAction *) (action))->targetList)
#endif

/* The WAL record of a pruning that removes nothing; see rekey/patch.c. */
#if PG_VERSION_NUM < 170000
#define PHI_PRUNE_RECORD XLOG_HEAP2_PRUNE
#define PHI_EMPTY_PRUNE {0}
#else
#define PHI_PRUNE_RECORD XLOG_HEAP2_PRUNE_ON_ACCESS
#define PHI_EMPTY_PRUNE {.flags = XLHP_CLEANUP_LOCK}
#endif

/* Where the executor looks up which columns an UPDATE sets. */
#if PG_VERSION_NUM < 160000
#define PhiInitRangeTable(estate, rte, columns) \
	((rte)->updatedCols = (columns), \
	 ExecInitRangeTable(estate, list_make1(rte)))
#elif PG_VERSION_NUM < 180000
#define PhiInitRangeTable(estate, rte, columns) \
	do { \
		List	   *permissions = NIL; \
		addRTEPermissionInfo(&permissions, rte)->updatedCols = (columns); \
		ExecInitRangeTable(estate, list_make1(rte), permissions); \
	} while (0)
#else
#define PhiInitRangeTable(estate, rte, columns) \
	do { \
		List	   *permissions = NIL; \
		addRTEPermissionInfo(&permissions, rte)->updatedCols = (columns); \
		ExecInitRangeTable(estate, list_make1(rte), permissions, bms_make_singleton(1)); \
	} while (0)
#endif

/* A new heap names its access method from 15 on. */
#if PG_VERSION_NUM < 150000
#define PhiMakeNewHeap(rel, persistence) \
	make_new_heap(RelationGetRelid(rel), (rel)->rd_rel->reltablespace, \
				  persistence, AccessExclusiveLock)
#else
#define PhiMakeNewHeap(rel, persistence) \
	make_new_heap(RelationGetRelid(rel), (rel)->rd_rel->reltablespace, \
				  (rel)->rd_rel->relam, persistence, AccessExclusiveLock)
#endif

#if PG_VERSION_NUM < 150000
#define PhiMakeShadow(rel) \
	make_new_heap(RelationGetRelid(rel), (rel)->rd_rel->reltablespace, \
				  (rel)->rd_rel->relpersistence, ShareRowExclusiveLock)
#else
#define PhiMakeShadow(rel) \
	make_new_heap(RelationGetRelid(rel), (rel)->rd_rel->reltablespace, (rel)->rd_rel->relam, \
				  (rel)->rd_rel->relpersistence, ShareRowExclusiveLock)
#endif

/* A function that returns a set found its words in 15. */
#if PG_VERSION_NUM < 150000
#define InitMaterializedSRF(fcinfo, flags) phi_init_materialized(fcinfo)
#endif

/* The process whose temporary schema it is; 0: it is gone. */
#if PG_VERSION_NUM < 170000
#define PhiTempOwner(schema) phi_pid_of(BackendIdGetProc(GetTempNamespaceBackendId(schema)))
#else
#define PhiTempOwner(schema) phi_pid_of(ProcNumberGetProc(GetTempNamespaceProcNumber(schema)))
#endif
#define phi_pid_of(proc) ((proc) != NULL ? (proc)->pid : 0)

/* Where ANALYZE keeps a column's statistics target moved in 17. */
#if PG_VERSION_NUM < 170000
#define PhiStatisticsTarget(stats) ((stats)->attr->attstattarget)
#else
#define PhiStatisticsTarget(stats) ((stats)->attstattarget)
#endif

/* The columns that an UPDATE sets moved to the permissions in 16. */
#if PG_VERSION_NUM < 160000
#define PhiUpdatedColumns(plan, rte) ((rte)->updatedCols)
#else
#define PhiUpdatedColumns(plan, rte) \
	((rte)->perminfoindex == 0 ? NULL : \
	 getRTEPermissionInfo((plan)->permInfos, rte)->updatedCols)
#endif

/* Checks of ownership were made one in 16. */
#if PG_VERSION_NUM < 160000
#define PhiOwnsTable(table, role) pg_class_ownercheck(table, role)
#else
#define PhiOwnsTable(table, role) object_ownercheck(RelationRelationId, table, role)
#endif

/* This process's number below MaxBackends, one of its own; 14 counts late. */
#if PG_VERSION_NUM < 170000
#define PhiProcNumber() (MyProc->pgprocno)
#else
#define PhiProcNumber() (MyProcNumber)
#endif
#if PG_VERSION_NUM < 150000
#define PhiMaxBackends() (MaxBackends > 0 ? MaxBackends : MaxConnections + \
	autovacuum_max_workers + max_worker_processes + max_wal_senders + 1)
#else
#define PhiMaxBackends() (MaxBackends)
#endif

/* Databases whose DROP DATABASE was interrupted are marked since the minor releases of August 2023. */
#ifdef DATCONNLIMIT_INVALID_DB
#define PhiInvalidDatabase(form) database_is_invalid_form(form)
#else
#define PhiInvalidDatabase(form) false
#endif

/* How a backend is told to read its invalidation messages. */
#if PG_VERSION_NUM < 170000
#define PhiSendCatchup(pid) SendProcSignal(pid, PROCSIG_CATCHUP_INTERRUPT, InvalidBackendId)
#else
#define PhiSendCatchup(pid) SendProcSignal(pid, PROCSIG_CATCHUP_INTERRUPT, INVALID_PROC_NUMBER)
#endif

/* The local transaction id moved in 17. */
#if PG_VERSION_NUM < 170000
#define PhiLocalXid() (MyProc->lxid)
#else
#define PhiLocalXid() (MyProc->vxid.lxid)
#endif

/* What memberships are granted with is a list from 16 on. */
#if PG_VERSION_NUM < 160000
#define PhiMembershipOptions(stmt) \
	((stmt)->admin_opt ? list_make1(makeDefElem("admin", NULL, -1)) : NIL)
#else
#define PhiMembershipOptions(stmt) ((stmt)->opt)
#endif

/* Rights on settings came with 15. */
#if PG_VERSION_NUM >= 150000
#define PHI_PARAMETER_RIGHTS
#endif

/* All settings, of which there are *n. */
#if PG_VERSION_NUM < 160000
#define PhiSettings(n) (*(n) = GetNumConfigOptions(), get_guc_variables())
#else
#define PhiSettings(n) get_guc_variables(n)
#endif

#endif							/* PHI_COMPAT_H */
