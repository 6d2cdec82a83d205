/*
 * holders.c
 *		Which processes hold keys, and calling these keys back.
 *
 * A shared counter says how often keys have changed, so that a process in the
 * middle of a long statement notices: the server's own invalidations reach it
 * only when it next takes a lock.  Beside it each process notes whether it
 * holds keys, and of which count.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "storage/sinval.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "keys/holders.h"
#include "shared.h"

#define LOOK_EVERY 10			/* ms */

typedef struct Holder
{
	pid_t		pid;
	pg_atomic_uint64 generation;	/* 0: holds no keys */
} Holder;

typedef struct Holders
{
	pg_atomic_uint64 generation;
	Holder		holder[FLEXIBLE_ARRAY_MEMBER];	/* by number of process */
} Holders;

static Holders *shared = NULL;
pg_atomic_uint64 *phi_keys_counter = NULL;

static Size
shared_size(void)
{
	return offsetof(Holders, holder) + PhiMaxBackends() * sizeof(Holder);
}

static void
shared_start(void)
{
	phi_keys_counter = &shared->generation;
	pg_atomic_init_u64(phi_keys_counter, 1);
	for (int i = 0; i < PhiMaxBackends(); i++)
		pg_atomic_init_u64(&shared->holder[i].generation, 0);
}

void
phi_holders_init(void)
{
	phi_shared_request("pg_phi holders of keys", shared_size, (void **) &shared,
					   shared_start);
}

void
phi_keys_changed(void)
{
	pg_atomic_fetch_add_u64(&shared->generation, 1);
}

void
phi_keys_note_holding(uint64 generation)
{
	Holder	   *mine;

	if (PhiProcNumber() >= PhiMaxBackends())
		elog(ERROR, "process %d is beyond the %d that may hold keys",
			 (int) PhiProcNumber(), PhiMaxBackends());
	mine = &shared->holder[PhiProcNumber()];
	mine->pid = MyProcPid;
	/* Ordered: who sees that there are keys also sees whose. */
	pg_write_barrier();
	pg_atomic_write_u64(&mine->generation, generation);
}

/*
 * Through the server's own invalidation messages, of a kind that every process
 * in every database takes to heart, and the signal by which idle processes are
 * made to read them.  Returns how many still hold keys of before "generation".
 */
static int
signal_holders(uint64 generation, bool terminate)
{
	int			left = 0;

	for (int i = 0; i < PhiMaxBackends(); i++)
	{
		Holder	   *holder = &shared->holder[i];
		uint64		held = pg_atomic_read_u64(&holder->generation);

		pg_read_barrier();
		if (held == 0 || held >= generation || holder->pid == MyProcPid)
			continue;
		left++;
		/* It may have ended just now, and its number be another's. */
		if (!terminate)
			(void) PhiSendCatchup(holder->pid);
		else if (BackendPidGetProc(holder->pid) != NULL)
			(void) kill(holder->pid, SIGTERM);
	}
	return left;
}

static int
wait_for_holders(uint64 generation, int patience, bool terminate)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience);
	int			left;

	while ((left = signal_holders(generation, terminate)) > 0 &&
		   GetCurrentTimestamp() < end)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_EVERY, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return left;
}

int
phi_keys_recall(int patience)
{
	uint64		generation = pg_atomic_fetch_add_u64(&shared->generation, 1) + 1;
	SharedInvalidationMessage message = {0};

	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = InvalidOid;
	message.rc.relId = InvalidOid;
	SendSharedInvalidMessages(&message, 1);
	if (wait_for_holders(generation, patience, false) == 0)
		return 0;
	return wait_for_holders(generation, patience, true);
}
