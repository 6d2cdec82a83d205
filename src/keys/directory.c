/*
 * directory.c
 *		The key directory and the files in it.
 *
 * A file is made under another name, synced, and linked to its own: it is whole
 * or not there.  link() fails when the name is taken, so no key is ever
 * replaced.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "guc.h"
#include "keys/directory.h"
#include "keys/provider.h"

/* ERROR unless only the server's user can get at the path. */
static void
check_owner_and_mode(const char *kind, const char *path, const struct stat *st)
{
	if (st->st_uid != geteuid())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s \"%s\" has the wrong owner", kind, path),
				 errhint("It must belong to the user that runs the server.")));
	if (st->st_mode & (S_IRWXG | S_IRWXO))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s \"%s\" is open to group or others", kind, path),
				 errdetail("Its mode is %04o.", (unsigned) (st->st_mode & 07777)),
				 errhint("Take the permissions of group and others away: chmod go-rwx.")));
}

/* A key beside the data it protects is copied with every backup. */
static void
check_outside_data_directory(const char *directory)
{
	char		real[PATH_MAX];	/* as realpath demands */
	char		data[PATH_MAX];

	if (realpath(directory, real) == NULL || realpath(DataDir, data) == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not resolve key directory \"%s\": %m", directory)));
	if (path_is_prefix_of_path(data, real))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key directory \"%s\" is inside the data directory", directory),
				 errhint("Set phi.key_directory to a directory that is not copied with the data.")));
}

static bool
is_set(void)
{
	return phi_key_directory != NULL && phi_key_directory[0] != '\0';
}

const char *
phi_checked_key_directory(void)
{
	struct stat st;

	if (!is_set())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("phi.key_directory is not set"),
				 errhint("Set it in postgresql.conf to a directory of mode 0700 outside the data directory, and restart the server.")));
	if (!is_absolute_path(phi_key_directory))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("phi.key_directory \"%s\" is not an absolute path", phi_key_directory)));
	if (stat(phi_key_directory, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not access key directory \"%s\": %m", phi_key_directory),
				 errhint("Make it with mode 0700 for the user that runs the server, or mount it.")));
	if (!S_ISDIR(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("key directory \"%s\" is not a directory", phi_key_directory)));
	check_owner_and_mode("key directory", phi_key_directory, &st);
	check_outside_data_directory(phi_key_directory);
	return phi_key_directory;
}

static bool
make_path(const char *name, const char *suffix, char *path)
{
	return snprintf(path, MAXPGPATH, "%s/%s%s", phi_key_directory, name, suffix) < MAXPGPATH;
}

void
phi_key_path(const char *name, const char *suffix, char *path)
{
	(void) phi_checked_key_directory();
	/* A label may come from a row that was altered. */
	if (strchr(name, '/') != NULL || !make_path(name, suffix, path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s%s\" is not the name of a file in the key directory", name, suffix)));
}

bool
phi_key_file_readable(const char *name, const char *suffix)
{
	char		path[MAXPGPATH];

	return is_set() && strchr(name, '/') == NULL &&
		make_path(name, suffix, path) && access(path, R_OK) == 0;
}

List *
phi_timed_labels(const char *suffix)
{
	const char *directory = phi_checked_key_directory();
	DIR		   *dir = AllocateDir(directory);
	struct dirent *de;
	List	   *labels = NIL;

	while ((de = ReadDir(dir, directory)) != NULL)
	{
		size_t		len = strlen(de->d_name);
		char	   *label;

		if (len <= strlen(suffix) ||
			strcmp(de->d_name + len - strlen(suffix), suffix) != 0)
			continue;
		label = pnstrdup(de->d_name, len - strlen(suffix));
		if (phi_label_is_timed(label))
			labels = lappend(labels, label);
	}
	FreeDir(dir);
	return labels;
}

/* Labels begin with their time, so the greatest is the newest. */
bool
phi_newest_label(const char *suffix, char *label)
{
	ListCell   *cell;

	label[0] = '\0';
	foreach(cell, phi_timed_labels(suffix))
	{
		if (strcmp(lfirst(cell), label) > 0)
			strlcpy(label, lfirst(cell), PHI_LABEL_SIZE);
	}
	return label[0] != '\0';
}

static void
report_irregular(const char *kind, const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s \"%s\" is not a regular file", kind, path),
			 errhint("Put the file itself into the key directory.")));
}

ssize_t
phi_read_key_file(const char *kind, const char *path, char *text, size_t room,
				  const char *hint)
{
	struct stat st;
	ssize_t		n;
	int			fd;

	/* A pipe must not keep the server waiting. */
	fd = OpenTransientFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
	if (fd < 0 && errno == ENOENT && hint == NULL)
		return -1;
	if (fd < 0 && errno == ELOOP)
		report_irregular(kind, path);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open %s \"%s\": %m", kind, path),
				 hint != NULL ? errhint("%s", hint) : 0));
	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not access %s \"%s\": %m", kind, path)));
	if (!S_ISREG(st.st_mode))
		report_irregular(kind, path);
	check_owner_and_mode(kind, path, &st);
	n = read(fd, text, room);
	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read %s \"%s\": %m", kind, path)));
	CloseTransientFile(fd);
	return n;
}

/* Writes, syncs and closes; the errors name the file. */
static void
write_whole(const char *kind, const char *path, const char *text, size_t len)
{
	int			fd;

	unlink(path);				/* left by a crashed process of our number */
	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY,
							   S_IRUSR | S_IWUSR);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create %s \"%s\": %m", kind, path)));
	errno = 0;
	if (write(fd, text, len) != (ssize_t) len)
	{
		/* A short write without an error means that the disk is full. */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write %s \"%s\": %m", kind, path)));
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not sync %s \"%s\": %m", kind, path)));
}

void
phi_write_key_file(const char *kind, const char *path, const char *text,
				   size_t len, bool replace)
{
	const char *directory = phi_checked_key_directory();
	char		temporary[MAXPGPATH];

	snprintf(temporary, MAXPGPATH, "%s/.new-%d", directory, MyProcPid);
	write_whole(kind, temporary, text, len);
	if (replace ? rename(temporary, path) != 0 :
		link(temporary, path) != 0 || unlink(temporary) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not name %s \"%s\": %m", kind, path)));
	fsync_fname(directory, true);
}
