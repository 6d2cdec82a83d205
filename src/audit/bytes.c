/*
 * bytes.c
 *		Bytes that hold the plaintext of a row for a moment.
 *
 * They are kept for the next row, in memory that is wiped before it is given
 * back.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "audit/digest.h"
#include "compat.h"

void
phi_row_begin(PhiRowBytes *out, int columns)
{
	out->len = 0;
	if (out->columns < columns)
	{
		Size	   *begins = MemoryContextAlloc(TopMemoryContext, (columns + 1) * sizeof(Size));

		if (out->begins != NULL)
			pfree(out->begins);
		out->begins = begins;
		out->columns = columns;
	}
}

uint8 *
phi_row_reserve(PhiRowBytes *out, Size len)
{
	if (unlikely(out->room - out->len < len))
	{
		Size		room = Max(1024, 2 * (out->len + len));
		uint8	   *data = MemoryContextAllocHuge(TopMemoryContext, room);

		if (out->data != NULL)
		{
			memcpy(data, out->data, out->len);
			phi_memory_wipe(out->data, out->room);
			pfree(out->data);
		}
		out->data = data;
		out->room = room;
	}
	return out->data + out->len;
}

void
phi_row_put(PhiRowBytes *out, const void *data, Size len)
{
	memcpy(phi_row_reserve(out, len), data, len);
	out->len += len;
}

void
phi_row_put_int32(PhiRowBytes *out, Size number)
{
	uint32		bytes = pg_hton32((uint32) number);

	phi_row_put(out, &bytes, sizeof(bytes));
}

PhiSpan
phi_row_item(const PhiRowBytes *row, int i)
{
	return (PhiSpan) {row->data + row->begins[i], row->begins[i + 1] - row->begins[i]};
}

void
phi_wipe_row(PhiRowBytes *row)
{
	if (row->data == NULL)
		return;
	phi_memory_wipe(row->data, row->room);
	row->len = 0;
	/* One long row must not make the wiping of all that follow slow. */
	if (row->room > 16 * 1024)
	{
		pfree(row->data);
		row->data = NULL;
		row->room = 0;
	}
}
