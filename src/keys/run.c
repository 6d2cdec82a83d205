/*
 * run.c
 *		Running a shell command whose output is secret.
 *
 * Through posix_spawn, which copies no memory: a forked child would hold this
 * process's keys until its exec.  system() and popen() cannot be cancelled, nor
 * keep stderr apart.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"

#include "crypto/crypto.h"
#include "keys/run.h"

#define LOOK_EVERY 100			/* ms: a signal may come just before poll */

extern char **environ;

typedef struct Child
{
	pid_t		pid;			/* 0: none, or waited for */
	int			out;			/* -1: closed */
	int			err;
} Child;

static void
close_pipe(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* With the signals of a process that has just begun, and no file of ours. */
static int
spawn(const char *command, int in, int out, int err, pid_t *pid)
{
	char	   *const argv[] = {"sh", "-c", unconstify(char *, command), NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t	all;
	sigset_t	none;
	int			result;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF |
							 POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawn_file_actions_init(&files);
	if (in >= 0)
		posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
	else
		posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
	result = posix_spawn(pid, "/bin/sh", &files, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return result;
}

/*
 * A pipe that holds the input and its end, so that nobody has to write while the
 * command runs; -1 with errno when it has no room for it.
 */
static int
fill_pipe(const char *input, size_t len)
{
	int			in[2];
	bool		whole;

	if (pipe(in) != 0)
		return -1;
	errno = EFBIG;				/* what a short write means */
	whole = fcntl(in[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 &&
		write(in[1], input, len) == (ssize_t) len;
	if (!whole)
		close_pipe(&in[0]);
	close_pipe(&in[1]);
	return in[0];
}

static void
start(Child *child, const char *purpose, const char *command, const char *input, size_t len)
{
	int			in = -1;
	int			out[2] = {-1, -1};
	int			err[2] = {-1, -1};
	int			result = 0;

	if ((input != NULL && (in = fill_pipe(input, len)) < 0) || pipe(out) != 0 || pipe(err) != 0 ||
		fcntl(out[0], F_SETFD, FD_CLOEXEC) != 0 || fcntl(err[0], F_SETFD, FD_CLOEXEC) != 0)
		result = errno;
	if (result == 0)
		result = spawn(command, in, out[1], err[1], &child->pid);
	close_pipe(&in);
	close_pipe(&out[1]);
	close_pipe(&err[1]);
	child->out = out[0];
	child->err = err[0];
	if (result == 0)
		return;
	close_pipe(&child->out);
	close_pipe(&child->err);
	child->pid = 0;
	errno = result;
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("could not start the command for %s: %m", purpose)));
}

/* Whatever the command has started goes with it. */
static void
stop(int code, Datum arg)
{
	Child	   *child = (Child *) DatumGetPointer(arg);

	if (child->pid != 0)
	{
		(void) kill(-child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	child->pid = 0;
	close_pipe(&child->out);
	close_pipe(&child->err);
}

/* Reads what there is; what has no place is counted and wiped. */
static void
drain(int *fd, char *to, size_t room, size_t *len)
{
	char		chunk[1024];
	ssize_t		n = read(*fd, chunk, sizeof(chunk));

	if (n > 0)
	{
		if (*len < room)
			memcpy(to + *len, chunk, Min((size_t) n, room - *len));
		*len += n;
	}
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		close_pipe(fd);
	phi_memory_wipe(chunk, sizeof(chunk));
}

/* Both pipes to their end, then the process; false when time is up. */
static bool
attend(Child *child, int timeout, char *output, size_t room, PhiRun *run,
	   size_t *errors_len)
{
	instr_time	begin;
	instr_time	now;

	INSTR_TIME_SET_CURRENT(begin);
	for (;;)
	{
		struct pollfd fds[2] = {{child->out, POLLIN, 0}, {child->err, POLLIN, 0}};

		CHECK_FOR_INTERRUPTS();
		if (child->out < 0 && child->err < 0 &&
			waitpid(child->pid, &run->status, WNOHANG) == child->pid)
		{
			child->pid = 0;
			return true;
		}
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, begin);
		if (INSTR_TIME_GET_MILLISEC(now) >= timeout)
			return false;
		/* A command may close its output and go on: then look often. */
		(void) poll(fds, 2, child->out < 0 && child->err < 0 ? 1 : LOOK_EVERY);
		if (fds[0].revents != 0)
			drain(&child->out, output, room, &run->output_len);
		if (fds[1].revents != 0)
			drain(&child->err, run->errors, sizeof(run->errors) - 1, errors_len);
	}
}

/*
 * For the log: printable, and without what may be a key that the command
 * echoes, as "set -x" does.
 */
static void
make_loggable(char *text, size_t len)
{
	size_t		run = 0;

	text[len] = '\0';
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		text[--len] = '\0';
	for (size_t i = 0; i <= len; i++)
	{
		unsigned char c = text[i];

		if (isalnum(c) || (c != '\0' && strchr("+/=", c) != NULL))
		{
			run++;
			continue;
		}
		if (run >= PHI_SECRET_SIZE)
			memset(text + i - run, '*', run);
		run = 0;
		if (c != '\0' && (c < ' ' || c > '~'))
			text[i] = ' ';
	}
}

static void
run_command(const char *purpose, const char *command, const char *input, size_t len,
			int timeout, char *output, size_t room, PhiRun *run)
{
	Child		child = {0, -1, -1};
	size_t		errors_len = 0;

	memset(run, 0, sizeof(*run));
	start(&child, purpose, command, input, len);
	/* Also when this process is told to end: that unwinds no PG_TRY. */
	PG_ENSURE_ERROR_CLEANUP(stop, PointerGetDatum(&child));
	{
		run->timed_out = !attend(&child, timeout, output, room, run, &errors_len);
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop, PointerGetDatum(&child));
	stop(0, PointerGetDatum(&child));
	make_loggable(run->errors, Min(errors_len, sizeof(run->errors) - 1));
}

void
phi_run(const char *command, int timeout, char *output, size_t room, PhiRun *run)
{
	run_command("a master key", command, NULL, 0, timeout, output, room, run);
}

void
phi_run_with_input(const char *purpose, const char *command, const char *input, size_t len,
				   int timeout, PhiRun *run)
{
	run_command(purpose, command, input, len, timeout, NULL, 0, run);
}
