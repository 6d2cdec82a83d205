/*
 * marker.c
 *		The file that keeps a sealed server sealed over restarts.
 *
 * It is in the data directory: a copy of a sealed server is sealed.  That it is
 * there seals; its text only tells since when and by whom.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "keys/marker.h"

#define MARKER "pg_phi.sealed"
#define TEMPORARY MARKER ".tmp"
#define FORMAT "pg_phi sealed 1\nsince %lld\nby %s\n"

/* Whatever cannot be made out is taken for a seal. */
bool
phi_marker_read(PhiSeal *seal)
{
	FILE	   *file = fopen(MARKER, "r");
	long long	since;
	char		by[NAMEDATALEN];

	memset(seal, 0, sizeof(*seal));
	if (file == NULL)
		return errno != ENOENT;
	StaticAssertStmt(NAMEDATALEN == 64, "the width in the format below");
	if (fscanf(file, "pg_phi sealed 1\nsince %lld\nby %63[^\n]", &since, by) == 2)
	{
		seal->since = (pg_time_t) since;
		strlcpy(seal->by, by, NAMEDATALEN);
	}
	fclose(file);
	return true;
}

static bool
sync_directory(void)
{
	int			fd = open(".", O_RDONLY);
	int			result;

	if (fd < 0)
		return false;
	result = pg_fsync(fd);
	close(fd);
	return result == 0;
}

/* Raises nothing: the seal must go on even when the disk is full. */
bool
phi_marker_write(const PhiSeal *seal)
{
	char		text[256];
	int			len = snprintf(text, sizeof(text), FORMAT,
							   (long long) seal->since, seal->by);
	int			fd = open(TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC, pg_file_create_mode);
	bool		whole;

	if (fd < 0)
		return false;
	errno = ENOSPC;				/* what a short write means */
	whole = write(fd, text, len) == len && pg_fsync(fd) == 0;
	if (close(fd) != 0)
		whole = false;
	return whole && rename(TEMPORARY, MARKER) == 0 && sync_directory();
}

bool
phi_marker_removable(void)
{
	return access(".", W_OK | X_OK) == 0;
}

bool
phi_marker_remove(bool *durable)
{
	*durable = false;
	if (unlink(MARKER) != 0 && errno != ENOENT)
		return false;
	*durable = sync_directory();
	return true;
}
