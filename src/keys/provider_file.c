/*
 * provider_file.c
 *		Master keys in files: <phi.key_directory>/<label>.kek, each 64
 *		hexadecimal digits and a line feed, mode 0600.
 *
 * Hexadecimal so that a custodian can print one and lock it away.
 */
#include "postgres.h"

#include "keys/directory.h"
#include "keys/provider.h"

#define SUFFIX ".kek"
#define KIND "master key file"

static bool
file_newest(char *label)
{
	return phi_newest_label(SUFFIX, label);
}

static List *
file_list(void)
{
	return phi_timed_labels(SUFFIX);
}

static bool
file_stored(const char *label)
{
	return phi_key_file_readable(label, SUFFIX);
}

static void
file_fetch(const char *label, uint8 *key)
{
	char		path[MAXPGPATH];
	char		text[PHI_KEY_TEXT_SIZE + 1];
	ssize_t		n;
	PhiStatus	status;

	phi_key_path(label, SUFFIX, path);
	n = phi_read_key_file(KIND, path, text, sizeof(text),
						  "Bring the file back from where the custodians keep its copy.");
	status = phi_parse_key(text, n, key);
	phi_memory_wipe(text, sizeof(text));
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg(KIND " \"%s\" does not hold a key", path),
				 errdetail("A key is %d hexadecimal digits.", 2 * PHI_SECRET_SIZE),
				 errhint("Bring the file back from where the custodians keep its copy.")));
	phi_check_label(key, label, path);
}

static void
file_create(const char *after, char *label, uint8 *key)
{
	char		path[MAXPGPATH];
	char		text[PHI_KEY_TEXT_SIZE + 1];

	phi_new_master_key(key);
	phi_make_timed_label(after, key, label);
	phi_key_path(label, SUFFIX, path);
	phi_hex_encode(key, PHI_SECRET_SIZE, text);
	text[PHI_KEY_TEXT_SIZE - 1] = '\n';
	PG_TRY();
	{
		phi_write_key_file(KIND, path, text, PHI_KEY_TEXT_SIZE, false);
	}
	PG_FINALLY();
	{
		phi_memory_wipe(text, sizeof(text));
	}
	PG_END_TRY();
	ereport(LOG,
			(errmsg("created master key \"%s\"", label),
			 errhint("Copy its file to a safe place: without it no value can be read.")));
}

const PhiKeyProvider phi_provider_file = {
	.name = "file",
	.newest = file_newest,
	.fetch = file_fetch,
	.available = file_stored,
	.stored = file_stored,
	.create = file_create,
	.list = file_list
};
