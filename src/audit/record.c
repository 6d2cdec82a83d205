/*
 * record.c
 *		Writing records into the audit log.
 *
 * A record goes into the partition of its month as the server writes its own
 * catalogues: who is recorded needs no right on the log, and with rights he
 * could not write it.  The columns are those of phi.audit_log, in audit/log.sql.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inet.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "audit/audit.h"
#include "audit/log.h"
#include "audit/table.h"
#include "audit/events.h"
#include "audit/worker.h"
#include "compat.h"
#include "keys/login.h"
#include "keys/scan.h"
#include "session/session.h"

#define LOG_TABLE "audit_log"
#define STATE_TABLE "audit_state"
#define STATE_INDEX "audit_state_pkey"
#define STATE_SYSTEM 2
#define RECORD_IDS "audit_record_id"
#define IDS_AT_ONCE 64			/* the sequence's increment */

enum
{
	COL_RECORD_ID,
	COL_AT,
	COL_XACT_AT,
	COL_XACT,
	COL_LOGIN,
	COL_SESSION_ROLE,
	COL_ACTING_ROLE,
	COL_PERSON,
	COL_CLIENT_ADDR,
	COL_APPLICATION_NAME,
	COL_CLINIC,
	COL_RELATION,
	COL_ROW_KEY,
	COL_OPERATION,
	COL_COLUMNS,
	COL_DIGEST_KEY,
	COL_OLD_DIGEST,
	COL_NEW_DIGEST,
	COL_DETAIL,
	COLUMNS
};

/* The partition that was written to last. */
static struct
{
	bool		valid;
	bool		indexes_known;
	Oid			log;
	Oid			oid;
	TimestampTz from;			/* inclusive */
	TimestampTz to;				/* exclusive */
	Oid			index;			/* its only one; 0: others want entries, too */
	IndexInfo  *index_info;
}			month = {0};

/* Names of roles, as last looked up. */
typedef struct RoleName
{
	Oid			role;
	text	   *name;
} RoleName;

static RoleName login_name = {0};
static RoleName session_name = {0};
static RoleName acting_name = {0};

/* Whether the log is open, as phi.audit_state was last seen. */
static struct
{
	bool		known;
	bool		is_open;
}			state = {false, false};

static Oid	ids_from = InvalidOid;	/* the sequence that the ids below come from */
static int64 next_id = 0;
static int64 ids_end = 0;
static uint64 written = 0;		/* in this transaction */

/* The log of this database in this cluster: a copy of it elsewhere is another log. */
char *
phi_audit_system_name(void)
{
	return psprintf("%llu/%u", (unsigned long long) GetSystemIdentifier(), MyDatabaseId);
}

static void
read_state(void)
{
	PhiScan		scan;
	HeapTuple	tuple;
	bool		isnull;

	if (!phi_scan_begin(&scan, STATE_TABLE, STATE_INDEX, 0, NULL))
	{
		/* Nobody tells when a table comes that was never seen. */
		state.known = false;
		return;
	}
	tuple = phi_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
	{
		char	   *system = TextDatumGetCString(phi_scan_column(&scan, tuple, STATE_SYSTEM, &isnull));

		state.is_open = strcmp(system, phi_audit_system_name()) == 0;
	}
	phi_scan_end(&scan);
}

/* What could not be read is not known: nothing must go unrecorded by an error. */
static bool
is_open(void)
{
	if (state.known)
		return state.is_open;
	state.known = true;			/* until a message says that it has changed */
	state.is_open = false;
	PG_TRY();
	{
		read_state();
	}
	PG_CATCH();
	{
		state.known = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return state.is_open;
}

bool
phi_audit_ready(void)
{
	return !IsBootstrapProcessingMode() && !IsBinaryUpgrade && !RecoveryInProgress() &&
		OidIsValid(MyDatabaseId) && IsTransactionState() &&
		OidIsValid(phi_relation_oid(LOG_TABLE)) && is_open();
}

static int64
next_record_id(void)
{
	Oid			sequence = phi_relation_oid(RECORD_IDS);

	if (next_id == ids_end || sequence != ids_from)
	{
		if (!OidIsValid(sequence))
			elog(ERROR, "sequence phi.%s is missing", RECORD_IDS);
		next_id = nextval_internal(sequence, false);
		ids_end = next_id + IDS_AT_ONCE;
		ids_from = sequence;
	}
	return next_id++;
}

/* Kept until the role, or any other, changes. */
static Datum
name_of(RoleName *known, Oid role)
{
	if (known->name == NULL || known->role != role)
	{
		char	   *name = GetUserNameFromId(role, true);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (known->name != NULL)
			pfree(known->name);
		known->name = NULL;
		/* A role that was dropped while it worked. */
		known->name = cstring_to_text(name != NULL ? name : psprintf("%u", role));
		known->role = role;
		MemoryContextSwitchTo(old);
	}
	return PointerGetDatum(known->name);
}

static void
forget_names(Datum arg, int cacheid, uint32 hashvalue)
{
	login_name.role = session_name.role = acting_name.role = InvalidOid;
}

static void
forget_tables(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == month.log || relid == month.oid)
		month.valid = false;
	if (phi_concerns(relid, STATE_TABLE))
		state.known = false;
}

/* If its only index is ours, entries can be made without an executor. */
static void
look_at_indexes(Relation partition)
{
	List	   *indexes = RelationGetIndexList(partition);
	MemoryContext old;

	/* Values go by their places: in other columns they would be garbage. */
	if (!phi_audit_columns_fit(RelationGetRelid(partition)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has not the columns of the audit log",
						RelationGetRelationName(partition))));
	month.index = InvalidOid;
	if (list_length(indexes) == 1)
	{
		Relation	index = index_open(linitial_oid(indexes), RowExclusiveLock);

		old = MemoryContextSwitchTo(TopMemoryContext);
		if (month.index_info != NULL)
			pfree(month.index_info);
		month.index_info = NULL;
		month.index_info = BuildIndexInfo(index);
		MemoryContextSwitchTo(old);
		if (index->rd_rel->relam == BTREE_AM_OID && month.index_info->ii_NumIndexAttrs == 2 &&
			month.index_info->ii_IndexAttrNumbers[0] == COL_XACT + 1 &&
			month.index_info->ii_IndexAttrNumbers[1] == COL_RECORD_ID + 1 &&
			month.index_info->ii_Expressions == NIL && month.index_info->ii_Predicate == NIL)
			month.index = linitial_oid(indexes);
		index_close(index, NoLock);
	}
	list_free(indexes);
	month.indexes_known = true;
}

/* The times between two bounds; those that no month has are the default's. */
static void
read_bounds(PartitionBoundInfo bounds, int below, TimestampTz *from, TimestampTz *to)
{
	*from = DT_NOBEGIN;
	*to = DT_NOEND;
	if (below >= 0 && bounds->kind[below][0] == PARTITION_RANGE_DATUM_VALUE)
		*from = DatumGetTimestampTz(bounds->datums[below][0]);
	if (below + 1 < bounds->ndatums && bounds->kind[below + 1][0] == PARTITION_RANGE_DATUM_VALUE)
		*to = DatumGetTimestampTz(bounds->datums[below + 1][0]);
}

/* The partition's bounds tell until when it can be used without another look. */
static Oid
find_partition(Relation log, TimestampTz at, TimestampTz *from, TimestampTz *to)
{
	PartitionKey key = RelationGetPartitionKey(log);
	PartitionDesc parts = RelationGetPartitionDesc(log, false);
	PartitionBoundInfo bounds = parts->boundinfo;
	Datum		value = TimestampTzGetDatum(at);
	bool		equal;
	int			below;
	int			part;

	if (bounds == NULL)
		return InvalidOid;
	below = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, bounds, 1,
										  &value, &equal);
	part = bounds->indexes[below + 1];
	read_bounds(bounds, below, from, to);
	if (part < 0)
		part = bounds->default_index;
	return part < 0 ? InvalidOid : parts->oids[part];
}

static void
look_up_partition(TimestampTz at)
{
	Relation	log = table_open(phi_relation_oid(LOG_TABLE), AccessShareLock);

	month.log = RelationGetRelid(log);
	month.valid = true;			/* until a message says that something changed */
	month.indexes_known = false;
	month.oid = find_partition(log, at, &month.from, &month.to);
	table_close(log, AccessShareLock);
	if (!OidIsValid(month.oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log has no partition for this month"),
				 errhint("Attach phi.audit_log_default to phi.audit_log again.")));
}

/*
 * Opens the partition for a record of the time.  Whatever happens to it between
 * the look-up and the lock invalidates what was found.
 */
static Relation
open_partition(TimestampTz at)
{
	for (;;)
	{
		Relation	partition;

		if (!month.valid || at < month.from || at >= month.to)
			look_up_partition(at);
		partition = try_table_open(month.oid, RowExclusiveLock);
		if (partition != NULL && month.valid)
		{
			if (!month.indexes_known)
				look_at_indexes(partition);
			return partition;
		}
		if (partition != NULL)
			table_close(partition, NoLock);
		month.valid = false;
	}
}

/* The client's address; NULL on a socket of the same machine. */
static Datum
client_address(bool *isnull)
{
	static inet *address = NULL;
	static bool known = false;

	if (!known && MyProcPort != NULL)
	{
		LOCAL_FCINFO(fcinfo, 0);
		Datum		found;

		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		found = inet_client_addr(fcinfo);
		if (!fcinfo->isnull)
		{
			Size		len = VARSIZE_ANY(DatumGetPointer(found));

			address = MemoryContextAlloc(TopMemoryContext, len);
			memcpy(address, DatumGetPointer(found), len);
		}
		known = true;
	}
	*isnull = address == NULL;
	return PointerGetDatum(address);
}

static void
put_text(Datum *values, bool *nulls, int column, const char *string)
{
	nulls[column] = string == NULL || string[0] == '\0';
	if (!nulls[column])
		values[column] = CStringGetTextDatum(string);
}

static void
put_datum(Datum *values, bool *nulls, int column, Datum datum)
{
	nulls[column] = datum == (Datum) 0;
	values[column] = datum;
}

static void
put_digest(Datum *values, bool *nulls, int column, const uint8 *digest)
{
	nulls[column] = digest == NULL;
	if (digest != NULL)
		values[column] = PointerGetDatum(phi_make_bytea(digest, PHI_DIGEST_SIZE));
}

static void
fill_in(Datum *values, bool *nulls, TimestampTz at)
{
	const PhiSession *session = phi_session();
	Oid			login = GetAuthenticatedUserId();

	values[COL_RECORD_ID] = Int64GetDatum(next_record_id());
	values[COL_AT] = TimestampTzGetDatum(at);
	values[COL_XACT_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[COL_XACT] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[COL_LOGIN] = name_of(&login_name, OidIsValid(login) ? login : GetSessionUserId());
	values[COL_SESSION_ROLE] = name_of(&session_name, GetSessionUserId());
	values[COL_ACTING_ROLE] = name_of(&acting_name, GetUserId());
	nulls[COL_PERSON] = true;
	values[COL_CLIENT_ADDR] = client_address(&nulls[COL_CLIENT_ADDR]);
	put_text(values, nulls, COL_APPLICATION_NAME, application_name);
	put_text(values, nulls, COL_CLINIC, session != NULL ? session->code : NULL);
}

static void
insert(Relation partition, Datum *values, bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(partition), values, nulls);

	simple_heap_insert(partition, tuple);
	if (OidIsValid(month.index))
	{
		Relation	index = index_open(month.index, RowExclusiveLock);
		Datum		keys[2] = {values[COL_XACT], values[COL_RECORD_ID]};
		bool		no_nulls[2] = {false, false};

		index_insert(index, keys, no_nulls, &tuple->t_self, partition, UNIQUE_CHECK_NO, false,
					 month.index_info);
		index_close(index, NoLock);
	}
	else
		phi_insert_index_entries(partition, tuple);
}

int64
phi_audit_write(const PhiAuditRecord *record)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};
	TimestampTz at = GetCurrentTimestamp();
	int64		id;
	Relation	partition;

	if (!is_open())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log of this database is not open"),
				 errdetail("It came with a dump or a copy of another database."),
				 errhint("When all of it is there, have a superuser call phi.resume_audit().")));
	fill_in(values, nulls, at);
	id = DatumGetInt64(values[COL_RECORD_ID]);
	put_text(values, nulls, COL_RELATION, record->relation);
	put_datum(values, nulls, COL_ROW_KEY, record->row_key);
	put_text(values, nulls, COL_OPERATION, record->operation);
	put_datum(values, nulls, COL_COLUMNS, record->columns);
	nulls[COL_DIGEST_KEY] = record->digest_key == 0;
	values[COL_DIGEST_KEY] = Int32GetDatum(record->digest_key);
	put_digest(values, nulls, COL_OLD_DIGEST, record->old_digest);
	put_digest(values, nulls, COL_NEW_DIGEST, record->new_digest);
	put_text(values, nulls, COL_DETAIL, record->detail);
	partition = open_partition(at);
	insert(partition, values, nulls);
	table_close(partition, NoLock);
	written++;
	return id;
}

/* The worker counts committed records only to know that there is something to do. */
static void
at_end(XactEvent event, void *arg)
{
	if (written > 0 && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE))
		phi_audit_note_written(written);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		written = 0;
}

void
phi_audit_init(void)
{
	RegisterXactCallback(at_end, NULL);
	CacheRegisterRelcacheCallback(forget_tables, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_names, (Datum) 0);
	phi_audited_tables_init();
	phi_audit_worker_init();
	phi_events_init();
}
