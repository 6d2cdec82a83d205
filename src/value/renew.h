/*
 * renew.h
 *		Storing nothing under a key that is not active any more.
 */
#ifndef PHI_RENEW_H
#define PHI_RENEW_H

#include "nodes/parsenodes.h"

/*
 * Has every value of an encrypted type that the query stores pass phi_renew().
 * Changes the query, which is the planner's to change.
 */
extern void phi_renew_targets(Query *query);

#endif							/* PHI_RENEW_H */
