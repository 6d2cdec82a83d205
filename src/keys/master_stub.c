/*
 * master_stub.c
 *		Stands in for what the providers will do; to be dropped with their merge.
 */
#include "postgres.h"

#include <dirent.h>
#include <time.h>

#include "storage/fd.h"

#include "guc.h"
#include "keys/master.h"

void
phi_master_create(const char *after, char *label)
{
	for (;;)
	{
		char		when[24];
		time_t		now = time(NULL);
		struct tm	utc;

		strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
		if (strncmp(when, after, 16) > 0)
			break;
		pg_usleep(50000);
	}
	phi_provider_file.create(label);
}

List *
phi_master_labels(void)
{
	List	   *labels = NIL;
	DIR		   *dir = AllocateDir(phi_key_directory);
	struct dirent *de;

	while ((de = ReadDir(dir, phi_key_directory)) != NULL)
	{
		size_t		len = strlen(de->d_name);

		if (len > 4 && strcmp(de->d_name + len - 4, ".kek") == 0)
			labels = lappend(labels, pnstrdup(de->d_name, len - 4));
	}
	FreeDir(dir);
	return labels;
}
