/*
 * types.h
 *		The eight encrypted types: one row each, and what differs by type.
 */
#ifndef PHI_TYPES_H
#define PHI_TYPES_H

#include "fmgr.h"
#include "parser/parse_coerce.h"

#include "crypto/crypto.h"

/* How a payload is made of a value of the base type. */
typedef enum PhiPayloadKind
{
	PHI_PAYLOAD_BYTES,			/* the bytes of a text or bytea */
	PHI_PAYLOAD_INTEGER,		/* "width" bytes, big-endian */
	PHI_PAYLOAD_NUMERIC,		/* numeric_send */
	PHI_PAYLOAD_JSONB			/* version 1, then JSON text in UTF-8 */
} PhiPayloadKind;

typedef struct PhiType
{
	uint8		id;				/* as stored in an envelope */
	const char *name;
	Oid			base;
	PhiPayloadKind kind;
	int			width;			/* bytes, of PHI_PAYLOAD_INTEGER */
	bool		bytewise;		/* values are equal if payloads are */
	/* In this database and process: */
	Oid			oid;
	Oid			equality_family;	/* of btree, that of the class enctext_equality_ops */
	Oid			ioparam;		/* the base type's I/O functions */
	FmgrInfo	in;
	FmgrInfo	out;
	FmgrInfo	recv;
	FmgrInfo	send;
} PhiType;

/* NULL when "oid" is none of ours. */
extern const PhiType *phi_type_by_oid(Oid oid);

/* The type whose name is part of a support function's, as in hashencbigint(integer). */
extern const PhiType *phi_type_named_by(Oid function);

/*
 * The same, also for a domain over one of ours or an array of it; a domain's
 * type modifier is put into *typmod.
 */
extern const PhiType *phi_type_within(Oid oid, int32 *typmod);

/*
 * The signature of a SQL function that a generic C function serves.
 */
typedef struct PhiFunction
{
	const PhiType *arg[2];		/* NULL: not of an encrypted type */
	const PhiType *result;
	const PhiType *type;		/* the first of these that is not NULL */
	Oid			plain;			/* type of the other argument or the result */
	bool		conversion_known;
	CoercionPathType path;		/* between "plain" and type->base */
	FmgrInfo	convert;
} PhiFunction;

extern PhiFunction *phi_function(FunctionCallInfo fcinfo);

/* Whether a support function is called by an index. */
extern bool phi_in_index(FunctionCallInfo fcinfo);

/*
 * Casts between the function's plain type and its base type, which differ for
 * instance in encbigint = integer.
 */
extern Datum phi_convert(FunctionCallInfo fcinfo, PhiFunction *function,
						 Datum value, Oid from, Oid to);

/*
 * The payload of a value of type->base.  Numbers are written to "scratch"; the
 * rest points into the value or into fresh memory, which is then *owned and
 * for the caller to free (NULL if there is none).
 */
extern PhiSpan phi_payload_from(const PhiType *type, Datum value,
								uint8 scratch[8], void **owned);

/* ERROR 22000 when the payload is not one of the type. */
extern Datum phi_payload_to(const PhiType *type, PhiSpan payload);

extern void phi_types_init(void);

#endif							/* PHI_TYPES_H */
