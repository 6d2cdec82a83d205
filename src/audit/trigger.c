/*
 * trigger.c
 *		The triggers that record what is done to the rows of a table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "audit/audit.h"
#include "audit/table.h"
#include "compat.h"
#include "value/value.h"

PG_FUNCTION_INFO_V1(phi_audit_change);

#define KEY_DIGEST_HEX 32		/* digits of an encrypted key column's digest */

/* A version of a row. */
typedef struct Version
{
	Datum	   *values;
	bool	   *nulls;
	PhiRowBytes *bytes;
} Version;

static PhiRowBytes old_bytes = {0};
static PhiRowBytes new_bytes = {0};

static void
read_version(Version *version, HeapTuple tuple, TupleDesc desc, PhiRowBytes *bytes)
{
	version->values = palloc(desc->natts * sizeof(Datum));
	version->nulls = palloc(desc->natts * sizeof(bool));
	version->bytes = bytes;
	heap_deform_tuple(tuple, desc, version->values, version->nulls);
}

/* As "digest:" and the first digits of the digest of the column's item. */
static Datum
encrypted_key_text(const Version *version, int column, PhiSecret *secret)
{
	uint8		digest[PHI_DIGEST_SIZE];
	char		text[sizeof("digest:") + 2 * PHI_DIGEST_SIZE] = "digest:";

	phi_compute_digest(secret, phi_row_item(version->bytes, column), digest);
	phi_hex_encode(digest, KEY_DIGEST_HEX / 2, text + strlen(text));
	return CStringGetTextDatum(text);
}

static Datum
key_of(PhiAuditedTable *table, const Version *version, PhiSecret *secret)
{
	Datum		texts[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS] = {false};
	int			lower = 1;

	for (int i = 0; i < table->key_columns; i++)
	{
		PhiKeyColumn *key = &table->key[i];
		Datum		value = version->values[phi_digester_attnum(table->digester, key->column) - 1];

		if (!phi_digester_is_encrypted(table->digester, key->column))
			texts[i] = CStringGetTextDatum(OutputFunctionCall(&key->out, value));
		else if (secret != NULL)
			texts[i] = encrypted_key_text(version, key->column, secret);
		else
			nulls[i] = true;
	}
	return PointerGetDatum(construct_md_array(texts, nulls, 1, &table->key_columns, &lower,
											  TEXTOID, -1, false, TYPALIGN_INT));
}

/* The key as text[]; 0 without a primary key. */
static Datum
key_text(PhiAuditedTable *table, const Version *version, PhiSecret *secret)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "1"}, {"bytea_output", "hex"}
	};
	int			nest_level;
	Datum		key;

	if (table->key_columns == 0)
		return (Datum) 0;
	if (!table->key_needs_settings)
		return key_of(table, version, secret);
	nest_level = NewGUCNestLevel();
	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	key = key_of(table, version, secret);
	AtEOXact_GUC(true, nest_level);
	return key;
}

static Datum
names_of_changed(const PhiAuditedTable *table, const bool *changed)
{
	int			n = phi_digester_columns(table->digester);
	Datum	   *names = palloc(Max(n, 1) * sizeof(Datum));
	int			found = 0;

	for (int i = 0; i < n; i++)
	{
		if (changed[i])
			names[found++] = CStringGetTextDatum(phi_digester_name(table->digester, i));
	}
	return PointerGetDatum(construct_array(names, found, TEXTOID, -1, false, TYPALIGN_INT));
}

static bool
key_changed(const PhiAuditedTable *table, const bool *changed)
{
	for (int i = 0; i < table->key_columns; i++)
	{
		if (changed[table->key[i].column])
			return true;
	}
	return false;
}

/* What the log tells of a change, and what was found out on the way. */
typedef struct Change
{
	PhiAuditedTable *table;
	Version		old;			/* "values" NULL: there is none */
	Version		new;
	bool	   *changed;
	uint8		old_digest[PHI_DIGEST_SIZE];
	uint8		new_digest[PHI_DIGEST_SIZE];
	PhiAuditRecord record;
} Change;

static void
put_rows(Change *change)
{
	PhiDigester *digester = change->table->digester;

	change->changed = palloc0(phi_digester_columns(digester) * sizeof(bool));
	if (change->old.values != NULL)
		phi_digest_row(digester, change->old.values, change->old.nulls, change->old.bytes);
	if (change->old.values == NULL)
		phi_digest_row(digester, change->new.values, change->new.nulls, change->new.bytes);
	else if (change->new.values != NULL)
		phi_digest_new_row(digester, change->old.bytes, change->old.values, change->old.nulls,
						   change->new.values, change->new.nulls, change->new.bytes,
						   change->changed);
}

static void
put_digests(Change *change, PhiSecret *secret)
{
	PhiAuditRecord *record = &change->record;

	if (change->old.values != NULL)
	{
		PhiRowBytes *bytes = change->old.bytes;

		phi_compute_digest(secret, (PhiSpan) {bytes->data, bytes->len}, change->old_digest);
		record->old_digest = change->old_digest;
	}
	if (change->new.values != NULL)
	{
		PhiRowBytes *bytes = change->new.bytes;

		phi_compute_digest(secret, (PhiSpan) {bytes->data, bytes->len}, change->new_digest);
		record->new_digest = change->new_digest;
	}
}

/* A row that moves to another key can be followed. */
static char *
new_key_detail(Datum key)
{
	FmgrInfo	out;

	fmgr_info(F_ARRAY_OUT, &out);
	return psprintf("new key %s", OutputFunctionCall(&out, key));
}

/* What the change ended; without a state before it, that there was none. */
static void
keep_history(const Change *change, TriggerData *trigger, int64 record)
{
	PhiHistory *history = change->table->history;
	bool		ended = change->new.values == NULL;
	CommandId	command = phi_command_of(trigger->tg_relation,
										 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
										 trigger->tg_newtuple : trigger->tg_trigtuple, ended);
	TimestampTz until = phi_command_time(command);
	bool		moved = change->old.values != NULL && key_changed(change->table, change->changed);

	if (change->old.values != NULL)
		phi_keep_version(history, change->old.values, change->old.nulls,
						 ended || moved ? "DELETE" : "UPDATE", until, record);
	if (change->old.values == NULL || moved)
		phi_keep_version(history, change->new.values, change->new.nulls, "INSERT", until, record);
}

/* What is told of the plaintext; the rest is told by phi_audit_write. */
static void
put_plaintext(Change *change)
{
	PhiAuditRecord *record = &change->record;
	bool		is_update = change->old.values != NULL && change->new.values != NULL;
	PhiKey	   *key;
	PhiSecret  *secret = NULL;

	put_rows(change);
	key = phi_digest_key();
	if (key != NULL)
	{
		secret = phi_key_secret(key);
		record->digest_key = key->key_id;
		put_digests(change, secret);
	}
	record->relation = change->table->name;
	record->row_key = key_text(change->table,
							   change->old.values != NULL ? &change->old : &change->new, secret);
	if (is_update)
	{
		record->columns = names_of_changed(change->table, change->changed);
		if (key_changed(change->table, change->changed))
			record->detail = new_key_detail(key_text(change->table, &change->new, secret));
	}
}

static void
wipe_rows(void)
{
	phi_wipe_row(&old_bytes);
	phi_wipe_row(&new_bytes);
}

static void
record_change(Change *change, TriggerData *trigger)
{
	int64		id;

	PG_TRY();
	{
		put_plaintext(change);
	}
	PG_CATCH();
	{
		wipe_rows();
		PG_RE_THROW();
	}
	PG_END_TRY();
	wipe_rows();
	id = phi_audit_write(&change->record);
	if (change->table->history != NULL)
		keep_history(change, trigger, id);
}

/* With the history locked, so that it stays as it is described. */
static PhiAuditedTable *
ready_table(TriggerData *trigger)
{
	for (;;)
	{
		PhiAuditedTable *table = phi_audited_table(trigger->tg_relation, trigger->tg_trigger->tgfoid);

		if (table->history == NULL)
			return table;
		phi_check_history(table->history);
		LockRelationOid(phi_history_relation(table->history), RowExclusiveLock);
		if (table->valid)
			return table;
	}
}

static void
record_row(TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Change		change = {.table = ready_table(trigger)};

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		change.record.operation = "INSERT";
		read_version(&change.new, trigger->tg_trigtuple, desc, &new_bytes);
	}
	else
	{
		read_version(&change.old, trigger->tg_trigtuple, desc, &old_bytes);
		change.record.operation = "DELETE";
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		{
			change.record.operation = "UPDATE";
			read_version(&change.new, trigger->tg_newtuple, desc, &new_bytes);
		}
	}
	record_change(&change, trigger);
}

static void
record_truncate(TriggerData *trigger)
{
	Relation	rel = trigger->tg_relation;
	PhiAuditedTable *table = ready_table(trigger);
	PhiAuditRecord record = {.operation = "TRUNCATE", .relation = table->name};
	int64		id;

	if (table->root != RelationGetRelid(rel))
		record.detail = psprintf("partition %s", phi_relation_name(RelationGetRelid(rel)));
	id = phi_audit_write(&record);
	if (table->history != NULL && rel->rd_rel->relkind == RELKIND_RELATION)
		phi_keep_all(table->history, rel, id);
}

/* phi.audit_change() returns trigger; see rows.sql for its arguments */
Datum
phi_audit_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	MemoryContext context;
	MemoryContext old;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!(TRIGGER_FIRED_AFTER(trigger->tg_event) || TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"phi.audit_change\" is for the triggers of phi.audit() alone")));
	/* Of this call alone: an index of the history may have a function that changes rows. */
	context = AllocSetContextCreate(CurrentMemoryContext, "pg_phi audited row",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		record_row(trigger);
	else
		record_truncate(trigger);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return PointerGetDatum(NULL);
}
