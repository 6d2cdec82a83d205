/*
 * wake.c
 *		How those who write records wake the launcher.
 *
 * They add to a count of their database, and never wait.  The first record
 * after a pass wakes the launcher, and the one with which very many are waiting.
 */
#include "postgres.h"

#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "audit/launcher.h"
#include "audit/wake.h"
#include "audit/worker.h"
#include "shared.h"

PhiAuditShared *phi_audit_shared = NULL;

static PhiWakeSlot *
find_slot(void)
{
	PhiWakeSlot *slots = phi_audit_shared->slots;

	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		if (pg_atomic_read_u32(&slots[i].database) == MyDatabaseId)
			return &slots[i];
	}
	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		uint32		owner = InvalidOid;

		if (pg_atomic_compare_exchange_u32(&slots[i].database, &owner, MyDatabaseId) ||
			owner == MyDatabaseId)
			return &slots[i];
	}
	return NULL;
}

static void
wake_launcher(void)
{
	Latch	   *latch = phi_audit_shared->launcher;

	if (latch != NULL)
		SetLatch(latch);
}

void
phi_audit_note_written(uint64 records)
{
	static PhiWakeSlot *mine = NULL;
	uint64		before;

	if (mine == NULL)
		mine = find_slot();
	if (mine == NULL)
	{
		if (pg_atomic_exchange_u32(&phi_audit_shared->overflow, 1) == 0)
			wake_launcher();
		return;
	}
	before = pg_atomic_fetch_add_u64(&mine->written, records);
	if (before == 0 || (before < PHI_WAKE_MANY && before + records >= PHI_WAKE_MANY))
		wake_launcher();
}

const PhiServerStart *
phi_server_start(void)
{
	return &phi_audit_shared->start;
}

static Size
shared_size(void)
{
	return sizeof(PhiAuditShared);
}

/* pg_control is as the server left it: recovery has not begun. */
static void
look_at_last_end(PhiServerStart *start)
{
	bool		intact;
	ControlFileData *control = get_controlfile(DataDir, &intact);

	start->at = GetCurrentTimestamp();
	start->before = control->state;
	start->before_at = control->time;
	pfree(control);
}

static void
start_shared(void)
{
	pg_atomic_init_u32(&phi_audit_shared->overflow, 0);
	for (int i = 0; i < PHI_DESKS; i++)
	{
		pg_atomic_init_u32(&phi_audit_shared->desks[i].token, 0);
		pg_atomic_init_u32(&phi_audit_shared->desks[i].report, 0);
	}
	for (int i = 0; i < PHI_WAKE_SLOTS; i++)
	{
		pg_atomic_init_u32(&phi_audit_shared->slots[i].database, InvalidOid);
		pg_atomic_init_u64(&phi_audit_shared->slots[i].written, 0);
	}
	look_at_last_end(&phi_audit_shared->start);
}

void
phi_wake_init(void)
{
	phi_shared_request("pg_phi audit", shared_size, (void **) &phi_audit_shared, start_shared);
}
