/*
 * provider_custodian.c
 *		Master keys that no one has: each is made of the shares of several
 *		custodians, and only in the memory of the server.
 *
 * A share lies in the key directory, in a box to its custodian's public key.
 * phi-unseal opens it with his passphrase, on his machine, and sends it in a
 * box to a public key of this server's: no statement carries a passphrase, nor
 * anything that is of use to who reads it in a log.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "guc.h"
#include "keys/catalog.h"
#include "keys/custodian.h"
#include "keys/directory.h"
#include "keys/login.h"
#include "keys/rows.h"
#include "keys/vault.h"

/* What phi-unseal puts into its box: format 1, number, share, label. */
#define MESSAGE_FORMAT 1
#define MESSAGE_SHARE 2
#define MESSAGE_LABEL (MESSAGE_SHARE + PHI_SECRET_SIZE)
#define MESSAGE_MAX (MESSAGE_LABEL + PHI_LABEL_SIZE)

PG_FUNCTION_INFO_V1(phi_custodian_shares);
PG_FUNCTION_INFO_V1(phi_stage_share);

static bool
custodian_newest(char *label)
{
	return phi_newest_label(PHI_SHARES_SUFFIX, label);
}

static List *
custodian_list(void)
{
	return phi_timed_labels(PHI_SHARES_SUFFIX);
}

static bool
custodian_stored(const char *label)
{
	return phi_key_file_readable(label, PHI_SHARES_SUFFIX);
}

/* Only custodians bring a key: see phi_stage_share. */
static bool
custodian_available(const char *label)
{
	return false;
}

static void
report_locked(const char *label, int threshold)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the server is sealed"),
			 errdetail("%d of %d custodians have given their shares of master key \"%s\".",
					   phi_vault_staged(label), threshold, label),
			 errhint("Custodians give their shares with phi-unseal.")));
}

static void
custodian_fetch(const char *label, uint8 *key)
{
	PhiShares	shares;

	phi_read_shares(label, &shares);
	report_locked(label, shares.threshold);
}

/* Everybody's public key is there, so nobody's passphrase is needed. */
static void
share_out(const uint8 *key, const PhiCustodian *custodians, PhiShares *shares)
{
	uint8		plain[PHI_SHARES_MAX * PHI_SECRET_SIZE];
	PhiStatus	status;

	status = phi_share_split(key, shares->threshold, shares->n, plain);
	for (int i = 0; i < shares->n && status == PHI_OK; i++)
	{
		PhiShare   *share = &shares->share[i];
		const uint8 *mine = plain + i * PHI_SECRET_SIZE;

		share->of = custodians[i];
		status = phi_fingerprint(mine, PHI_SECRET_SIZE, share->fingerprint);
		if (status == PHI_OK)
			status = phi_box_seal(share->of.public_key,
								  (PhiSpan) {mine, PHI_SECRET_SIZE}, share->box);
	}
	phi_memory_wipe(plain, sizeof(plain));
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not share out a master key")));
}

static void
custodian_create(const char *after, char *label, uint8 *key)
{
	PhiCustodian custodians[PHI_SHARES_MAX];
	PhiShares	shares;

	shares.threshold = phi_custodian_threshold;
	shares.n = phi_read_custodians(custodians);
	if (shares.n < shares.threshold)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are too few custodians for a master key"),
				 errdetail("%d have enrolled, and phi.custodian_threshold is %d.",
						   shares.n, shares.threshold),
				 errhint("Custodians enroll with phi-unseal --enroll.")));
	phi_new_master_key(key);
	phi_make_timed_label(after, key, label);
	share_out(key, custodians, &shares);
	phi_write_shares(label, &shares);
	ereport(LOG,
			(errmsg("created master key \"%s\", shared by %d custodians, of whom %d make it",
					label, shares.n, shares.threshold),
			 errhint("Copy its file to a safe place: without it no value can be read.")));
}

/* The key that this database needs; the newest while it has no keys. */
static bool
needed_label(char *label)
{
	PhiKeyRow	last;

	if (!phi_read_last_key(&last))
		return custodian_newest(label);
	strlcpy(label, last.label, PHI_LABEL_SIZE);
	return true;
}

static void
report_missing(int elevel, const char *label)
{
	ereport(elevel,
			(errcode(ERRCODE_UNDEFINED_FILE),
			 errmsg("the shares file of master key \"%s\" is missing", label),
			 errdetail("The keys of this database are wrapped by that key."),
			 errhint("Bring the file back from a copy: without it the custodians cannot make the key.")));
}

static bool
custodian_locked(int *given, int *wanted)
{
	char		label[PHI_LABEL_SIZE];
	PhiShares	shares;

	if (!needed_label(label))
		return false;
	if (custodian_stored(label))
	{
		phi_read_shares(label, &shares);
		*given = phi_vault_staged(label);
		*wanted = shares.threshold;
	}
	else
		report_missing(WARNING, label);
	return !phi_vault_holds(label);
}

/* Fingerprints of the shares were right, so a wrong key means an altered file. */
static bool
is_ready(const char *label, PhiReadyKey *key)
{
	PhiShares	shares;
	PhiStatus	status;

	if (phi_vault_staged(label) == 0)
		return false;
	phi_read_shares(label, &shares);
	status = phi_vault_combine(label, shares.threshold, false);
	if (status == PHI_MALFORMED)
		return false;			/* too few */
	if (status != PHI_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("the shares of master key \"%s\" do not make that key", label),
				 errdetail("They were dropped."),
				 errhint("Its shares file was altered: bring it back from a copy, and let the custodians give their shares again.")));
	strlcpy(key->label, label, PHI_LABEL_SIZE);
	key->threshold = shares.threshold;
	return true;
}

/* An old key alone is no reason to lift the seal: what is needed is locked yet. */
static List *
custodian_ready(void)
{
	char		needed[PHI_LABEL_SIZE];
	bool		enough = !needed_label(needed) || phi_vault_holds(needed);
	List	   *keys = NIL;
	ListCell   *cell;

	foreach(cell, custodian_list())
	{
		PhiReadyKey *key = palloc(sizeof(PhiReadyKey));

		if (!is_ready(lfirst(cell), key))
			continue;
		keys = lappend(keys, key);
		enough = enough || strcmp(key->label, needed) == 0;
	}
	if (!enough)
	{
		PhiShares	shares;

		if (!custodian_stored(needed))
			report_missing(ERROR, needed);
		phi_read_shares(needed, &shares);
		report_locked(needed, shares.threshold);
	}
	return keys;
}

const PhiKeyProvider phi_provider_custodian = {
	.name = "custodian",
	.newest = custodian_newest,
	.fetch = custodian_fetch,
	.available = custodian_available,
	.stored = custodian_stored,
	.create = custodian_create,
	.list = custodian_list,
	.locked = custodian_locked,
	.ready = custodian_ready
};

static void
add_rows(PhiRows *rows, const char *label, const char *server_key)
{
	PhiShares	shares;

	phi_read_shares(label, &shares);
	for (int i = 0; i < shares.n; i++)
	{
		const PhiShare *share = &shares.share[i];
		char		salt[25];
		char		box[109];
		Datum		values[7];

		if (strcmp(share->of.name, phi_login()) != 0)
			continue;
		phi_base64_encode(share->of.salt, PHI_SALT_SIZE, salt);
		phi_base64_encode(share->box, PHI_SHARE_BOX, box);
		values[0] = CStringGetTextDatum(label);
		values[1] = Int32GetDatum(i + 1);
		values[2] = CStringGetTextDatum(salt);
		values[3] = Int64GetDatum(share->of.opslimit);
		values[4] = Int64GetDatum(share->of.memlimit);
		values[5] = CStringGetTextDatum(box);
		values[6] = CStringGetTextDatum(server_key);
		phi_rows_add(rows, values);
	}
}

/*
 * phi.custodian_shares() returns table (label text, number integer, salt text,
 *		opslimit bigint, memlimit bigint, box text, server_key text)
 *
 * Those of who logged in, of keys that the server does not have.
 */
Datum
phi_custodian_shares(PG_FUNCTION_ARGS)
{
	PhiRows		rows = phi_rows_begin(fcinfo);
	uint8		public_key[PHI_BOX_KEY];
	char		server_key[45];
	char		needed[PHI_LABEL_SIZE];
	ListCell   *cell;

	if (needed_label(needed) && !custodian_stored(needed))
		report_missing(WARNING, needed);
	phi_vault_public_key(public_key);
	phi_base64_encode(public_key, PHI_BOX_KEY, server_key);
	foreach(cell, custodian_list())
	{
		if (!phi_vault_holds(lfirst(cell)))
			add_rows(&rows, lfirst(cell), server_key);
	}
	return (Datum) 0;
}

static void
refuse_share(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("this is no share of a master key"),
			 errhint("Use phi-unseal; if this was a passphrase, change it: it may be in the server's log.")));
}

/* Opens what phi-unseal has sent; the share and its label are in "message". */
static void
open_message(const char *text, uint8 *message, char *label, uint64 *epoch)
{
	uint8		box[MESSAGE_MAX + PHI_BOX_EXTRA];
	size_t		len;

	if (phi_base64_decode(text, strlen(text), box, sizeof(box), &len) != PHI_OK ||
		len <= PHI_BOX_EXTRA + MESSAGE_LABEL ||
		len >= sizeof(box) ||
		phi_vault_open_box((PhiSpan) {box, len}, message, epoch) != PHI_OK ||
		message[0] != MESSAGE_FORMAT)
		refuse_share();
	len -= PHI_BOX_EXTRA + MESSAGE_LABEL;
	memcpy(label, message + MESSAGE_LABEL, len);
	label[len] = '\0';
	if (!phi_label_is_timed(label))
		refuse_share();
}

/* ERROR unless it is the share that who logged in was given; the threshold. */
static int
check_share(const char *label, int number, const uint8 *share)
{
	PhiShares	shares;
	char		fingerprint[PHI_FINGERPRINT_SIZE];

	phi_read_shares(label, &shares);
	if (number < 1 || number > shares.n)
		refuse_share();
	if (strcmp(shares.share[number - 1].of.name, phi_login()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("share %d of master key \"%s\" belongs to another custodian", number, label)));
	if (phi_fingerprint(share, PHI_SECRET_SIZE, fingerprint) != PHI_OK ||
		strcmp(fingerprint, shares.share[number - 1].fingerprint) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is not share %d of master key \"%s\"", number, label),
				 errhint("Use phi-unseal.")));
	return shares.threshold;
}

/* Whether this database's key is in use, or enough have come for it. */
static bool
needs_no_more(void)
{
	char		needed[PHI_LABEL_SIZE];
	PhiShares	shares;

	if (!needed_label(needed) || phi_vault_holds(needed))
		return true;
	if (!custodian_stored(needed))
		report_missing(ERROR, needed);
	phi_read_shares(needed, &shares);
	return phi_vault_staged(needed) >= shares.threshold;
}

/* Whether there are enough now; leaves the share in "message". */
static pg_noinline bool
take_share(const char *text, uint8 *message)
{
	char		label[PHI_LABEL_SIZE];
	uint64		epoch;
	int			threshold;

	open_message(text, message, label, &epoch);
	threshold = check_share(label, message[1], message + MESSAGE_SHARE);
	if (phi_vault_holds(label))
		return needs_no_more();
	if (!phi_vault_stage(label, message[1], message + MESSAGE_SHARE, epoch))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the share was not kept"),
				 errdetail("The server was sealed meanwhile, or too many shares are waiting for others."),
				 errhint("Run phi-unseal again; phi.seal() drops all shares that wait.")));
	ereport(LOG,
			(errmsg("custodian \"%s\" gave his share of master key \"%s\"",
					phi_login(), label)));
	return phi_vault_staged(label) >= threshold && needs_no_more();
}

/* phi.stage_share(share text) returns boolean: whether there are enough now */
Datum
phi_stage_share(PG_FUNCTION_ARGS)
{
	uint8		message[MESSAGE_MAX] = {0};
	volatile bool enough = false;

	if (phi_key_provider != PHI_PROVIDER_CUSTODIAN)
		refuse_share();
	PG_TRY();
	{
		enough = take_share(text_to_cstring(PG_GETARG_TEXT_PP(0)), message);
	}
	PG_FINALLY();
	{
		phi_memory_wipe(message, sizeof(message));
	}
	PG_END_TRY();
	PG_RETURN_BOOL(enough);
}
