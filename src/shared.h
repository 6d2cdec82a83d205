/*
 * shared.h
 *		Shared memory, asked for by each room at server start.
 */
#ifndef PHI_SHARED_H
#define PHI_SHARED_H

#include "storage/lwlock.h"

/*
 * Asks for a zeroed area of size() bytes, which is called once the number of
 * backends is known.
 * *area is set when shared memory is there; start(), if any, is called then,
 * in the postmaster only.  A crash restart calls both again.
 */
extern void phi_shared_request(const char *name, Size (*size) (void),
							   void **area, void (*start) (void));

/* The extension's one lightweight lock: held only to load a master key. */
extern LWLock *phi_shared_lock(void);

extern void phi_shared_init(void);

#endif							/* PHI_SHARED_H */
