/*
 * table.h
 *		What writing records of a table's changes takes, kept per process.
 */
#ifndef PHI_AUDIT_TABLE_H
#define PHI_AUDIT_TABLE_H

#include "access/htup.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "audit/digest.h"
#include "audit/history.h"

typedef struct PhiKeyColumn
{
	int			column;			/* number in the digester */
	FmgrInfo	out;
} PhiKeyColumn;

typedef struct PhiAuditedTable
{
	Oid			relid;			/* hash key, must be first */
	bool		valid;			/* until something that it was made of changes */
	MemoryContext context;
	Oid			root;			/* of a partition; else the table itself */
	char	   *name;			/* the root's, schema-qualified and quoted */
	PhiDigester *digester;
	int			key_columns;	/* of the primary key; 0: none */
	PhiKeyColumn *key;
	bool		key_needs_settings; /* its text depends on settings such as DateStyle */
	PhiHistory *history;		/* NULL: none is kept */
} PhiAuditedTable;

/*
 * As it is now; "function" is that of its triggers.  It stays where it is;
 * what it points to, until the end of the transaction.
 */
extern PhiAuditedTable *phi_audited_table(Relation rel, Oid function);

/* The same by looking for the trigger; NULL: there is none. */
extern PhiAuditedTable *phi_find_audited_table(Relation rel);

/*
 * Quoted where SQL needs it, whatever quote_all_identifiers says: records are
 * found by their names.  palloc'ed; without a schema it is left out.
 */
extern char *phi_qualified_name(const char *schema, const char *name);

/* Schema-qualified, as above. */
extern char *phi_relation_name(Oid relid);

extern void phi_audited_tables_init(void);

/* Whether a table has the trigger of histories, which phi.audit() alone can give it. */
extern bool phi_refuses_insert(Relation rel);

#endif							/* PHI_AUDIT_TABLE_H */
