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

/* False, with errno, when it may still be there after a crash. */
extern bool phi_marker_remove(void);

#endif							/* PHI_MARKER_H */
