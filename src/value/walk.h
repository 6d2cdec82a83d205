/*
 * walk.h
 *		Finding the envelopes in stored values: of encrypted types, and of
 *		arrays, domains and composites that hold such.
 */
#ifndef PHI_WALK_H
#define PHI_WALK_H

#include "value/value.h"

typedef struct PhiWalk PhiWalk;

/* NULL when values of the type hold no envelope. */
extern PhiWalk *phi_walk_of_type(Oid type);

/*
 * Called for each envelope; returns the value that takes its place, or the same
 * datum.
 */
typedef Datum (*PhiVisitor) (const PhiType *type, Datum value, void *context);

/* The same datum when the visitor has changed nothing. */
extern Datum phi_walk(const PhiWalk *walk, Datum value, PhiVisitor visit,
					  void *context);

#endif							/* PHI_WALK_H */
