/*
 * shared.c
 *		One pair of shared-memory hooks serves every room.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "compat.h"
#include "shared.h"

#define MAX_AREAS 8
#define TRANCHE "pg_phi"

static struct
{
	const char *name;
	Size		(*size) (void);
	void	  **area;
	void		(*start) (void);
}			areas[MAX_AREAS];

static int	n_areas = 0;
static LWLock *lock = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;
#ifdef PHI_SHMEM_REQUEST_HOOK
static shmem_request_hook_type prev_request_hook = NULL;
#endif

void
phi_shared_request(const char *name, Size (*size) (void), void **area,
				   void (*start) (void))
{
	Assert(n_areas < MAX_AREAS);
	areas[n_areas].name = name;
	areas[n_areas].size = size;
	areas[n_areas].area = area;
	areas[n_areas].start = start;
	n_areas++;
}

LWLock *
phi_shared_lock(void)
{
	return lock;
}

static void
request(void)
{
#ifdef PHI_SHMEM_REQUEST_HOOK
	if (prev_request_hook)
		prev_request_hook();
#endif
	for (int i = 0; i < n_areas; i++)
		RequestAddinShmemSpace(MAXALIGN(areas[i].size()));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup(void)
{
	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < n_areas; i++)
	{
		bool		found;

		*areas[i].area = ShmemInitStruct(areas[i].name, areas[i].size(), &found);
		if (found)
			continue;
		memset(*areas[i].area, 0, areas[i].size());
		if (areas[i].start)
			areas[i].start();
	}
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	LWLockRelease(AddinShmemInitLock);
}

void
phi_shared_init(void)
{
	prev_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
#ifdef PHI_SHMEM_REQUEST_HOOK
	prev_request_hook = shmem_request_hook;
	shmem_request_hook = request;
#else
	request();
#endif
}
