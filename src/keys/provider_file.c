/*
 * provider_file.c
 *		Master keys in files: <phi.key_directory>/<label>.kek, each 64
 *		hexadecimal digits and a line feed, mode 0600.
 *
 * Hexadecimal so that a custodian can print one and lock it away.  A file is
 * made under another name, synced, and linked to its own: it is whole or not
 * there.  link() fails when the name is taken, so no key is ever replaced.
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
#include "keys/provider.h"

#define SUFFIX ".kek"
#define FILE_SIZE (2 * PHI_SECRET_SIZE + 1)

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

/* The checked directory. */
static const char *
key_directory(void)
{
	struct stat st;

	if (phi_key_directory == NULL || phi_key_directory[0] == '\0')
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

static void
key_path(const char *label, char *path)
{
	if (snprintf(path, MAXPGPATH, "%s/%s" SUFFIX, key_directory(), label) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of the master key file for \"%s\" is too long", label)));
}

/* "20261123T041900Z-70dd20c845281de2.kek" and nothing else. */
static bool
is_key_file(const char *name)
{
	static const char digits[] = "0123456789";
	static const char hex[] = "0123456789abcdef";

	return strspn(name, digits) == 8 && name[8] == 'T' &&
		strspn(name + 9, digits) == 6 && name[15] == 'Z' && name[16] == '-' &&
		strspn(name + 17, hex) == PHI_FINGERPRINT_SIZE - 1 &&
		strcmp(name + 16 + PHI_FINGERPRINT_SIZE, SUFFIX) == 0;
}

/* Labels begin with their time, so the greatest name is the newest. */
static bool
file_newest(char *label)
{
	const char *directory = key_directory();
	DIR		   *dir = AllocateDir(directory);
	struct dirent *de;

	label[0] = '\0';
	while ((de = ReadDir(dir, directory)) != NULL)
	{
		size_t		len = strlen(de->d_name) - strlen(SUFFIX);

		if (is_key_file(de->d_name) && strncmp(de->d_name, label, len) > 0)
			strlcpy(label, de->d_name, len + 1);
	}
	FreeDir(dir);
	return label[0] != '\0';
}

static void
report_irregular(const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("master key file \"%s\" is not a regular file", path),
			 errhint("Put the file itself into the key directory.")));
}

static void
file_fetch(const char *label, uint8 *key)
{
	char		path[MAXPGPATH];
	uint8		text[FILE_SIZE + 1];
	struct stat st;
	size_t		used;
	ssize_t		n;
	int			fd;
	PhiStatus	status;

	key_path(label, path);
	/* A pipe must not keep the server waiting. */
	fd = OpenTransientFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
	if (fd < 0 && errno == ELOOP)
		report_irregular(path);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open master key file \"%s\": %m", path),
				 errhint("Bring the file back from where the custodians keep its copy.")));
	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not access master key file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		report_irregular(path);
	check_owner_and_mode("master key file", path, &st);
	n = read(fd, text, sizeof(text));
	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read master key file \"%s\": %m", path)));
	CloseTransientFile(fd);

	/* The line feed may be missing: editors and copies by hand lose it. */
	if (n == FILE_SIZE && text[FILE_SIZE - 1] == '\n')
		n--;
	status = phi_hex_decode((char *) text, n, key, PHI_SECRET_SIZE, &used);
	phi_memory_wipe(text, sizeof(text));
	if (status != PHI_OK || used != PHI_SECRET_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("master key file \"%s\" does not hold a key", path),
				 errdetail("A key is %d hexadecimal digits.", 2 * PHI_SECRET_SIZE),
				 errhint("Bring the file back from where the custodians keep its copy.")));
	phi_check_label(key, label, path);
}

static bool
file_available(const char *label)
{
	char		path[MAXPGPATH];

	if (phi_key_directory == NULL || phi_key_directory[0] == '\0' ||
		snprintf(path, MAXPGPATH, "%s/%s" SUFFIX, phi_key_directory, label) >= MAXPGPATH)
		return false;
	return access(path, R_OK) == 0;
}

/* Writes, syncs and closes; the errors name the file. */
static void
write_key_file(const char *path, const uint8 *key)
{
	char		text[FILE_SIZE + 1];
	int			fd;
	ssize_t		n;

	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY,
							   S_IRUSR | S_IWUSR);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create master key file \"%s\": %m", path)));
	phi_hex_encode(key, PHI_SECRET_SIZE, text);
	text[FILE_SIZE - 1] = '\n';
	errno = 0;
	n = write(fd, text, FILE_SIZE);
	phi_memory_wipe(text, sizeof(text));
	if (n != FILE_SIZE)
	{
		/* A short write without an error means that the disk is full. */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write master key file \"%s\": %m", path)));
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not sync master key file \"%s\": %m", path)));
}

static void
file_create(char *label)
{
	char		path[MAXPGPATH];
	char		temporary[MAXPGPATH];
	uint8		key[PHI_SECRET_SIZE];

	if (phi_random_key(key, sizeof(key)) != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a master key")));
	PG_TRY();
	{
		phi_make_label(key, label);
		key_path(label, path);
		snprintf(temporary, MAXPGPATH, "%s/.new-%d", key_directory(), MyProcPid);
		unlink(temporary);		/* left by a crashed process of our number */
		write_key_file(temporary, key);
	}
	PG_FINALLY();
	{
		phi_memory_wipe(key, sizeof(key));
	}
	PG_END_TRY();
	if (link(temporary, path) != 0 || unlink(temporary) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not name master key file \"%s\": %m", path)));
	fsync_fname(key_directory(), true);
	ereport(LOG,
			(errmsg("created master key \"%s\"", label),
			 errhint("Copy its file to a safe place: without it no value can be read.")));
}

const PhiKeyProvider phi_provider_file = {
	.name = "file",
	.newest = file_newest,
	.fetch = file_fetch,
	.available = file_available,
	.create = file_create
};
