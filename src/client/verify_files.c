/*
 * verify_files.c
 *		Reading what phi-verify is given: COPY (FORMAT binary) and notes.
 *
 * All of it may be forged.  No length is believed before as many bytes have
 * been read.
 */
#include "client/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_VERSION	1
#define RECORD_COLUMNS	19
#define LEAF_COLUMNS	7
#define VALUE_MAX		(1 << 30)	/* bytes of a row: no value of PostgreSQL is longer */
#define TEXT_MAX		(1 << 30)	/* bytes of a file of notes */
#define INT8_OID		20

static const char copy_signature[] = "PGCOPY\n\377\r\n";	/* and its zero */

typedef struct Input
{
	const char *path;
	FILE	   *file;
	uint64_t	offset;
	bool		quiet;			/* failures end no program */
} Input;

/* A row as it is read; "data" begins with two bytes for the version. */
typedef struct Row
{
	uint8_t    *data;
	size_t		len;
	size_t		room;
	size_t		begin[RECORD_COLUMNS];
	int32_t		size[RECORD_COLUMNS];	/* -1: NULL */
} Row;

static Row	row;

static Input
open_input(const char *path)
{
	Input		in = {path, fopen(path, "rb"), 0, false};

	if (in.file == NULL)
		phi_fail("could not open \"%s\": %s", path, strerror(errno));
	return in;
}

static bool
unsound(Input *in, const char *what)
{
	if (!in->quiet)
		phi_fail("\"%s\", byte %llu: %s", in->path, (unsigned long long) in->offset, what);
	return false;
}

static bool
read_bytes(Input *in, void *out, size_t len)
{
	size_t		got = fread(out, 1, len, in->file);

	in->offset += got;
	if (got < len)
		return unsound(in, ferror(in->file) ? strerror(errno) : "the file ends too early");
	return true;
}

static uint64_t
number_of(const uint8_t *bytes, int len)
{
	uint64_t	number = 0;

	for (int i = 0; i < len; i++)
		number = number << 8 | bytes[i];
	return number;
}

static bool
read_number(Input *in, int len, uint64_t *out)
{
	uint8_t		bytes[8];

	if (!read_bytes(in, bytes, (size_t) len))
		return false;
	*out = number_of(bytes, len);
	return true;
}

static void
make_room(size_t len)
{
	while (row.room < row.len + len)
		row.data = phi_grow(row.data, &row.room, row.room, 1);
}

/* Appends to the row in pieces, so that memory follows what is there. */
static bool
append(Input *in, size_t len)
{
	if (row.len + len > VALUE_MAX)
		return unsound(in, "a row is too long");
	while (len > 0)
	{
		size_t		piece = len < 65536 ? len : 65536;

		make_room(piece);
		if (!read_bytes(in, row.data + row.len, piece))
			return false;
		row.len += piece;
		len -= piece;
	}
	return true;
}

static bool
read_columns(Input *in, int columns)
{
	row.len = 0;
	make_room(2);
	row.data[row.len++] = RECORD_VERSION >> 8;
	row.data[row.len++] = RECORD_VERSION;
	for (int i = 0; i < columns; i++)
	{
		if (!append(in, 4))
			return false;
		row.size[i] = (int32_t) number_of(row.data + row.len - 4, 4);
		row.begin[i] = row.len;
		if (row.size[i] < -1)
			return unsound(in, "a column has a negative length");
		if (row.size[i] > 0 && !append(in, (size_t) row.size[i]))
			return false;
	}
	return true;
}

/* False at the end, which COPY marks. */
static bool
read_row(Input *in, int columns)
{
	uint64_t	n;

	if (!read_number(in, 2, &n))
		return false;
	if (n == 0xffff)
	{
		if (getc(in->file) != EOF)
			unsound(in, "there is more after the end");
		return false;
	}
	if (n != (uint64_t) columns)
		return unsound(in, columns == RECORD_COLUMNS ? "this is no row of phi.audit_log" :
					   "this is no row of phi.audit_leaf");
	return read_columns(in, columns);
}

static void
read_copy_header(Input *in)
{
	char		signature[sizeof(copy_signature)];
	uint64_t	flags = 0;
	uint64_t	extension = 0;
	char		byte;

	if (!read_bytes(in, signature, sizeof(signature)))
		return;
	if (memcmp(signature, copy_signature, sizeof(signature)) != 0)
		phi_fail("\"%s\" is not from COPY (FORMAT binary)", in->path);
	read_number(in, 4, &flags);
	read_number(in, 4, &extension);
	if (flags >> 16 != 0)
		phi_fail("\"%s\" is of a form of COPY that is not known", in->path);
	while (extension-- > 0)
		read_bytes(in, &byte, 1);
}

static uint64_t
column_number(Input *in, int column)
{
	if (row.size[column] != 8)
		unsound(in, "a number is not of eight bytes");
	return number_of(row.data + row.begin[column], 8);
}

static void
hash_row(PhiHash *out)
{
	phi_tree_failed(phi_merkle_leaf((PhiSpan) {row.data, row.len}, out));
}

void
phi_read_records(Log *log, const char *path)
{
	Input		in = open_input(path);
	uint64_t	offset;

	if (log->files.n > UINT16_MAX)
		phi_fail("too many files of records");
	*ADD(log->files) = path;
	read_copy_header(&in);
	for (offset = in.offset; read_row(&in, RECORD_COLUMNS); offset = in.offset)
	{
		Record	   *record = ADD(log->records);

		record->id = (int64_t) column_number(&in, 0);
		record->xact = column_number(&in, 3);
		record->leaf = -1;
		record->file = log->files.n - 1;
		record->offset = offset;
		hash_row(&record->hash);
	}
	fclose(in.file);
}

/* Reads a record once more; false when it cannot be. */
static bool
read_again(const Log *log, const Record *record)
{
	static Input in = {.quiet = true};

	if (in.path != log->files.items[record->file])
	{
		if (in.file != NULL)
			fclose(in.file);
		in.path = log->files.items[record->file];
		in.file = fopen(in.path, "rb");
	}
	return in.file != NULL && fseeko(in.file, (off_t) record->offset, SEEK_SET) == 0 &&
		read_row(&in, RECORD_COLUMNS) && row.size[0] == 8;
}

Leaf *
phi_content_of(const Log *log, const Record *record, Leaf **leaves, size_t n)
{
	PhiHash		hash;

	if (!read_again(log, record))
		return NULL;
	for (size_t l = 0; l < n; l++)
	{
		for (int i = 0; i < 8; i++)
			row.data[row.begin[0] + i] = (uint8_t) ((uint64_t) leaves[l]->id >> (56 - 8 * i));
		hash_row(&hash);
		if (leaves[l]->id != record->id && memcmp(&hash, &leaves[l]->hash, sizeof(hash)) == 0)
			return leaves[l];
	}
	return NULL;
}

/* The binary form of a bigint[] without NULLs: how many there are, and where. */
static size_t
array_of_ids(Input *in, int column, const uint8_t **ids)
{
	const uint8_t *data = row.data + row.begin[column];
	size_t		len = row.size[column] < 0 ? 0 : (size_t) row.size[column];
	uint64_t	n;

	if (len < 20 || number_of(data, 4) != 1 || number_of(data + 4, 4) != 0 ||
		number_of(data + 8, 4) != INT8_OID)
		unsound(in, "this is no array of record ids");
	n = number_of(data + 12, 4);
	if (len != 20 + 12 * n)
		unsound(in, "an array of record ids has not the length that it says");
	for (uint64_t i = 0; i < n; i++)
	{
		if (number_of(data + 20 + 12 * i, 4) != 8)
			unsound(in, "a record id is not of eight bytes");
	}
	*ids = data + 20;
	return n;
}

void
phi_read_leaves(Log *log, const char *path)
{
	Input		in = open_input(path);

	read_copy_header(&in);
	while (read_row(&in, LEAF_COLUMNS))
	{
		uint64_t	first = column_number(&in, 0);
		const uint8_t *ids;
		size_t		n = array_of_ids(&in, 5, &ids);

		if (row.size[6] < 0 || (size_t) row.size[6] != n * PHI_HASH_SIZE || first > PHI_TREE_MAX - n)
			unsound(&in, "there are not as many hashes as record ids");
		for (size_t i = 0; i < n; i++)
		{
			Leaf	   *leaf = ADD(log->leaves);

			leaf->number = (int64_t) (first + i);
			leaf->id = (int64_t) number_of(ids + 12 * i + 4, 8);
			memcpy(&leaf->hash, row.data + row.begin[6] + i * PHI_HASH_SIZE, PHI_HASH_SIZE);
			leaf->found = leaf->retired = false;
		}
	}
	fclose(in.file);
}

/* The whole of a file; its owner is the program. */
static PhiSpan
read_text(const char *path)
{
	Input		in = open_input(path);
	uint8_t    *text = NULL;
	size_t		len = 0;
	size_t		room = 0;
	size_t		got;

	do
	{
		if (len > TEXT_MAX)
			phi_fail("\"%s\" is too long", path);
		text = phi_grow(text, &room, len, 1);
		got = fread(text + len, 1, room - len, in.file);
		len += got;
	} while (got > 0);
	if (ferror(in.file))
		phi_fail("could not read \"%s\": %s", path, strerror(errno));
	fclose(in.file);
	return (PhiSpan) {text, len};
}

/* A note of a file, if it is signed for the log whose name it bears. */
static bool
open_note(Log *log, PhiSpan note, const char *path, size_t number, PhiSpan *text, const char **name)
{
	int			signer;
	PhiStatus	status = phi_note_open(note, log->verifiers.items, (int) log->verifiers.n, text, &signer);

	if (status == PHI_OK)
		*name = log->verifiers.items[signer].name;
	else
		phi_fault("checkpoint: note %zu of \"%s\" %s", number, path, status == PHI_MALFORMED ?
				  "is no signed note" : "is not signed by the key");
	return status == PHI_OK;
}

static void
require_all_read(PhiSpan whole, PhiSpan rest, const char *path)
{
	if (rest.len > 0)
		phi_fail("\"%s\", byte %zu: this is no signed note", path, whole.len - rest.len);
}

void
phi_read_checkpoints(Log *log, const char *path)
{
	PhiSpan		whole = read_text(path);
	PhiSpan		rest = whole;
	PhiSpan		note;
	PhiSpan		text;
	const char *name;

	for (size_t number = 1; phi_note_next(&rest, &note); number++)
	{
		PhiCheckpoint checkpoint;

		if (!open_note(log, note, path, number, &text, &name))
			continue;
		if (phi_checkpoint_parse(text, &checkpoint) != PHI_OK || strcmp(checkpoint.origin, name) != 0)
			phi_fault("checkpoint: note %zu of \"%s\" is no checkpoint of \"%s\"", number, path, name);
		else
			*ADD(log->heads) = (Head) {checkpoint.size, checkpoint.root};
	}
	require_all_read(whole, rest, path);
	free((void *) whole.ptr);
}

void
phi_read_retirements(Log *log, const char *path)
{
	PhiSpan		whole = read_text(path);
	PhiSpan		rest = whole;
	PhiSpan		note;
	PhiSpan		text;
	const char *name;

	for (size_t number = 1; phi_note_next(&rest, &note); number++)
	{
		PhiRetirement retirement;
		Retired    *retired;

		if (!open_note(log, note, path, number, &text, &name))
			continue;
		if (phi_retirement_parse(text, &retirement) != PHI_OK || strcmp(retirement.origin, name) != 0)
		{
			phi_fault("retirement: note %zu of \"%s\" is no retirement of \"%s\"", number, path, name);
			continue;
		}
		retired = ADD(log->retired);
		retired->root = retirement.root;
		retired->ranges = phi_allocate(retirement.ranges.len + 1);
		memcpy(retired->ranges, retirement.ranges.ptr, retirement.ranges.len);
		retired->ranges[retirement.ranges.len] = '\0';
	}
	require_all_read(whole, rest, path);
	free((void *) whole.ptr);
}

void
phi_read_keys(Log *log, const char *text_or_path)
{
	PhiVerifier verifier;
	PhiSpan		whole;
	size_t		begin = 0;

	if (phi_verifier_parse(text_or_path, strlen(text_or_path), &verifier) == PHI_OK)
	{
		*ADD(log->verifiers) = verifier;
		return;
	}
	whole = read_text(text_or_path);
	for (size_t i = 0; i <= whole.len; i++)
	{
		if (i < whole.len && whole.ptr[i] != '\n')
			continue;
		if (i > begin)
		{
			if (phi_verifier_parse((const char *) whole.ptr + begin, i - begin, &verifier) != PHI_OK)
				phi_fail("\"%s\" is neither a verifier key nor a file of them", text_or_path);
			*ADD(log->verifiers) = verifier;
		}
		begin = i + 1;
	}
	free((void *) whole.ptr);
}
