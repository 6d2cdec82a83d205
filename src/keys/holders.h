/*
 * holders.h
 *		Which processes hold keys, and calling these keys back.
 */
#ifndef PHI_HOLDERS_H
#define PHI_HOLDERS_H

#include "port/atomics.h"

/*
 * Counts the changes of keys in this server.  What was read from phi.data_key
 * is good as long as the number is the same.
 */
extern pg_atomic_uint64 *phi_keys_counter;

/* Read for each value, so it must cost nothing. */
static inline uint64
phi_keys_generation(void)
{
	return pg_atomic_read_u64(phi_keys_counter);
}

/* To be called once a change of keys is committed. */
extern void phi_keys_changed(void);

/* This process holds keys of that generation; 0: it holds none. */
extern void phi_keys_note_holding(uint64 generation);

/*
 * Has every process of the server, in whatever database, wipe its keys.  Idle
 * ones do so when told; one that has not done so after "patience" milliseconds
 * is terminated.  Returns the number of those that hold keys even then.
 */
extern int	phi_keys_recall(int patience);

extern void phi_holders_init(void);

#endif							/* PHI_HOLDERS_H */
