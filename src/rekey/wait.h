/*
 * wait.h
 *		Waiting for transactions that may still store a value under an old key.
 */
#ifndef PHI_WAIT_H
#define PHI_WAIT_H

/*
 * Until every transaction has ended that encrypted something before now, and
 * so may go on under a key that is not active any more.
 */
extern void phi_wait_for_encrypters(void);

/*
 * Until every transaction has ended that may have read a value before now and
 * store its copy: it has touched a protected table, or its snapshot is older.
 */
extern void phi_wait_for_copiers(void);

#endif							/* PHI_WAIT_H */
