/*
 * advance.c
 *		Sequencing of committed records.
 */
#include "postgres.h"

#include "audit/advance.h"

bool
phi_audit_advance(bool *pending)
{
	*pending = false;
	return false;
}
