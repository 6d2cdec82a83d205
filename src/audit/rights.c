/*
 * rights.c
 *		What a command does to rights and roles, to their settings, and to the
 *		extension as a whole.
 *
 * Of a password nothing is told but that the command named one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/regproc.h"

#include "audit/events.h"
#include "compat.h"

static void
add_item_name(StringInfo out, const void *item)
{
	phi_add_name(out, strVal(item));
}

static void
add_upper(StringInfo out, const char *word)
{
	while (*word != '\0')
		appendStringInfoChar(out, pg_toupper((unsigned char) *word++));
}

static void
add_privilege(StringInfo out, const void *item)
{
	const AccessPriv *privilege = item;

	add_upper(out, privilege->priv_name != NULL ? privilege->priv_name : "ALL");
	if (privilege->cols != NIL)
	{
		appendStringInfoString(out, " (");
		phi_add_list(out, privilege->cols, add_item_name);
		appendStringInfoChar(out, ')');
	}
}

/* Of GRANT role: a list of privileges, for the grammar's sake. */
static void
add_granted_role(StringInfo out, const void *item)
{
	phi_add_name(out, ((const AccessPriv *) item)->priv_name);
}

static void
add_callable(StringInfo out, ObjectType type, const void *item)
{
	ObjectWithArgs *callable = unconstify(ObjectWithArgs *, (const ObjectWithArgs *) item);
	Oid			oid = LookupFuncWithArgs(type, callable, true);

	appendStringInfoString(out, OidIsValid(oid) ? format_procedure_qualified(oid) :
						   NameListToQuotedString(callable->objname));
}

static void
add_function(StringInfo out, const void *item)
{
	add_callable(out, OBJECT_FUNCTION, item);
}

static void
add_procedure(StringInfo out, const void *item)
{
	add_callable(out, OBJECT_PROCEDURE, item);
}

static void
add_routine(StringInfo out, const void *item)
{
	add_callable(out, OBJECT_ROUTINE, item);
}

static void
add_item_relation(StringInfo out, const void *item)
{
	phi_add_relation(out, item);
}

static void
add_names(StringInfo out, const void *item)
{
	appendStringInfoString(out, NameListToQuotedString(unconstify(List *, (const List *) item)));
}

static void
add_number(StringInfo out, const void *item)
{
	appendStringInfo(out, "%u", oidparse(unconstify(Node *, (const Node *) item)));
}

/* The kinds of objects that rights are on. */
static const struct
{
	ObjectType	type;
	const char *one;
	const char *many;
	void		(*add) (StringInfo, const void *);
}			kinds[] = {
	{OBJECT_TABLE, "TABLE", "TABLES", add_item_relation},
	{OBJECT_SEQUENCE, "SEQUENCE", "SEQUENCES", add_item_relation},
	{OBJECT_FUNCTION, "FUNCTION", "FUNCTIONS", add_function},
	{OBJECT_PROCEDURE, "PROCEDURE", "PROCEDURES", add_procedure},
	{OBJECT_ROUTINE, "ROUTINE", "ROUTINES", add_routine},
	{OBJECT_TYPE, "TYPE", "TYPES", add_names},
	{OBJECT_DOMAIN, "DOMAIN", "DOMAINS", add_names},
	{OBJECT_SCHEMA, "SCHEMA", "SCHEMAS", add_item_name},
	{OBJECT_DATABASE, "DATABASE", "DATABASES", add_item_name},
	{OBJECT_LANGUAGE, "LANGUAGE", "LANGUAGES", add_item_name},
	{OBJECT_TABLESPACE, "TABLESPACE", "TABLESPACES", add_item_name},
	{OBJECT_FDW, "FOREIGN DATA WRAPPER", "FOREIGN DATA WRAPPERS", add_item_name},
	{OBJECT_FOREIGN_SERVER, "FOREIGN SERVER", "FOREIGN SERVERS", add_item_name},
	{OBJECT_LARGEOBJECT, "LARGE OBJECT", "LARGE OBJECTS", add_number},
#ifdef PHI_PARAMETER_RIGHTS
	{OBJECT_PARAMETER_ACL, "PARAMETER", "PARAMETERS", add_item_name},
#endif
};

static void
add_targets(StringInfo out, const GrantStmt *grant)
{
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (kinds[i].type != grant->objtype)
			continue;
		if (grant->targtype == ACL_TARGET_OBJECT)
		{
			appendStringInfo(out, "%s ", kinds[i].one);
			phi_add_list(out, grant->objects, kinds[i].add);
			return;
		}
		appendStringInfoString(out, kinds[i].many);
	}
	if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA)
	{
		appendStringInfoString(out, " IN SCHEMA ");
		phi_add_list(out, grant->objects, add_item_name);
	}
}

static void
add_grantor(StringInfo out, const RoleSpec *grantor, DropBehavior behavior)
{
	if (grantor != NULL)
	{
		appendStringInfoString(out, " GRANTED BY ");
		phi_add_role(out, grantor);
	}
	if (behavior == DROP_CASCADE)
		appendStringInfoString(out, " CASCADE");
}

static void
add_grant(StringInfo out, const GrantStmt *grant)
{
	if (!grant->is_grant && grant->grant_option)
		appendStringInfoString(out, "GRANT OPTION FOR ");
	if (grant->privileges == NIL)
		appendStringInfoString(out, "ALL");
	phi_add_list(out, grant->privileges, add_privilege);
	appendStringInfoString(out, " ON ");
	if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA)
		appendStringInfoString(out, "ALL ");
	add_targets(out, grant);
	appendStringInfoString(out, grant->is_grant ? " TO " : " FROM ");
	phi_add_list(out, grant->grantees, phi_add_role);
	if (grant->is_grant && grant->grant_option)
		appendStringInfoString(out, " WITH GRANT OPTION");
	add_grantor(out, grant->grantor, grant->behavior);
}

static void
add_membership_option(StringInfo out, const void *item)
{
	DefElem    *option = unconstify(DefElem *, (const DefElem *) item);

	add_upper(out, option->defname);
	appendStringInfoString(out, option->arg == NULL || defGetBoolean(option) ? " OPTION" : " FALSE");
}

static void
add_role_grant(StringInfo out, const GrantRoleStmt *grant)
{
	List	   *options = PhiMembershipOptions(grant);

	if (!grant->is_grant && options != NIL)
	{
		phi_add_list(out, options, add_membership_option);
		appendStringInfoString(out, " FOR ");
	}
	phi_add_list(out, grant->granted_roles, add_granted_role);
	appendStringInfoString(out, grant->is_grant ? " TO " : " FROM ");
	phi_add_list(out, grant->grantee_roles, phi_add_role);
	if (grant->is_grant && options != NIL)
	{
		appendStringInfoString(out, " WITH ");
		phi_add_list(out, options, add_membership_option);
	}
	add_grantor(out, grant->grantor, grant->behavior);
}

static void
add_default_rights(StringInfo out, const AlterDefaultPrivilegesStmt *alter)
{
	ListCell   *cell;

	foreach(cell, alter->options)
	{
		const DefElem *option = lfirst_node(DefElem, cell);
		bool		is_schemas = strcmp(option->defname, "schemas") == 0;

		appendStringInfoString(out, is_schemas ? "IN SCHEMA " : "FOR ROLE ");
		phi_add_list(out, (List *) option->arg, is_schemas ? add_item_name : phi_add_role);
		appendStringInfoString(out, ": ");
	}
	add_grant(out, alter->action);
}

/* Options of roles: as the parser calls them, and as people do. */
static const struct
{
	const char *name;
	const char *words;
	enum
	{
		NO_VALUE, FLAG, VALUE, ROLES
	}			kind;
}			role_options[] = {
	{"superuser", "SUPERUSER", FLAG},
	{"inherit", "INHERIT", FLAG},
	{"createrole", "CREATEROLE", FLAG},
	{"createdb", "CREATEDB", FLAG},
	{"canlogin", "LOGIN", FLAG},
	{"isreplication", "REPLICATION", FLAG},
	{"bypassrls", "BYPASSRLS", FLAG},
	{"connectionlimit", "CONNECTION LIMIT", VALUE},
	{"validUntil", "VALID UNTIL", VALUE},
	{"addroleto", "IN ROLE", ROLES},
	{"rolemembers", "ROLE", ROLES},
	{"adminmembers", "ADMIN", ROLES},
	{"password", "PASSWORD", NO_VALUE},
	{"sysid", "SYSID", NO_VALUE}
};

static void
add_role_option(StringInfo out, const void *item)
{
	DefElem    *option = unconstify(DefElem *, (const DefElem *) item);

	for (int i = 0; i < (int) lengthof(role_options); i++)
	{
		if (strcmp(role_options[i].name, option->defname) != 0)
			continue;
		if (role_options[i].kind == FLAG && !defGetBoolean(option))
			appendStringInfoString(out, "NO");
		appendStringInfoString(out, role_options[i].words);
		if (role_options[i].kind == VALUE && option->arg != NULL)
			appendStringInfo(out, " %s", defGetString(option));
		if (role_options[i].kind == ROLES)
		{
			appendStringInfoChar(out, ' ');
			phi_add_list(out, (List *) option->arg, phi_add_role);
		}
		return;
	}
	phi_add_name(out, option->defname);
}

/* ALTER GROUP drops members by the same statement. */
static void
add_altered_role(StringInfo out, const AlterRoleStmt *alter)
{
	phi_add_role(out, alter->role);
	appendStringInfoString(out, alter->action < 0 ? ": without " : ": ");
	phi_add_list(out, alter->options, add_role_option);
}

bool
phi_may_tell_setting(const char *name)
{
	if (name == NULL || (GetConfigOptionFlags(name, true) & GUC_SUPERUSER_ONLY) != 0)
		return false;
	return pg_strncasecmp(name, "phi.", 4) == 0 ||
		pg_strcasecmp(name, "session_replication_role") == 0 ||
		pg_strcasecmp(name, "allow_system_table_mods") == 0 ||
		pg_strcasecmp(name, "shared_preload_libraries") == 0;
}

static void
add_setting(StringInfo out, VariableSetStmt *set, bool with_old)
{
	bool		told = phi_may_tell_setting(set->name);
	const char *old = with_old && told ? GetConfigOption(set->name, true, false) : NULL;

	appendStringInfoString(out, set->kind == VAR_RESET_ALL ? "reset all" :
						   set->kind == VAR_SET_VALUE ? "set " : "reset ");
	if (set->kind == VAR_SET_CURRENT)
		appendStringInfoString(out, "to the session's value: ");
	if (set->name != NULL)
		appendStringInfoString(out, set->name);
	if (old != NULL)
		appendStringInfo(out, " from \"%s\"", old);
	if (told && set->kind == VAR_SET_VALUE)
		appendStringInfo(out, " to \"%s\"", ExtractSetVariableArgs(set));
}

static void
add_role_setting(StringInfo out, const AlterRoleSetStmt *alter)
{
	if (alter->role == NULL)
		appendStringInfoString(out, "ALL");
	else
		phi_add_role(out, alter->role);
	if (alter->database != NULL)
	{
		appendStringInfoString(out, " in database ");
		phi_add_name(out, alter->database);
	}
	appendStringInfoString(out, ": ");
	add_setting(out, alter->setstmt, false);
}

static bool
describe_role(Node *command, StringInfo out)
{
	switch (nodeTag(command))
	{
		case T_CreateRoleStmt:
			phi_add_name(out, ((CreateRoleStmt *) command)->role);
			if (((CreateRoleStmt *) command)->options != NIL)
				appendStringInfoString(out, ": ");
			phi_add_list(out, ((CreateRoleStmt *) command)->options, add_role_option);
			return true;
		case T_AlterRoleStmt:
			add_altered_role(out, (AlterRoleStmt *) command);
			return true;
		case T_AlterRoleSetStmt:
			add_role_setting(out, (AlterRoleSetStmt *) command);
			return true;
		case T_DropRoleStmt:
			phi_add_list(out, ((DropRoleStmt *) command)->roles, phi_add_role);
			return true;
		case T_ReassignOwnedStmt:
			phi_add_list(out, ((ReassignOwnedStmt *) command)->roles, phi_add_role);
			appendStringInfoString(out, " to ");
			phi_add_role(out, ((ReassignOwnedStmt *) command)->newrole);
			return true;
		case T_DropOwnedStmt:
			phi_add_list(out, ((DropOwnedStmt *) command)->roles, phi_add_role);
			return true;
		case T_RenameStmt:
			if (((RenameStmt *) command)->renameType != OBJECT_ROLE)
				return false;
			phi_add_name(out, ((RenameStmt *) command)->subname);
			appendStringInfoString(out, " to ");
			phi_add_name(out, ((RenameStmt *) command)->newname);
			return true;
		default:
			return false;
	}
}

bool
phi_describe_rights(Node *command, StringInfo out, char **relation)
{
	const GrantStmt *grant = (const GrantStmt *) command;

	switch (nodeTag(command))
	{
		case T_GrantStmt:
			add_grant(out, grant);
			if (grant->targtype == ACL_TARGET_OBJECT && list_length(grant->objects) == 1 &&
				(grant->objtype == OBJECT_TABLE || grant->objtype == OBJECT_SEQUENCE))
			{
				StringInfoData name;

				initStringInfo(&name);
				phi_add_relation(&name, linitial(grant->objects));
				*relation = name.data;
			}
			return true;
		case T_GrantRoleStmt:
			add_role_grant(out, (GrantRoleStmt *) command);
			return true;
		case T_AlterDefaultPrivilegesStmt:
			add_default_rights(out, (AlterDefaultPrivilegesStmt *) command);
			return true;
		case T_AlterDatabaseSetStmt:
			phi_add_name(out, ((AlterDatabaseSetStmt *) command)->dbname);
			appendStringInfoString(out, ": ");
			add_setting(out, ((AlterDatabaseSetStmt *) command)->setstmt, false);
			return true;
		case T_AlterSystemStmt:
			add_setting(out, ((AlterSystemStmt *) command)->setstmt, true);
			return true;
		case T_CreateExtensionStmt:
			appendStringInfo(out, "extension %s", ((CreateExtensionStmt *) command)->extname);
			return strcmp(((CreateExtensionStmt *) command)->extname, "pg_phi") == 0;
		default:
			return describe_role(command, out);
	}
}
