/*
 * guard.h
 *		What hooks.c does with queries and commands.
 */
#ifndef PHI_GUARD_H
#define PHI_GUARD_H

#include "catalog/objectaddress.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
#include "parser/parse_node.h"
#include "session/session.h"

/*
 * For a plan that is to run for "session" (NULL: sealed): ERROR 42501 when it
 * would search an index for values of a class that the session does not hold.
 */
extern void phi_check_index_conditions(PlanState *state, const PhiSession *session);

/*
 * ... or when it would update columns of such a class.  True when it writes no
 * value of such a class but those that its rows have already.
 */
extern bool phi_check_updates(PlannedStmt *plan, PlanState *state);

/* The same for a command that puts rows into a table. */
extern bool phi_command_only_carries(Node *command);

/* What an index scan searches for; NIL for other plans. */
extern List *phi_index_conditions(Plan *plan);

/* ERROR 0A000 when it would use or add to an ordered index that is not allowed. */
extern void phi_check_ordered_indexes(PlannedStmt *plan, PlanState *state);
extern void phi_check_ordered_indexes_of(Oid relid);
extern void phi_refuse_ordered_index(void) pg_attribute_noreturn();

/* Whether a btree operator family is that of the type's equality class. */
extern bool phi_is_equality_family(Oid family, Oid type);

/* Tells the planner that indexes of the equality class have no order; see order.c. */
extern void phi_hide_index_order(RelOptInfo *rel);

/* Whether a table or composite type has columns of encrypted types. */
extern bool phi_has_encrypted_columns(Oid relid);

/* Whether a type is, or holds in an array, range, domain or row, such a type. */
extern bool phi_contains_encrypted(Oid type);

/* Whether we are inside of a command that rebuilds indexes, or of COPY. */
extern bool phi_in_rebuild(void);
extern bool phi_in_copy(void);

/*
 * Definitions are checked as they are stored: ERROR 0A000 for literals of
 * encrypted types, and for indexes but hash ones unless allowed.
 */
extern void phi_stored_init(void);

/* Whether the query that runs may meet values of classes not held in rows. */
extern bool phi_only_carries(void);

/* To be called when input encrypted what may be a literal. */
extern void phi_literal_made(void);

/*
 * For a command that is about to run: ERROR 0A000 for extended statistics on
 * encrypted columns, and for CREATE TABLE AS EXECUTE of a query whose results
 * were cast, which would store plaintext.
 */
extern void phi_check_command(Node *command);

/* For a new cast: while the server is upgraded, mends the array of its type. */
extern void phi_mend_types(Oid cast);

/* For CREATE TABLE that has run: ERROR 0A000 for encrypted partition keys. */
extern void phi_check_partition_key(CreateStmt *command);

/* Makes a client's encrypted parameters plain ones where that fits. */
extern void phi_make_params_plain(ParseState *pstate, Query *query);

/* Makes a client's query take and give base types instead of encrypted ones. */
extern void phi_plain_for_client(ParseState *pstate, Query *query);

/* Whether that was done to a query. */
extern bool phi_has_cast_results(Query *query);

/* Whether REFRESH MATERIALIZED VIEW is at work. */
extern bool phi_in_refresh(void);

/* Makes the query a subquery, and itself SELECT of its columns from it. */
extern void phi_wrap_query(Query *query);

/* Called for each constant of a type that may hold encrypted values. */
typedef void (*PhiConstantVisitor) (Oid type, Datum value,
									const ObjectAddress *object, void *context);

/* Visits the constants in all stored expressions of this database. */
extern void phi_visit_constants(PhiConstantVisitor visit, void *context);

#endif							/* PHI_GUARD_H */
