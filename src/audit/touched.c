/*
 * touched.c
 *		What commands touch, noted by the object access hook, and its records.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "utils/memutils.h"

#include "audit/audit.h"
#include "audit/events.h"
#include "compat.h"

/* What a command touched, until it is written. */
typedef struct Touched
{
	uint64		number;			/* of the frame; 0: outside of any */
	PhiFrame   *frame;
	int			level;			/* of the subtransaction */
	PhiSubject	subject;
	ObjectAccessType access;
	bool		dropped;		/* itself, not a part of it */
	StringInfoData lost;		/* policies, and triggers of ours, that were dropped */
} Touched;

static object_access_hook_type prev_access = NULL;

PhiFrame   *phi_frame = NULL;

static List *touched = NIL;
static MemoryContext context = NULL;	/* of the list */

/* The extension's own script: one record tells of the command that runs it. */
bool
phi_in_own_script(void)
{
	return creating_extension && CurrentExtensionObject == get_extension_oid("pg_phi", true);
}

/* What changes no definition, or none that is worth a record. */
bool
phi_is_upkeep(Node *command)
{
	return IsA(command, VacuumStmt) || IsA(command, ReindexStmt) || IsA(command, ClusterStmt) ||
		IsA(command, RefreshMatViewStmt) || IsA(command, CommentStmt) || IsA(command, SecLabelStmt);
}

/* The last is the likeliest: the parts of a table are dropped one after the other. */
static Touched *
find_touched(uint64 number, const PhiSubject *subject)
{
	for (int i = list_length(touched) - 1; i >= 0; i--)
	{
		Touched    *t = list_nth(touched, i);

		if (t->number != number)
			continue;
		if (OidIsValid(subject->relid) ? t->subject.relid == subject->relid :
			t->subject.object.classId == subject->object.classId &&
			t->subject.object.objectId == subject->object.objectId)
			return t;
	}
	return NULL;
}

static Touched *
add_touched(ObjectAccessType access, const PhiSubject *subject)
{
	Touched    *t = palloc0(sizeof(Touched));

	t->number = phi_frame != NULL ? phi_frame->number : 0;
	t->frame = phi_frame;
	t->level = GetCurrentTransactionNestLevel();
	t->access = access;
	t->subject = *subject;
	initStringInfo(&t->lost);
	touched = lappend(touched, t);
	return t;
}

void
phi_touch(ObjectAccessType access, Oid class, Oid object, int sub)
{
	MemoryContext old;
	PhiSubject	subject;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pg_phi audit events", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	subject = phi_subject(class, object);
	/* What is dropped now cannot turn out to count later. */
	if (subject.counts || access != OAT_DROP)
	{
		Touched    *t = find_touched(phi_frame != NULL ? phi_frame->number : 0, &subject);

		if (t == NULL)
			t = add_touched(access, &subject);
		else if (!t->subject.counts)
			t->subject = subject;
		if (access == OAT_DROP && class == RelationRelationId && object == subject.relid && sub == 0)
			t->dropped = true;
		if (access == OAT_DROP && (class == PolicyRelationId ||
								   (class == TriggerRelationId && phi_is_our_trigger(object))))
			appendStringInfo(&t->lost, "; without %s", getObjectDescription(&subject.object, false));
	}
	MemoryContextSwitchTo(old);
}

static bool
is_internal(ObjectAccessType access, void *arg)
{
	switch (access)
	{
		case OAT_POST_CREATE:
			return arg != NULL && ((ObjectAccessPostCreate *) arg)->is_internal;
		case OAT_POST_ALTER:
			return arg != NULL && ((ObjectAccessPostAlter *) arg)->is_internal;
		case OAT_DROP:
			return arg != NULL && (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) != 0;
		default:
			return true;
	}
}

static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	int			names;

	if (prev_access)
		prev_access(access, class, object, sub, arg);
	if (is_internal(access, arg) || (phi_frame != NULL && phi_is_upkeep(phi_frame->command)) ||
		!phi_audit_ready() || phi_in_own_script())
		return;
	names = phi_plain_names();
	phi_touch(access, class, object, sub);
	if (access == OAT_POST_ALTER && class == InheritsRelationId)
		phi_touch(access, RelationRelationId, ((ObjectAccessPostAlter *) arg)->auxiliary_id, 0);
	phi_plain_names_end(names);
}

/* When it was a function's C code, there is no command to tell of. */
static const char *
operation_of(const Touched *t)
{
	if (t->frame != NULL && t->frame->is_definition)
		return t->frame->tag;
	switch (t->access)
	{
		case OAT_POST_CREATE:
			return "CREATE";
		case OAT_DROP:
			return "DROP";
		default:
			return "ALTER";
	}
}

/* DROP TRIGGER, or of a policy: no more than it says. */
static bool
names_parts(Node *command)
{
	const DropStmt *drop = (const DropStmt *) command;

	return IsA(command, DropStmt) && drop->behavior != DROP_CASCADE &&
		(drop->removeType == OBJECT_TRIGGER || drop->removeType == OBJECT_POLICY);
}

static void
write_touched(Touched *t)
{
	bool		has_command = t->frame != NULL && t->frame->is_definition;
	StringInfoData detail;
	char	   *what;

	if (!t->subject.counts || find_touched(t->number, &t->subject) != t)
		return;
	initStringInfo(&detail);
	if (!OidIsValid(t->subject.relid))
		appendStringInfoString(&detail, t->subject.name);
	what = has_command ? phi_describe_definition(t->frame->command) : NULL;
	if (what != NULL)
		appendStringInfo(&detail, "%s%s", detail.len > 0 ? ": " : "", what);
	else if (t->frame != NULL && !has_command)
		appendStringInfo(&detail, "%sby a function in %s", detail.len > 0 ? ": " : "", t->frame->tag);
	/* With something else that it depends on: else the command has named it. */
	if (!t->dropped && t->lost.len > 0 && !(has_command && names_parts(t->frame->command)))
		appendStringInfoString(&detail, t->lost.data + (detail.len > 0 ? 0 : 2));
	phi_audit_event_write(operation_of(t), OidIsValid(t->subject.relid) ? t->subject.name : NULL,
						  detail.data);
}

void
phi_forget_touched(void)
{
	touched = NIL;
	if (context != NULL)
		MemoryContextReset(context);
}

static void
write_from(uint64 from)
{
	ListCell   *cell;

	CommandCounterIncrement();	/* to see what was made */
	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		/* It was made, or became one that counts, meanwhile. */
		if (t->number >= from && !t->subject.counts)
			t->subject = phi_subject(t->subject.object.classId, t->subject.object.objectId);
	}
	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		if (t->number >= from)
			write_touched(t);
	}
}

/*
 * What the frame touched, and all that frames within it left: 0 is all.  Nothing
 * is left of it afterwards, for the frame goes.
 */
void
phi_write_touched(uint64 from)
{
	MemoryContext old;

	if (touched == NIL)
		return;
	old = MemoryContextSwitchTo(context);
	if (phi_audit_ready())
		write_from(from);
	while (touched != NIL && ((Touched *) llast(touched))->number >= from)
		touched = list_truncate(touched, list_length(touched) - 1);
	MemoryContextSwitchTo(old);
	if (touched == NIL)
		phi_forget_touched();
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId me, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, touched)
	{
		Touched    *t = lfirst(cell);

		if (t->level < level)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			t->level = level - 1;
		else
			touched = foreach_delete_current(touched, cell);
	}
}

void
phi_touched_init(void)
{
	RegisterSubXactCallback(at_subtransaction, NULL);
	prev_access = object_access_hook;
	object_access_hook = object_access;
}
