/*
 * One log for all that is recorded. Records are written by C code below the
 * executor, in the transaction of what they tell of; the columns are read by
 * position in audit/record.c, and their binary form is the leaf of the Merkle
 * tree: docs/audit-format.md.
 */
CREATE SEQUENCE phi.audit_record_id INCREMENT BY 64;
COMMENT ON SEQUENCE phi.audit_record_id IS 'First of 64 record ids that one process then hands out';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_record_id', '');

CREATE TABLE phi.audit_log (
  record_id         bigint NOT NULL,
  at                timestamptz NOT NULL,
  xact_at           timestamptz NOT NULL,
  xact              xid8 NOT NULL,
  login             text NOT NULL,
  session_role      text NOT NULL,
  acting_role       text NOT NULL,
  person            text,
  client_addr       inet,
  application_name  text,
  clinic            text,
  relation          text,
  row_key           text[],
  operation         text NOT NULL,
  columns           text[],
  digest_key        int,
  old_digest        bytea,
  new_digest        bytea,
  detail            text
) PARTITION BY RANGE (at);
CREATE TABLE phi.audit_log_default PARTITION OF phi.audit_log DEFAULT;
/* Of each partition, not of all: see phi.make_audit_partition. */
CREATE INDEX audit_log_default_xact ON phi.audit_log_default (xact, record_id);
GRANT SELECT ON phi.audit_log TO phi_auditor;
COMMENT ON TABLE phi.audit_log IS
  'Audit records, in partitions by month (UTC): when, in which transaction, who (login, session user, current user, person), from where, for which clinic, what was done to which row. Never a value of a row: digests are keyed (docs/audit-format.md)';
COMMENT ON TABLE phi.audit_log_default IS 'Records of months whose partition was not made in time';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_log_default', '');

/* audit/log.c writes what follows, by name. */
CREATE TABLE phi.audit_state (
  one          boolean PRIMARY KEY DEFAULT true CHECK (one),
  system       text NOT NULL,
  horizon      xid8 NOT NULL,
  size         bigint NOT NULL,
  frontier     bytea NOT NULL,
  origin       text NOT NULL,
  exported     bigint NOT NULL DEFAULT 0,
  first_id     bigint NOT NULL DEFAULT 0,
  server_start timestamptz,
  settings     jsonb
);
COMMENT ON TABLE phi.audit_state IS
  'How far the log is sequenced: every record of a transaction before "horizon" has its leaf, and so have those with ids below "first_id", which came with a dump and bear the transactions of another server. "system" says whose log it is: the one of another database is not written to';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_state', '');

CREATE TRIGGER notice_open AFTER INSERT OR UPDATE OF system OR DELETE OR TRUNCATE ON phi.audit_state
  FOR EACH STATEMENT EXECUTE FUNCTION phi.notice_change();
ALTER TABLE phi.audit_state ENABLE ALWAYS TRIGGER notice_open;
GRANT SELECT ON phi.audit_state TO phi_auditor;

CREATE FUNCTION phi.audit_system() RETURNS text
  AS 'MODULE_PATHNAME', 'phi_audit_system' LANGUAGE C STABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.audit_system() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.audit_system() TO phi_auditor;
COMMENT ON FUNCTION phi.audit_system() IS
  'What tells this database from its copies: the system identifier and the OID of the database';

CREATE FUNCTION phi.audit_origin() RETURNS text
  LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(nullif(current_setting('phi.audit_origin'), ''), 'pg_phi/' || phi.audit_system());
END;
REVOKE EXECUTE ON FUNCTION phi.audit_origin() FROM PUBLIC;
COMMENT ON FUNCTION phi.audit_origin() IS 'Name of this log in its checkpoints, when it is opened; internal';

/* Not by the install script: a dump brings the row along, and with it its log. */
CREATE FUNCTION phi.open_audit() RETURNS void
  LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM phi.audit_state) THEN
    RETURN;
  END IF;
  LOCK TABLE phi.audit_state IN SHARE ROW EXCLUSIVE MODE;
  IF NOT EXISTS (SELECT FROM phi.audit_state) THEN
    /* Not later, by the worker, if nobody reads the log: then nothing has to be moved. */
    PERFORM phi.make_audit_partitions(false);
    INSERT INTO phi.audit_state (system, horizon, size, frontier, origin)
    VALUES (phi.audit_system(), '0', 0, '', phi.audit_origin()) ON CONFLICT DO NOTHING;
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.open_audit() FROM PUBLIC;
COMMENT ON FUNCTION phi.open_audit() IS
  'Opens the audit log of a database that has none; internal to the functions that one begins with';

CREATE TABLE phi.audit_leaf (
  first_leaf  bigint PRIMARY KEY CHECK (first_leaf >= 0),
  min_id      bigint NOT NULL,
  max_id      bigint NOT NULL,
  first_xact  xid8 NOT NULL,
  last_xact   xid8 NOT NULL,
  ids         bigint[] NOT NULL,
  hashes      bytea NOT NULL CHECK (length(hashes) = 32 * cardinality(ids)),
  CHECK (first_leaf % 64 + cardinality(ids) BETWEEN 1 AND 64)
);
ALTER TABLE phi.audit_leaf ALTER ids SET STORAGE PLAIN, ALTER hashes SET STORAGE PLAIN;
CREATE INDEX audit_leaf_id ON phi.audit_leaf (min_id, max_id);
GRANT SELECT ON phi.audit_leaf TO phi_auditor;
COMMENT ON TABLE phi.audit_leaf IS
  'The leaves of the Merkle log in their order, up to 64 in a row that never crosses a multiple of 64: ids and leaf hashes (RFC 6962, section 2.1) of records';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_leaf', '');

CREATE TABLE phi.audit_node (
  level   smallint NOT NULL CHECK (level > 0 AND level % 6 = 0),
  index   bigint NOT NULL CHECK (index >= 0),
  hash    bytea NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, index)
);
GRANT SELECT ON phi.audit_node TO phi_auditor;
COMMENT ON TABLE phi.audit_node IS
  'Hashes of the complete subtrees of 64, 64^2, ... leaves: subtree "index" of 2^level leaves, counted from 0';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_node', '');

CREATE TABLE phi.audit_checkpoint (
  size    bigint PRIMARY KEY CHECK (size >= 0),
  root    bytea NOT NULL CHECK (length(root) = 32),
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  key_id  int NOT NULL,
  note    text NOT NULL
);
GRANT SELECT ON phi.audit_checkpoint TO phi_auditor;
COMMENT ON TABLE phi.audit_checkpoint IS
  'Signed checkpoints: number of leaves, root of their tree, and the C2SP tlog-checkpoint note that was exported';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_checkpoint', '');

CREATE TABLE phi.audit_signer (
  verifier  text PRIMARY KEY,
  key_id    int NOT NULL,
  since     bigint NOT NULL
);
GRANT SELECT ON phi.audit_signer TO phi_auditor;
COMMENT ON TABLE phi.audit_signer IS
  'Public keys of checkpoints as C2SP signed-note verifier keys, and from which size on each signs. Compare them with what you noted elsewhere';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_signer', '');

CREATE FUNCTION phi.refuse_change() RETURNS trigger
  AS 'MODULE_PATHNAME', 'phi_refuse_change' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.refuse_change() FROM PUBLIC;
COMMENT ON FUNCTION phi.refuse_change() IS
  'Trigger of the tables of the audit trail and of histories: ERROR 42501 for everybody, their owner and superusers included';

CREATE FUNCTION phi.guard_audit_table(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION phi.refuse_change()', relation);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_change', relation);
END $$;
REVOKE EXECUTE ON FUNCTION phi.guard_audit_table(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.guard_audit_table(regclass) IS 'Lets nobody change or remove rows of a table; internal';

/* Who changes rows through a parent, or applies a subscription, meets no trigger of statements. */
CREATE FUNCTION phi.guard_audit_rows(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION phi.refuse_change()', relation);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_row_change', relation);
END $$;
REVOKE EXECUTE ON FUNCTION phi.guard_audit_rows(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.guard_audit_rows(regclass) IS
  'Lets nobody change or remove rows of a table through others; partitions have clones of the trigger; internal';

SELECT phi.guard_audit_rows(t::regclass)
FROM unnest(ARRAY['phi.audit_log', 'phi.audit_leaf', 'phi.audit_node', 'phi.audit_checkpoint', 'phi.audit_signer']) t;
SELECT phi.guard_audit_table(t::regclass)
FROM unnest(ARRAY['phi.audit_log', 'phi.audit_log_default', 'phi.audit_leaf', 'phi.audit_node',
                  'phi.audit_checkpoint', 'phi.audit_signer']) t;

/* audit/advance.c */
CREATE FUNCTION phi.advance_audit() RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_advance_audit' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.advance_audit() FROM PUBLIC;
COMMENT ON FUNCTION phi.advance_audit() IS
  'What the worker does at each phi.checkpoint_interval: sequences committed records, and signs a checkpoint if there are new ones (then true)';

CREATE FUNCTION phi.rebuild_audit() RETURNS void
  AS 'MODULE_PATHNAME', 'phi_rebuild_audit' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.rebuild_audit() FROM PUBLIC;
COMMENT ON FUNCTION phi.rebuild_audit() IS
  'Gives a leaf to every record that has none, and works out the tree from its leaves; internal to phi.resume_audit()';

CREATE FUNCTION phi.sign_audit_note(note text) RETURNS text
  AS 'MODULE_PATHNAME', 'phi_sign_audit_note' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.sign_audit_note(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.sign_audit_note(text) IS
  'The signed note of a text that ends with a newline; ERROR 55000 while there is no key to sign with; internal';

CREATE FUNCTION phi.note_audit_event(operation text, relation text, detail text) RETURNS void
  AS 'MODULE_PATHNAME', 'phi_note_audit_event' LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.note_audit_event(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.note_audit_event(text, text, text) IS
  'Writes a record of an event; ERROR 55000 where the log is not open; internal';

CREATE FUNCTION phi.resume_audit() RETURNS void
  LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  before text := (SELECT system FROM phi.audit_state);
  next_id bigint;
  found record;
BEGIN
  /* All of ours fire always; a restore with --disable-triggers leaves them otherwise. */
  FOR found IN
    SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'phi'::regnamespace AND t.tgenabled <> 'A' AND (NOT t.tgisinternal OR t.tgparentid <> 0)
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname);
  END LOOP;
  PERFORM phi.open_audit();
  LOCK TABLE phi.audit_state IN SHARE ROW EXCLUSIVE MODE;
  PERFORM phi.rebuild_audit();
  IF before <> phi.audit_system() THEN
    next_id := setval('phi.audit_record_id', greatest(nextval('phi.audit_record_id'), (SELECT max(record_id) + 64 FROM phi.audit_log)));
    /* Two logs that go different ways must not have one name. */
    UPDATE phi.audit_state SET system = phi.audit_system(),
           origin = phi.audit_origin() || CASE WHEN origin = phi.audit_origin() THEN '/' || phi.audit_system() ELSE '' END, first_id = next_id, server_start = NULL, settings = NULL;
  END IF;
  PERFORM phi.note_audit_event('RESUME', NULL, 'log of ' || coalesce(before, 'no database'));
END $$;
REVOKE EXECUTE ON FUNCTION phi.resume_audit() FROM PUBLIC;
COMMENT ON FUNCTION phi.resume_audit() IS
  'Goes on with a log that came with a dump, a template or pg_upgrade, once all of it is there; until then audited tables cannot be changed. Its checkpoints get an origin of their own. Triggers of pg_phi that do not fire always do so again. Recorded';

CREATE FUNCTION phi.audit_leaf_hash(record phi.audit_log) RETURNS bytea
  AS 'MODULE_PATHNAME', 'phi_audit_leaf_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.audit_leaf_hash(phi.audit_log) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.audit_leaf_hash(phi.audit_log) TO phi_auditor;
COMMENT ON FUNCTION phi.audit_leaf_hash(phi.audit_log) IS
  'SHA-256 of byte 0 and the canonical form of a record (RFC 6962, section 2.1; docs/audit-format.md), 32 bytes';
