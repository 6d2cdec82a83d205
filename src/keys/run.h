/*
 * run.h
 *		Running a shell command whose output is secret.
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

#endif							/* PHI_RUN_H */
