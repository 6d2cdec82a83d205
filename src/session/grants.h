/*
 * grants.h
 *		Reading phi.clinic and phi.clinic_grant from C.
 */
#ifndef PHI_GRANTS_H
#define PHI_GRANTS_H

/* 0 when there is no such clinic, -1 when the extension is not installed. */
extern int32 phi_find_clinic(const char *code);

/* NULL when there is none. */
extern char *phi_clinic_code(int32 clinic_id);

/*
 * The classes that "role" was granted for the clinic, by itself or through a
 * role it is a member of.  Superusers are members of nothing but what they
 * were made members of.  False: no grant.
 */
extern bool phi_find_grant(Oid role, int32 clinic_id, uint32 *classes);

/* Whether "role" holds any grant. */
extern bool phi_has_any_grant(Oid role);

/*
 * Custodians and auditors: they can decrypt nothing, so they open no clinic,
 * whatever they were granted.
 */
extern bool phi_is_keeper(Oid role);

/* Counts up when grants, clinics or role memberships change. */
extern uint64 phi_grants_epoch;

extern void phi_grants_init(void);

#endif							/* PHI_GRANTS_H */
