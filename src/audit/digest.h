/*
 * digest.h
 *		Digests of rows: what the audit log tells of their content.
 */
#ifndef PHI_AUDIT_DIGEST_H
#define PHI_AUDIT_DIGEST_H

#include "access/tupdesc.h"
#include "keys/keys.h"

/* How rows of a table are put into the bytes that are hashed. */
typedef struct PhiDigester PhiDigester;

/*
 * A row in that form.  It holds plaintext: it is wiped by phi_wipe_row, or when
 * it is used again.
 */
typedef struct PhiRowBytes
{
	uint8	   *data;
	Size		len;
	Size		room;
	Size	   *begins;			/* of each column's item, and the end of the last */
	int			columns;		/* that "begins" has room for */
} PhiRowBytes;

/* For no more than so many columns. */
extern void phi_row_begin(PhiRowBytes *row, int columns);

/* Room for "len" more bytes at the end; what lay in too small a place is wiped there. */
extern uint8 *phi_row_reserve(PhiRowBytes *row, Size len);
extern void phi_row_put(PhiRowBytes *row, const void *data, Size len);
extern void phi_row_put_int32(PhiRowBytes *row, Size number);

/*
 * For rows of "desc", their columns in the order of "order", which has the same
 * names: a partition's may come in another.  In the current memory context.
 */
extern PhiDigester *phi_digester(TupleDesc desc, TupleDesc order);

/* How many columns there are, and the number in "desc" and name of the i-th. */
extern int	phi_digester_columns(const PhiDigester *digester);
extern AttrNumber phi_digester_attnum(const PhiDigester *digester, int i);
extern const char *phi_digester_name(const PhiDigester *digester, int i);
extern bool phi_digester_is_encrypted(const PhiDigester *digester, int i);

/*
 * The row's form; raises nothing because of a value that cannot be decrypted.
 * What takes memory is in the current memory context.
 */
extern void phi_digest_row(PhiDigester *digester, const Datum *values, const bool *nulls,
						   PhiRowBytes *out);

/*
 * The same for the new version of a row; says which columns differ from the old
 * one's.  What is the same in both is decrypted once.
 */
extern void phi_digest_new_row(PhiDigester *digester, const PhiRowBytes *old_row,
							   const Datum *old_values, const bool *old_nulls,
							   const Datum *values, const bool *nulls,
							   PhiRowBytes *out, bool *changed);

/* The item of one column in the row's form. */
extern PhiSpan phi_row_item(const PhiRowBytes *row, int i);

/* PHI_DIGEST_SIZE bytes of a row's form, or of an item; ERROR 39000 when the library fails. */
extern void phi_compute_digest(PhiSecret *secret, PhiSpan data, uint8 *out);

extern void phi_wipe_row(PhiRowBytes *row);

/*
 * The key for digests of this session; NULL: there is none, or it cannot be had
 * now.  As phi_key_active, valid until the next look-up of a key.
 */
extern PhiKey *phi_digest_key(void);

#endif							/* PHI_AUDIT_DIGEST_H */
