/*
 * pg_phi.c
 *		Loading of the library: one call per room.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "audit/audit.h"
#include "guc.h"
#include "keys/keys.h"
#include "rekey/worker.h"
#include "session/session.h"
#include "shared.h"
#include "value/value.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_phi must be loaded via shared_preload_libraries"),
				 errhint("Add this line to postgresql.conf and restart the server: shared_preload_libraries = 'pg_phi'")));

	phi_guc_init();
	phi_keys_init();
	phi_session_init();
	phi_value_init();
	phi_rekey_init();
	phi_audit_init();
	phi_shared_init();			/* last: the rooms have asked for their areas */
}
