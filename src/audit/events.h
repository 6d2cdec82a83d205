/*
 * events.h
 *		Records of what is no change of a row: commands, rights, roles, settings.
 */
#ifndef PHI_AUDIT_EVENTS_H
#define PHI_AUDIT_EVENTS_H

#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"

/*
 * phi_audit_write() for an event, if there is a log: also in a transaction that
 * is read only, for it is not the session that writes.
 */
extern void phi_audit_event_write(const char *operation, const char *relation,
								  const char *detail);

/*
 * Until the end names are quoted only where SQL needs it, also by functions of the
 * server, so that whoever is recorded has no say in how; an error ends it, too.
 */
extern int	phi_plain_names(void);
extern void phi_plain_names_end(int level);

/*
 * protected.c: whether commands on an object are recorded, and its name: of the
 * relation that it is or belongs to, or else "<kind> <name>".  Both as of now.
 */
typedef struct PhiSubject
{
	Oid			relid;			/* InvalidOid when it is of no relation */
	ObjectAddress object;
	char	   *name;			/* NULL when it is not there, or not yet */
	bool		counts;
} PhiSubject;

extern PhiSubject phi_subject(Oid class, Oid object);
extern bool phi_is_our_trigger(Oid trigger);

/* A command that runs, whoever runs it. */
typedef struct PhiFrame
{
	uint64		number;
	Node	   *command;
	const char *tag;
	bool		is_definition;
} PhiFrame;

/* touched.c: the innermost; restored on the way out, by return or by error. */
extern PhiFrame *phi_frame;

/* Notes that the command touched an object. */
extern void phi_touch(ObjectAccessType access, Oid class, Oid object, int sub);

/* Writes what this command, and any after it, touched; 0: all. */
extern void phi_write_touched(uint64 from);
extern void phi_forget_touched(void);

/* Whether a command changes no definition, or none that is worth a record. */
extern bool phi_is_upkeep(Node *command);

/* Whether the extension's own script runs: one record tells of the whole. */
extern bool phi_in_own_script(void);
extern void phi_touched_init(void);

/* describe.c: what a command does, or NULL: no expressions, no constants. */
extern char *phi_describe_definition(Node *command);

/*
 * rights.c: true for a command on rights, roles, their settings or the extension
 * itself, each of which is recorded.  *relation: the only one that it names.
 */
extern bool phi_describe_rights(Node *command, StringInfo detail, char **relation);

/* Parts of details; those of items can be told as a list. */
extern void phi_add_name(StringInfo out, const char *name);
extern void phi_add_relation(StringInfo out, const RangeVar *relation);
extern void phi_add_role(StringInfo out, const void *item);
extern void phi_add_object(StringInfo out, const void *object);
extern void phi_add_list(StringInfo out, List *items, void (*add) (StringInfo, const void *));

/* watch.c: notices that the role or a superuser's setting is another than last. */
extern void phi_watch(void);
extern void phi_watch_init(void);

/* Whether values of a setting may be told. */
extern bool phi_may_tell_setting(const char *name);

extern void phi_events_init(void);

#endif							/* PHI_AUDIT_EVENTS_H */
