/*
 * worker.c
 *		The background process that sequences the audit log.
 */
#include "postgres.h"

#include "audit/worker.h"

void
phi_audit_note_written(uint64 records)
{
}

void
phi_audit_worker_init(void)
{
}
