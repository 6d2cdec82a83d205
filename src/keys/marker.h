/*
 * marker.h
 *		The file that keeps a sealed server sealed over restarts.
 */
#ifndef PHI_MARKER_H
#define PHI_MARKER_H

#include "keys/vault.h"

/* Whether there is one; what it says when it can be read. */
extern bool phi_marker_read(PhiSeal *seal);

/* Durable when true; false with errno. */
extern bool phi_marker_write(const PhiSeal *seal);

/* Whether phi_marker_remove is likely to succeed; false with errno. */
extern bool phi_marker_removable(void);

/*
 * False, with errno, when it is still there.  "durable": whether it is gone even
 * if the machine crashes now.
 */
extern bool phi_marker_remove(bool *durable);

#endif							/* PHI_MARKER_H */
