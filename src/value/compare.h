/*
 * compare.h
 *		One operand of a comparison, and what its answer may depend on.
 */
#ifndef PHI_COMPARE_H
#define PHI_COMPARE_H

#include "value/value.h"

typedef struct PhiOperand
{
	bool		encrypted;		/* else plain, compared for the session's clinic */
	int32		clinic_id;
	int			class;
	PhiAccess	access;
	PhiEnvelope envelope;
	Datum		datum;
} PhiOperand;

/* ERROR 22000 for a value that is malformed or names no key. */
extern void phi_read_encrypted(const PhiType *type, Datum datum, PhiOperand *operand);

/* The same for a function's argument; ERROR 42501 for a plain one in a sealed session. */
extern void phi_read_operand(FunctionCallInfo fcinfo, PhiFunction *function, int n,
							 PhiOperand *operand);

/* The operand as a value of the base type; decrypts without a look at rights. */
extern Datum phi_plain_value(FunctionCallInfo fcinfo, PhiFunction *function,
							 PhiOperand *operand);

/* Whether the answer to "are they equal?" may depend on the plaintext. */
extern bool phi_may_compare(const PhiOperand *a, const PhiOperand *b);

#endif							/* PHI_COMPARE_H */
