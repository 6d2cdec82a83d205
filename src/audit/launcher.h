/*
 * launcher.h
 *		What the launcher tells a worker of a database, and what it hears back.
 */
#ifndef PHI_AUDIT_LAUNCHER_H
#define PHI_AUDIT_LAUNCHER_H

#include "catalog/pg_control.h"
#include "datatype/timestamp.h"

/* What a worker does; each has its own time, and its own pauses after failures. */
typedef enum PhiChore
{
	PHI_CHORE_PASS,				/* events of the server, sequencing, checkpoint */
	PHI_CHORE_EXPORT,			/* phi.checkpoint_command */
	PHI_CHORE_PARTITIONS,
	PHI_CHORE_CAPACITY
} PhiChore;

#define PHI_CHORES (PHI_CHORE_CAPACITY + 1)
#define PHI_BIT(chore) (1u << (chore))

typedef struct PhiAuditOrder
{
	Oid			database;
	int			desk;
	uint32		token;
	uint32		chores;			/* bits */
	bool		thorough;		/* PARTITIONS: records in the default partition are moved, too */
} PhiAuditOrder;

/*
 * Which chores failed and which are to be done again soon; "worked" is false
 * where there was no log to look after.
 */
extern void phi_audit_report(const PhiAuditOrder *order, uint32 failed, uint32 again, bool worked);

/* This start of the server, and what pg_control said of the time before it. */
typedef struct PhiServerStart
{
	TimestampTz at;
	DBState		before;
	pg_time_t	before_at;
} PhiServerStart;

extern const PhiServerStart *phi_server_start(void);

/* Entry points of background processes. */
extern PGDLLEXPORT void phi_audit_launcher_main(Datum arg);
extern PGDLLEXPORT void phi_audit_worker_main(Datum arg);

#endif							/* PHI_AUDIT_LAUNCHER_H */
