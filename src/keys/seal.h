/*
 * seal.h
 *		Sealing the server, and lifting the seal.
 */
#ifndef PHI_SEAL_H
#define PHI_SEAL_H

extern void phi_seal_init(void);

#endif							/* PHI_SEAL_H */
