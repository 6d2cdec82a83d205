/*
 * phi-verify.c
 *		The auditor's program: verifies an export of the audit log, without a
 *		database and without trust in one.
 */
#include <sodium.h>

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/verify.h"

static unsigned long long faults;

static void
usage(FILE *to)
{
	fputs("phi-verify verifies an export of the audit log of pg_phi.\n\n"
		  "Usage: phi-verify --records=FILE --leaves=FILE --checkpoints=FILE --key=KEY\n\n"
		  "  --records=FILE      COPY (SELECT * FROM phi.audit_log) TO ... (FORMAT binary)\n"
		  "  --leaves=FILE       COPY phi.audit_leaf TO ... (FORMAT binary); without them the\n"
		  "                      fault is told as lying between two checkpoints\n"
		  "  --checkpoints=FILE  signed notes, one after the other\n"
		  "  --key=KEY           verifier key, or a file with one in each line\n"
		  "  --retired=FILE      signed notes of what was retired; needs --leaves\n"
		  "  --part              these are the records of some leaves only; needs --leaves\n"
		  "  --roots             only compute roots; without checkpoints nothing is verified\n"
		  "  --help              show this\n\n"
		  "Each may be given several times. docs/audit-format.md tells what the files are.\n"
		  "Exit status: 0 verified, 1 faults were found, 2 could not do it.\n", to);
}

void
phi_fail(const char *format,...)
{
	va_list		args;

	fflush(stdout);
	fputs("phi-verify: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\n", stderr);
	exit(2);
}

void
phi_fault(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	faults++;
}

void
phi_remark(const char *format,...)
{
	va_list		args;

	fputs("note: ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void *
phi_allocate(size_t size)
{
	void	   *result = calloc(1, size > 0 ? size : 1);

	if (result == NULL)
		phi_fail("out of memory");
	return result;
}

void *
phi_grow(void *items, size_t *room, size_t n, size_t size)
{
	if (n < *room)
		return items;
	*room = *room == 0 ? 1024 : *room + *room / 2;
	items = *room > SIZE_MAX / size ? NULL : realloc(items, *room * size);
	if (items == NULL)
		phi_fail("out of memory");
	return items;
}

/* Keys come first: what is read with them may stand before them. */
enum
{
	KEYS = 'k', RECORDS = 'r', LEAVES = 'l', CHECKPOINTS = 'c', RETIRED = 't', PART = 'p', ROOTS = 'o', HELP = 'h'
};

static const struct option options[] = {
	{"key", required_argument, NULL, KEYS},
	{"records", required_argument, NULL, RECORDS},
	{"leaves", required_argument, NULL, LEAVES},
	{"checkpoints", required_argument, NULL, CHECKPOINTS},
	{"retired", required_argument, NULL, RETIRED},
	{"part", no_argument, NULL, PART},
	{"roots", no_argument, NULL, ROOTS},
	{"help", no_argument, NULL, HELP},
	{NULL, 0, NULL, 0}
};

static void
wrong_usage(void)
{
	usage(stderr);
	exit(2);
}

/* How often each option is there; ends the program when it makes no sense. */
static void
count_options(int argc, char **argv, int *given)
{
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (option == HELP)
		{
			usage(stdout);
			exit(0);
		}
		if (option == '?')
			wrong_usage();
		given[option]++;
	}
	if (optind < argc || (given[RECORDS] == 0 && given[RETIRED] == 0) ||
		(given[RETIRED] + given[PART] > 0 && given[LEAVES] == 0) ||
		(given[CHECKPOINTS] == 0) != (given[ROOTS] > 0) ||
		(given[KEYS] == 0) != (given[CHECKPOINTS] == 0 && given[RETIRED] == 0))
		wrong_usage();
}

static void
read_files(Log *log, int argc, char **argv, int wanted)
{
	int			option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (option != wanted)
			continue;
		if (option == KEYS)
			phi_read_keys(log, optarg);
		else if (option == RECORDS)
			phi_read_records(log, optarg);
		else if (option == LEAVES)
			phi_read_leaves(log, optarg);
		else if (option == CHECKPOINTS)
			phi_read_checkpoints(log, optarg);
		else if (option == RETIRED)
			phi_read_retirements(log, optarg);
	}
}

static void
tell_root(const char *what, const PhiHash *root)
{
	char		text[64];

	phi_base64_encode(root->byte, PHI_HASH_SIZE, text);
	printf("%s %s\n", what, text);
}

static int
tell_verdict(const Log *log, const PhiHash *root, const PhiHash *present)
{
	printf("records: %zu\nleaves: %zu\ncheckpoints: %zu\n", log->records.n, log->leaves.n, log->heads.n);
	tell_root("root:", root);
	tell_root("subtree root:", present);
	if (faults > 0)
		printf("%llu faults\n", faults);
	else
		puts(log->heads.n > 0 ? "verified" : "nothing was verified");
	if (fflush(stdout) != 0 || ferror(stdout))
		phi_fail("could not write what was found");
	return faults > 0 ? 1 : 0;
}

int
main(int argc, char **argv)
{
	static Log	log;
	int			given[128] = {0};
	PhiHash		root;
	PhiHash		present;

	if (sodium_init() < 0)
		phi_fail("libsodium does not start");
	if (phi_sha256(NULL, 0, present.byte) != PHI_OK)
		phi_fail("OpenSSL has no SHA-256");
	count_options(argc, argv, given);
	log.part = given[PART] > 0;
	read_files(&log, argc, argv, KEYS);
	read_files(&log, argc, argv, CHECKPOINTS);
	if (given[CHECKPOINTS] > 0 && log.heads.n == 0 && faults == 0)
		phi_fail("there is no checkpoint in what was given");
	read_files(&log, argc, argv, RETIRED);
	read_files(&log, argc, argv, LEAVES);
	read_files(&log, argc, argv, RECORDS);
	if (given[LEAVES] > 0)
	{
		phi_order_leaves(&log);
		phi_apply_retirements(&log);
		phi_compare_records(&log);
	}
	else
		phi_derive_leaves(&log);
	phi_compare_heads(&log, &root);
	phi_root_of_present(&log, &present);
	return tell_verdict(&log, &root, &present);
}
