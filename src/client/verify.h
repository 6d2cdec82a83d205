/*
 * verify.h
 *		What the files of phi-verify share.
 *
 * The program needs neither a server nor its libraries: whoever doubts the
 * server runs it elsewhere.
 */
#ifndef PHI_VERIFY_H
#define PHI_VERIFY_H

#include <stddef.h>
#include <stdio.h>

#include "audit/note.h"

/* A row of phi.audit_log. */
typedef struct Record
{
	int64_t		id;
	uint64_t	xact;
	PhiHash		hash;			/* of its leaf */
	int64_t		leaf;			/* its number; -1: it has none */
	uint64_t	file:16;		/* of Files.names */
	uint64_t	offset:48;		/* within it */
} Record;

/* A leaf of phi.audit_leaf. */
typedef struct Leaf
{
	int64_t		number;
	int64_t		id;				/* of the record that it is said to be of */
	PhiHash		hash;
	bool		found;			/* there is its record */
	bool		retired;		/* a signed note says that there need be none */
} Leaf;

/* A checkpoint that is signed. */
typedef struct Head
{
	uint64_t	size;
	PhiHash		root;
} Head;

/* A retirement that is signed. */
typedef struct Retired
{
	char	   *ranges;
	PhiHash		root;
} Retired;

/* A list that grows: "items" has room for more than "n". */
#define LIST(type) struct { type *items; size_t n; size_t room; }

typedef struct Log
{
	LIST(Record) records;
	LIST(Leaf) leaves;			/* as they are stored, or made of the records */
	bool		part;			/* records of some leaves only are there, and that is no fault */
	bool		gap;			/* leaves behind the last of them were left out */
	LIST(Head) heads;
	LIST(Retired) retired;
	LIST(PhiVerifier) verifiers;
	LIST(const char *) files;	/* of records */
} Log;

#define ADD(list) \
	((list).items = phi_grow((list).items, &(list).room, (list).n, sizeof(*(list).items)), \
	 &(list).items[(list).n++])

/* What has room for one more than "n"; its room changes. */
extern void *phi_grow(void *items, size_t *room, size_t n, size_t size);
extern void *phi_allocate(size_t size);

/* Ends the program with status 2. */
extern void phi_fail(const char *format,...)
			__attribute__((format(printf, 1, 2), noreturn));

/* A line about a fault, or about what is no fault. */
extern void phi_fault(const char *format,...)
			__attribute__((format(printf, 1, 2)));
extern void phi_remark(const char *format,...)
			__attribute__((format(printf, 1, 2)));

/* What cannot be read ends the program. */
extern void phi_read_records(Log *log, const char *path);
extern void phi_read_leaves(Log *log, const char *path);
extern void phi_read_checkpoints(Log *log, const char *path);
extern void phi_read_retirements(Log *log, const char *path);
extern void phi_read_keys(Log *log, const char *text_or_path);

/*
 * The first of "n" leaves that a record was hashed for, but for its id: another
 * than its own.  NULL: none, or its file has changed meanwhile.
 */
extern Leaf *phi_content_of(const Log *log, const Record *record, Leaf **leaves, size_t n);

/* verify_records.c: records against leaves, or leaves made of records. */
extern void phi_compare_records(Log *log);
extern void phi_derive_leaves(Log *log);

/* verify_tree.c: leaves in their order against what was signed. */
extern void phi_order_leaves(Log *log);
extern void phi_apply_retirements(Log *log);
extern void phi_compare_heads(Log *log, PhiHash *root);
extern void phi_root_of_present(const Log *log, PhiHash *root);

extern void phi_tree_failed(PhiStatus status);
extern void phi_sort(void *items, size_t n, size_t size, int (*compare) (const void *, const void *));

#endif							/* PHI_VERIFY_H */
