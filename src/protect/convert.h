/*
 * convert.h
 *		Rows of a table on their way to its shadow, whose columns are encrypted,
 *		or not any more.
 */
#ifndef PHI_CONVERT_H
#define PHI_CONVERT_H

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

#include "value/walk.h"

/* What happens to a column. */
typedef enum PhiChange
{
	PHI_KEEP,
	PHI_SEAL,
	PHI_OPEN
} PhiChange;

typedef struct PhiField
{
	PhiChange	change;
	const PhiType *type;		/* of the encrypted side, or of both; or NULL */
	int			class;
	Oid			plain;			/* type of the other side, without its domain */
	PhiFunction cast;			/* between that and type->base */
	PhiWalk    *walk;			/* of what is kept and holds encrypted values */
} PhiField;

typedef struct PhiConverter
{
	Relation	from;
	Relation	to;
	PhiField   *fields;			/* one for each column, dropped ones too */
	AttrNumber	clinic_column;	/* 0: nothing is encrypted */
	FmgrInfo	clinic_output;
	bool		clinic_padded;	/* with blanks */
	HTAB	   *clinics;		/* by code */
	bool		check;			/* open again what was sealed, and compare */
	FmgrInfo	call;			/* where casts find their memory */
	ItemPointerData tid;		/* of the row at work */
	TupleTableSlot *slot;		/* the row for the shadow */
} PhiConverter;

/*
 * ERROR 55000 unless the relations have the same columns but for types that are
 * encrypted in "to" alone.  "clinic_column": NULL when columns are decrypted: then
 * for types that are encrypted in "from" alone.
 */
extern PhiConverter *phi_converter(Relation from, Relation to, const char *clinic_column);
extern void phi_end_converter(PhiConverter *converter);

/*
 * Puts a row of "from" into converter->slot, as one of "to".  False when its
 * clinic is not known.  What it allocates is in the current memory context.
 */
extern bool phi_convert_row(PhiConverter *converter, TupleTableSlot *row);

/* Whether the clinic of a row of "from" is known. */
extern bool phi_has_clinic(PhiConverter *converter, TupleTableSlot *row);

/*
 * Appends the plain content of a row, the same for both sides.  "converted": it
 * is one of "to".
 */
extern void phi_plain_row(PhiConverter *converter, TupleTableSlot *row, bool converted,
						  StringInfo content);

#endif							/* PHI_CONVERT_H */
