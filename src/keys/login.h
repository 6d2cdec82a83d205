/*
 * login.h
 *		Who is at the other end of the connection.
 */
#ifndef PHI_LOGIN_H
#define PHI_LOGIN_H

/* The role that logged in, whatever was made of it since. */
extern const char *phi_login(void);

#endif							/* PHI_LOGIN_H */
