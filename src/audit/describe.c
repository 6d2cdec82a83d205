/*
 * describe.c
 *		What a command that defines something does, in few words: names, never
 *		expressions, defaults, constants or the text of the statement.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "audit/events.h"
#include "audit/table.h"

#define LIST_LENGTH 1000		/* of a list, in bytes, before it is cut */

void
phi_add_name(StringInfo out, const char *name)
{
	appendStringInfoString(out, name != NULL ? phi_qualified_name(NULL, name) : "?");
}

/* With its schema where it is found now. */
void
phi_add_relation(StringInfo out, const RangeVar *relation)
{
	Oid			relid = RangeVarGetRelid(relation, NoLock, true);

	if (OidIsValid(relid) && get_rel_name(relid) != NULL)
		appendStringInfoString(out, phi_relation_name(relid));
	else
		appendStringInfoString(out, phi_qualified_name(relation->schemaname, relation->relname));
}

void
phi_add_role(StringInfo out, const void *item)
{
	const RoleSpec *role = item;

	if (role->roletype == ROLESPEC_PUBLIC)
		appendStringInfoString(out, "PUBLIC");
	else if (role->roletype == ROLESPEC_CSTRING)
		phi_add_name(out, role->rolename);
	else
		phi_add_name(out, GetUserNameFromId(role->roletype == ROLESPEC_SESSION_USER ?
											GetSessionUserId() : GetUserId(), true));
}

void
phi_add_list(StringInfo out, List *items, void (*add) (StringInfo, const void *))
{
	int			start = out->len;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, items)
	{
		if (out->len - start > LIST_LENGTH)
		{
			appendStringInfo(out, " and %d more", list_length(items) - n);
			return;
		}
		if (n++ > 0)
			appendStringInfoString(out, ", ");
		add(out, lfirst(cell));
	}
}

/* ALTER TABLE: what each action is called. Those without a name are "a change". */
static const struct
{
	AlterTableType type;
	const char *words;
}			actions[] = {
	{AT_AddColumn, "add column"},
	{AT_ColumnDefault, "default of column"},
	{AT_DropNotNull, "drop not null of column"},
	{AT_SetNotNull, "set not null of column"},
	{AT_DropExpression, "drop expression of column"},
	{AT_SetStatistics, "set statistics of column"},
	{AT_SetOptions, "set options of column"},
	{AT_ResetOptions, "reset options of column"},
	{AT_SetStorage, "set storage of column"},
	{AT_SetCompression, "set compression of column"},
	{AT_DropColumn, "drop column"},
	{AT_AddIndex, "add index"},
	{AT_AddConstraint, "add constraint"},
	{AT_AlterConstraint, "alter constraint"},
	{AT_ValidateConstraint, "validate constraint"},
	{AT_AddIndexConstraint, "add constraint using index"},
	{AT_DropConstraint, "drop constraint"},
	{AT_AlterColumnType, "alter type of column"},
	{AT_ChangeOwner, "owner to"},
	{AT_ClusterOn, "cluster on"},
	{AT_DropCluster, "set without cluster"},
	{AT_SetLogged, "set logged"},
	{AT_SetUnLogged, "set unlogged"},
	{AT_SetTableSpace, "set tablespace"},
	{AT_SetRelOptions, "set options"},
	{AT_ResetRelOptions, "reset options"},
	{AT_EnableTrig, "enable trigger"},
	{AT_EnableAlwaysTrig, "enable always trigger"},
	{AT_EnableReplicaTrig, "enable replica trigger"},
	{AT_DisableTrig, "disable trigger"},
	{AT_EnableTrigAll, "enable trigger all"},
	{AT_DisableTrigAll, "disable trigger all"},
	{AT_EnableTrigUser, "enable trigger user"},
	{AT_DisableTrigUser, "disable trigger user"},
	{AT_EnableRule, "enable rule"},
	{AT_EnableAlwaysRule, "enable always rule"},
	{AT_EnableReplicaRule, "enable replica rule"},
	{AT_DisableRule, "disable rule"},
	{AT_AddInherit, "inherit"},
	{AT_DropInherit, "no inherit"},
	{AT_ReplicaIdentity, "replica identity"},
	{AT_EnableRowSecurity, "enable row level security"},
	{AT_DisableRowSecurity, "disable row level security"},
	{AT_ForceRowSecurity, "force row level security"},
	{AT_NoForceRowSecurity, "no force row level security"},
	{AT_AttachPartition, "attach partition"},
	{AT_DetachPartition, "detach partition"},
	{AT_DetachPartitionFinalize, "detach partition"},
	{AT_AddIdentity, "add identity of column"},
	{AT_SetIdentity, "set identity of column"},
	{AT_DropIdentity, "drop identity of column"}
};

static void
add_action(StringInfo out, const void *item)
{
	const AlterTableCmd *action = item;
	const char *words = "a change";

	for (int i = 0; i < (int) lengthof(actions); i++)
	{
		if (actions[i].type == action->subtype)
			words = actions[i].words;
	}
	appendStringInfoString(out, words);
	if (action->name != NULL || action->newowner != NULL || action->def != NULL)
		appendStringInfoChar(out, ' ');
	if (action->newowner != NULL)
		phi_add_role(out, action->newowner);
	else if (action->name != NULL)
		phi_add_name(out, action->name);
	else if (action->def == NULL)
		return;
	else if (IsA(action->def, ColumnDef))
		phi_add_name(out, ((ColumnDef *) action->def)->colname);
	else if (IsA(action->def, Constraint) && ((Constraint *) action->def)->conname != NULL)
		phi_add_name(out, ((Constraint *) action->def)->conname);
	else if (IsA(action->def, PartitionCmd))
		phi_add_relation(out, ((PartitionCmd *) action->def)->name);
	else if (IsA(action->def, RangeVar))
		phi_add_relation(out, (RangeVar *) action->def);
	else if (IsA(action->def, ReplicaIdentityStmt) && ((ReplicaIdentityStmt *) action->def)->name != NULL)
		phi_add_name(out, ((ReplicaIdentityStmt *) action->def)->name);
	while (out->data[out->len - 1] == ' ')
		out->data[--out->len] = '\0';
}

/* What a command names: a list of names, a type, or a function with its arguments. */
void
phi_add_object(StringInfo out, const void *item)
{
	const Node *object = item;

	if (IsA(object, List))
		appendStringInfoString(out, NameListToQuotedString(unconstify(List *, (const List *) object)));
	else if (IsA(object, String))
		phi_add_name(out, strVal(object));
	else if (IsA(object, TypeName))
		appendStringInfoString(out, TypeNameToString((const TypeName *) object));
	else if (IsA(object, ObjectWithArgs))
		appendStringInfoString(out, NameListToQuotedString(((const ObjectWithArgs *) object)->objname));
	else if (IsA(object, RangeVar))
		phi_add_relation(out, (const RangeVar *) object);
	else
		appendStringInfoChar(out, '?');
}

/* "trigger phi_audit on public.patient": the name comes last in the tree. */
static void
add_part_of_relation(StringInfo out, const void *item)
{
	List	   *names = unconstify(List *, (const List *) item);

	phi_add_name(out, strVal(llast(names)));
	if (list_length(names) > 1)
		appendStringInfo(out, " on %s", NameListToQuotedString(list_truncate(list_copy(names),
																			  list_length(names) - 1)));
}

static void
add_drop(StringInfo out, const DropStmt *drop)
{
	bool		is_part = drop->removeType == OBJECT_TRIGGER || drop->removeType == OBJECT_POLICY ||
		drop->removeType == OBJECT_RULE;

	appendStringInfoString(out, "drop ");
	phi_add_list(out, drop->objects, is_part ? add_part_of_relation : phi_add_object);
	if (drop->behavior == DROP_CASCADE)
		appendStringInfoString(out, " cascade");
}

static void
add_rename(StringInfo out, const RenameStmt *rename)
{
	appendStringInfoString(out, "rename ");
	if (rename->subname != NULL)
	{
		phi_add_name(out, rename->subname);
		appendStringInfoChar(out, ' ');
	}
	appendStringInfoString(out, "to ");
	phi_add_name(out, rename->newname);
}

static void
add_option_name(StringInfo out, const void *item)
{
	phi_add_name(out, ((const DefElem *) item)->defname);
}

static void
add_trigger(StringInfo out, const CreateTrigStmt *trigger)
{
	appendStringInfoString(out, "trigger ");
	phi_add_name(out, trigger->trigname);
	appendStringInfo(out, " calling %s", NameListToQuotedString(trigger->funcname));
}

static void
add_column(StringInfo out, const void *item)
{
	const ColumnDef *column = item;

	if (!IsA(column, ColumnDef))
	{
		appendStringInfoString(out, IsA(column, TableLikeClause) ? "others" : "constraint");
		return;
	}
	phi_add_name(out, column->colname);
}

static void
add_table(StringInfo out, const CreateStmt *create)
{
	if (create->partbound != NULL)
	{
		appendStringInfoString(out, "partition of ");
		phi_add_relation(out, linitial(create->inhRelations));
		return;
	}
	appendStringInfoString(out, "columns ");
	phi_add_list(out, create->tableElts, add_column);
}

/* "word name", where there is a name. */
static void
add_named(StringInfo out, const char *word, const char *name)
{
	appendStringInfoString(out, word);
	if (name == NULL)
		return;
	appendStringInfoChar(out, ' ');
	phi_add_name(out, name);
}

static bool
add_alteration(StringInfo out, Node *command)
{
	switch (nodeTag(command))
	{
		case T_AlterTableStmt:
			phi_add_list(out, ((AlterTableStmt *) command)->cmds, add_action);
			return true;
		case T_RenameStmt:
			add_rename(out, (RenameStmt *) command);
			return true;
		case T_AlterObjectSchemaStmt:
			add_named(out, "set schema", ((AlterObjectSchemaStmt *) command)->newschema);
			return true;
		case T_AlterOwnerStmt:
			appendStringInfoString(out, "owner to ");
			phi_add_role(out, ((AlterOwnerStmt *) command)->newowner);
			return true;
		case T_AlterPolicyStmt:
			add_named(out, "policy", ((AlterPolicyStmt *) command)->policy_name);
			return true;
		case T_AlterFunctionStmt:
			phi_add_list(out, ((AlterFunctionStmt *) command)->actions, add_option_name);
			return true;
		case T_AlterExtensionStmt:
			appendStringInfoString(out, "update");
			return true;
		case T_AlterExtensionContentsStmt:
			appendStringInfoString(out, ((AlterExtensionContentsStmt *) command)->action > 0 ? "add " : "drop ");
			phi_add_object(out, ((AlterExtensionContentsStmt *) command)->object);
			return true;
		case T_DropStmt:
			add_drop(out, (DropStmt *) command);
			return true;
		default:
			return false;
	}
}

/* What becomes of each object on the way. */
static bool
add_owned(StringInfo out, Node *command)
{
	if (IsA(command, ReassignOwnedStmt))
	{
		appendStringInfoString(out, "owner to ");
		phi_add_role(out, ((ReassignOwnedStmt *) command)->newrole);
		return true;
	}
	if (!IsA(command, DropOwnedStmt))
		return false;
	appendStringInfoString(out, "owned by ");
	phi_add_list(out, ((DropOwnedStmt *) command)->roles, phi_add_role);
	return true;
}

static void
add_creation(StringInfo out, Node *command)
{
	switch (nodeTag(command))
	{
		case T_CreateStmt:
			add_table(out, (CreateStmt *) command);
			break;
		case T_CreateTableAsStmt:
			appendStringInfoString(out, "from a query");
			break;
		case T_IndexStmt:
			add_named(out, "index", ((IndexStmt *) command)->idxname);
			break;
		case T_CreateTrigStmt:
			add_trigger(out, (CreateTrigStmt *) command);
			break;
		case T_CreatePolicyStmt:
			add_named(out, "policy", ((CreatePolicyStmt *) command)->policy_name);
			break;
		case T_RuleStmt:
			add_named(out, "rule", ((RuleStmt *) command)->rulename);
			break;
		case T_CreateFunctionStmt:
			if (((CreateFunctionStmt *) command)->replace)
				appendStringInfoString(out, "created or replaced");
			break;
		default:
			break;
	}
}

char *
phi_describe_definition(Node *command)
{
	StringInfoData out;

	initStringInfo(&out);
	if (!add_alteration(&out, command) && !add_owned(&out, command))
		add_creation(&out, command);
	return out.len > 0 ? out.data : NULL;
}
