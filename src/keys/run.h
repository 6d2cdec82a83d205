/*
 * run.h
 *		Running shell commands.
 */
#ifndef PHI_RUN_H
#define PHI_RUN_H

typedef struct PhiRun
{
	int			status;			/* as of waitpid */
	bool		timed_out;
	size_t		output_len;		/* may be more than there was room for */
	char		errors[512];	/* the beginning of stderr, fit to be logged */
} PhiRun;

/*
 * Runs "command" through sh, at most "timeout" ms, in a process group of its
 * own that is killed when time is up or the query is cancelled.  Up to "room"
 * bytes of its output go to "output".
 */
extern void phi_run(const char *command, int timeout, char *output, size_t room,
					PhiRun *run);

/*
 * The same with "len" bytes on its standard input, at most 64 kB; its output is
 * thrown away.  "purpose" is for the message that it could not be started.
 */
extern void phi_run_with_input(const char *purpose, const char *command, const char *input,
							   size_t len, int timeout, PhiRun *run);

#endif							/* PHI_RUN_H */
