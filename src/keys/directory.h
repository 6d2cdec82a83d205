/*
 * directory.h
 *		The key directory and the files in it.
 */
#ifndef PHI_DIRECTORY_H
#define PHI_DIRECTORY_H

#include "nodes/pg_list.h"

/* The directory, checked: ERROR when it is not safe. */
extern const char *phi_checked_key_directory(void);

/* The path of a file in it, of MAXPGPATH bytes. */
extern void phi_key_path(const char *name, const char *suffix, char *path);

/* Whether it can be read; no error, and no check of the directory. */
extern bool phi_key_file_readable(const char *name, const char *suffix);

/* Names that end in "suffix", without it, if phi_label_is_timed. */
extern List *phi_timed_labels(const char *suffix);

/* The greatest of them; false: none. */
extern bool phi_newest_label(const char *suffix, char *label);

/*
 * Reads up to "room" bytes of a regular file that is closed to others.  "kind"
 * is what messages call it, "hint" what to do when it cannot be opened; with
 * no hint -1 says that there is no such file.
 */
extern ssize_t phi_read_key_file(const char *kind, const char *path, char *text,
								 size_t room, const char *hint);

/*
 * Writes a file of mode 0600 that is whole or not there, and syncs it.  Unless
 * "replace", an existing one is an error.
 */
extern void phi_write_key_file(const char *kind, const char *path,
							   const char *text, size_t len, bool replace);

#endif							/* PHI_DIRECTORY_H */
