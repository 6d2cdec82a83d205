/*
 * renew.h
 *		Storing nothing under a key that is not active any more.
 */
#ifndef PHI_RENEW_H
#define PHI_RENEW_H

#include "nodes/parsenodes.h"

/*
 * Has every encrypted value that the query stores pass phi_renew(), arrays and
 * domains of such too.  What a SELECT returns "is_stored" by CREATE TABLE AS.
 * Changes the query, which is the planner's to change.
 */
extern void phi_renew_targets(Query *query, bool is_stored);

#endif							/* PHI_RENEW_H */
