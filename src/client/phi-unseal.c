/*
 * phi-unseal.c
 *		The custodian's program: gives his share of the master key to a sealed
 *		server, or makes him a custodian.
 *
 * The passphrase stays here.  Argon2id makes a key pair of it; the server knows
 * the public half, and keeps the custodian's share in a box to it.  That box is
 * opened here, and the share sent in another one, to a key that the server made
 * when it started.
 */
#include <libpq-fe.h>
#include <sodium.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSPHRASE_MIN 12		/* characters */
#define PASSPHRASE_ROOM 1024
#define SHARE_SIZE 32
#define BOX_SIZE (SHARE_SIZE + crypto_box_SEALBYTES)
#define LABEL_SIZE 80
#define BASE64 sodium_base64_VARIANT_ORIGINAL
#define TEXT_SIZE(n) sodium_base64_ENCODED_LEN(n, BASE64)

/* As the server takes it: format, number, share, label. */
#define MESSAGE_FORMAT 1
#define MESSAGE_LABEL (2 + SHARE_SIZE)
#define MESSAGE_MAX (MESSAGE_LABEL + LABEL_SIZE)

/* All that is secret, in guarded memory. */
typedef struct Secrets
{
	char		passphrase[PASSPHRASE_ROOM];
	char		again[PASSPHRASE_ROOM];
	unsigned char seed[crypto_box_SEEDBYTES];
	unsigned char key[crypto_box_SECRETKEYBYTES];
	unsigned char message[MESSAGE_MAX];
} Secrets;

static Secrets *secrets;
static int	terminal = -1;
static struct termios echoing;

static void
restore_echo(void)
{
	if (terminal >= 0)
		(void) tcsetattr(terminal, TCSAFLUSH, &echoing);
}

static void
fail(const char *format, const char *what)
{
	restore_echo();
	fputs("phi-unseal: ", stderr);
	fprintf(stderr, format, what);
	fputs("\n", stderr);
	sodium_free(secrets);
	exit(1);
}

static void
usage(FILE *to)
{
	fputs("phi-unseal gives a custodian's share of the master key to a server with pg_phi.\n\n"
		  "Usage: phi-unseal [option]...\n\n"
		  "  -d, --dbname=CONNINFO  database, URI or connection string; else as for psql,\n"
		  "                         from PGHOST, PGDATABASE, PGUSER and so on\n"
		  "  --enroll               become a custodian, with a new passphrase\n"
		  "  --interactive          with --enroll: a quarter of the memory (64 MB), a fifth of\n"
		  "                         the time, and so much weaker against guessing\n"
		  "  --passphrase-stdin     read the passphrase from standard input, no terminal\n"
		  "  --help                 show this\n", to);
}

static void
on_signal(int number)
{
	restore_echo();
	signal(number, SIG_DFL);
	raise(number);
}

/* Byte by byte, so that no buffer of stdio's keeps a copy. */
static void
read_line(int from, char *line)
{
	size_t		len = 0;
	char		c;
	ssize_t		n;

	while ((n = read(from, &c, 1)) == 1 && c != '\n')
	{
		if (len == PASSPHRASE_ROOM - 1)
			fail("%s", "the passphrase is too long");
		line[len++] = c;
	}
	if (n < 0)
		fail("could not read the passphrase: %s", strerror(errno));
	line[len] = '\0';
}

/* Silent before it asks: somebody may be quick. */
static void
prompt(const char *text, char *line)
{
	struct termios silent = echoing;

	silent.c_lflag &= ~(tcflag_t) ECHO;
	if (tcsetattr(terminal, TCSAFLUSH, &silent) != 0)
		fail("could not turn off the terminal's echo: %s", strerror(errno));
	if (write(terminal, text, strlen(text)) < 0)
		fail("could not write to the terminal: %s", strerror(errno));
	read_line(terminal, line);
	restore_echo();
	(void) !write(terminal, "\n", 1);
}

static void
open_terminal(void)
{
	terminal = open("/dev/tty", O_RDWR | O_NOCTTY);
	if (terminal < 0 || tcgetattr(terminal, &echoing) != 0)
		fail("could not open the terminal: %s", strerror(errno));
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	signal(SIGQUIT, on_signal);
}

/* A new one is asked for twice. */
static void
ask_passphrase(bool from_stdin, bool new)
{
	size_t		characters = 0;

	if (from_stdin)
		read_line(STDIN_FILENO, secrets->passphrase);
	else
	{
		open_terminal();
		prompt(new ? "New passphrase: " : "Passphrase: ", secrets->passphrase);
		if (new)
			prompt("Once more: ", secrets->again);
		if (new && strcmp(secrets->passphrase, secrets->again) != 0)
			fail("%s", "the two passphrases differ");
	}
	for (const char *c = secrets->passphrase; *c != '\0'; c++)
		characters += ((unsigned char) *c & 0xC0) != 0x80;	/* UTF-8 */
	if (new && characters < PASSPHRASE_MIN)
		fail("%s", "the passphrase is too short: at least 12 characters, better four or five words");
}

/* The key pair of the passphrase; the secret half goes to secrets->key. */
static void
derive(const unsigned char *salt, unsigned long long opslimit, size_t memlimit,
	   unsigned char *public_key)
{
	if (crypto_pwhash(secrets->seed, sizeof(secrets->seed), secrets->passphrase,
					  strlen(secrets->passphrase), salt, opslimit, memlimit,
					  crypto_pwhash_ALG_ARGON2ID13) != 0)
		fail("%s", "could not derive the key: out of memory");
	(void) crypto_box_seed_keypair(public_key, secrets->key, secrets->seed);
	sodium_memzero(secrets->seed, sizeof(secrets->seed));
}

static void
check_result(PGconn *connection, PGresult *result, ExecStatusType wanted)
{
	const char *message = PQresultErrorMessage(result);

	if (PQresultStatus(result) == wanted)
		return;
	if (message[0] == '\0')
		message = PQerrorMessage(connection);
	fprintf(stderr, "%s", message);
	fail("%s", "the server refused; see above");
}

static PGresult *
query(PGconn *connection, const char *sql, int n, const char *const *parameters)
{
	PGresult   *result = PQexecParams(connection, sql, n, NULL, parameters,
									  NULL, NULL, 0);

	check_result(connection, result, PGRES_TUPLES_OK);
	return result;
}

static PGconn *
connect_to(const char *dbname)
{
	const char *const names[] = {"dbname", "fallback_application_name", NULL};
	const char *const values[] = {dbname, "phi-unseal", NULL};
	PGconn	   *connection = PQconnectdbParams(names, values, 1);

	if (PQstatus(connection) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(connection));
		fail("%s", "could not connect");
	}
	PQclear(query(connection, "SELECT pg_catalog.set_config('search_path', '', false)", 0, NULL));
	return connection;
}

static void
enroll(PGconn *connection, bool interactive, bool from_stdin)
{
	unsigned char salt[crypto_pwhash_SALTBYTES];
	unsigned char public_key[crypto_box_PUBLICKEYBYTES];
	unsigned long long opslimit = interactive ? crypto_pwhash_OPSLIMIT_INTERACTIVE :
		crypto_pwhash_OPSLIMIT_MODERATE;
	size_t		memlimit = interactive ? crypto_pwhash_MEMLIMIT_INTERACTIVE :
		crypto_pwhash_MEMLIMIT_MODERATE;
	char		salt_text[TEXT_SIZE(sizeof(salt))];
	char		ops_text[24];
	char		mem_text[24];
	char		key_text[TEXT_SIZE(sizeof(public_key))];
	const char *const parameters[] = {salt_text, ops_text, mem_text, key_text};

	ask_passphrase(from_stdin, true);
	randombytes_buf(salt, sizeof(salt));
	derive(salt, opslimit, memlimit, public_key);
	sodium_bin2base64(salt_text, sizeof(salt_text), salt, sizeof(salt), BASE64);
	sodium_bin2base64(key_text, sizeof(key_text), public_key, sizeof(public_key), BASE64);
	snprintf(ops_text, sizeof(ops_text), "%llu", opslimit);
	snprintf(mem_text, sizeof(mem_text), "%zu", memlimit);
	PQclear(query(connection, "SELECT phi.enroll_custodian($1, $2, $3, $4)", 4, parameters));
	printf("\"%s\" is enrolled, and gets a share of the next master key.\n"
		   "Public key, as in phi.custodians(): %s\n", PQuser(connection), key_text);
}

/* A column that must be base64 of exactly "size" bytes. */
static void
decode_column(PGresult *result, int row, const char *column,
			  unsigned char *out, size_t size)
{
	const char *text = PQgetvalue(result, row, PQfnumber(result, column));
	size_t		used;

	if (sodium_base642bin(out, size, text, strlen(text), NULL, &used, NULL, BASE64) != 0 ||
		used != size)
		fail("the server sent no sound \"%s\"", column);
}

static unsigned long long
number_column(PGresult *result, int row, const char *column, unsigned long long max)
{
	unsigned long long number = strtoull(PQgetvalue(result, row, PQfnumber(result, column)), NULL, 10);

	/* A server that has been taken over must not exhaust this machine. */
	if (number < 1 || number > max)
		fail("the server sent no sound \"%s\"", column);
	return number;
}

/* Opens the share of a row, and puts it into a box for the server. */
static bool
open_share(PGresult *result, int row, char *text, size_t room)
{
	unsigned char salt[crypto_pwhash_SALTBYTES];
	unsigned char box[BOX_SIZE];
	unsigned char server_key[crypto_box_PUBLICKEYBYTES];
	unsigned char public_key[crypto_box_PUBLICKEYBYTES];
	unsigned char sealed[MESSAGE_MAX + crypto_box_SEALBYTES];
	const char *label = PQgetvalue(result, row, PQfnumber(result, "label"));
	size_t		len = MESSAGE_LABEL + strlen(label);
	bool		opened;

	if (len >= MESSAGE_MAX)
		fail("the server sent no sound \"%s\"", "label");
	decode_column(result, row, "salt", salt, sizeof(salt));
	decode_column(result, row, "box", box, sizeof(box));
	decode_column(result, row, "server_key", server_key, sizeof(server_key));
	derive(salt, number_column(result, row, "opslimit", 64),
		   number_column(result, row, "memlimit", 4ULL << 30), public_key);
	secrets->message[0] = MESSAGE_FORMAT;
	secrets->message[1] = (unsigned char) number_column(result, row, "number", 255);
	memcpy(secrets->message + MESSAGE_LABEL, label, strlen(label));
	opened = crypto_box_seal_open(secrets->message + 2, box, sizeof(box),
								  public_key, secrets->key) == 0 &&
		crypto_box_seal(sealed, secrets->message, len, server_key) == 0;
	sodium_memzero(secrets->key, sizeof(secrets->key));
	sodium_memzero(secrets->message, sizeof(secrets->message));
	if (opened)
		sodium_bin2base64(text, room, sealed, len + crypto_box_SEALBYTES, BASE64);
	return opened;
}

/* One of each master key that the server does not have, the newest first. */
static void
give_shares(PGconn *connection, bool from_stdin)
{
	PGresult   *result = query(connection,
							   "SELECT * FROM phi.custodian_shares() ORDER BY label DESC", 0, NULL);
	char		text[TEXT_SIZE(MESSAGE_MAX + crypto_box_SEALBYTES)];
	const char *const parameters[] = {text};
	int			given = 0;

	if (PQntuples(result) == 0)
		fail("\"%s\" has no share that the server lacks: is it unsealed, is this the right role?",
			 PQuser(connection));
	ask_passphrase(from_stdin, false);
	for (int row = 0; row < PQntuples(result); row++)
	{
		const char *label = PQgetvalue(result, row, PQfnumber(result, "label"));
		PGresult   *answer;

		if (!open_share(result, row, text, sizeof(text)))
		{
			fprintf(stderr, "phi-unseal: this passphrase does not open the share of master key \"%s\"\n", label);
			continue;
		}
		answer = query(connection, "SELECT phi.unseal($1)", 1, parameters);
		printf("%s: share given%s\n", label, PQgetvalue(answer, 0, 0)[0] == 't' ?
			   ", and there are enough" : "; other custodians must give theirs");
		PQclear(answer);
		given++;
	}
	PQclear(result);
	if (given == 0)
		fail("%s", "the passphrase is wrong, or the shares file was altered");
}

static void
show_status(PGconn *connection)
{
	PGresult   *result = query(connection,
							   "SELECT CASE WHEN NOT sealed THEN 'The server is unsealed.'"
							   " WHEN threshold IS NULL THEN 'The server is sealed.'"
							   " ELSE pg_catalog.format('The server is sealed: %s of %s shares.', given, threshold) END"
							   " FROM phi.seal_status()", 0, NULL);

	puts(PQgetvalue(result, 0, 0));
	PQclear(result);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dbname", required_argument, NULL, 'd'},
		{"enroll", no_argument, NULL, 'e'},
		{"interactive", no_argument, NULL, 'i'},
		{"passphrase-stdin", no_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	const char *dbname = NULL;
	bool		enrolling = false;
	bool		interactive = false;
	bool		from_stdin = false;
	PGconn	   *connection;
	int			option;

	while ((option = getopt_long(argc, argv, "d:", options, NULL)) != -1)
	{
		if (option == 'd')
			dbname = optarg;
		else if (option == 'e')
			enrolling = true;
		else if (option == 'i')
			interactive = true;
		else if (option == 's')
			from_stdin = true;
		else
		{
			usage(option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	if (optind < argc || (interactive && !enrolling))
	{
		usage(stderr);
		return 2;
	}
	if (sodium_init() < 0 || (secrets = sodium_malloc(sizeof(Secrets))) == NULL)
		fail("%s", "libsodium does not start");
	sodium_memzero(secrets, sizeof(Secrets));
	if (from_stdin && isatty(STDIN_FILENO))
		fail("%s", "--passphrase-stdin does not read from a terminal, which would show the passphrase");
	connection = connect_to(dbname);
	if (enrolling)
		enroll(connection, interactive, from_stdin);
	else
	{
		give_shares(connection, from_stdin);
		show_status(connection);
	}
	PQfinish(connection);
	sodium_free(secrets);
	return 0;
}
