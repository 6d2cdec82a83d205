/*
 * guard.h
 *		What hooks.c does with queries and commands.
 */
#ifndef PHI_GUARD_H
#define PHI_GUARD_H

#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"

/*
 * For a plan that is about to run: ERROR 42501 when it would search an index
 * for values of a class that the session does not hold.
 */
extern void phi_check_index_conditions(PlanState *state);

/*
 * ... or when it would update columns of such a class.  True when it writes no
 * value of such a class but those that its rows have already.
 */
extern bool phi_check_updates(PlannedStmt *plan);

/* ERROR 0A000 when it would add to an ordered index that is not allowed. */
extern void phi_check_ordered_indexes(PlannedStmt *plan);
extern void phi_refuse_ordered_index(void) pg_attribute_noreturn();

/* Whether a command stores expressions: default, check, view, policy ... */
extern bool phi_is_definition(Node *command);

/* Whether we are inside of such a command, of any, of COPY; not in a query. */
extern bool phi_in_definition(void);
extern bool phi_in_command(void);
extern bool phi_in_copy(void);

/* Whether the query that runs may meet values of classes not held in rows. */
extern bool phi_only_carries(void);

/* To be called when input encrypted what may be a literal. */
extern void phi_literal_made(void);

/* ERROR 0A000 in such a command: a literal would be one clinic's for good. */
extern void phi_refuse_stored_literal(const char *type_name);

/* The same for a materialized view, whose query is analysed beforehand. */
extern void phi_check_materialized_view(Query *query);

/*
 * For a command that is about to run: ERROR 0A000 for extended statistics on
 * encrypted columns, and for CREATE TABLE AS EXECUTE of a query whose results
 * were cast, which would store plaintext.
 */
extern void phi_check_command(Node *command);

/* Casts the encrypted columns of a client's query to their base types. */
extern void phi_cast_results(Query *query);

/* Whether that was done to a query. */
extern bool phi_has_cast_results(Query *query);

#endif							/* PHI_GUARD_H */
