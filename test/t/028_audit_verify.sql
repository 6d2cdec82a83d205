-- The log is verified; a superuser who turns off what protects it is found out,
-- record by record.
-- Run by 028_audit_verify.pl: records are sequenced when they are committed.
\set QUIET on
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
SELECT * FROM no_plan() \g /dev/null
CREATE SCHEMA t;
GRANT ALL ON SCHEMA t TO PUBLIC;
CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
CREATE ROLE t_writer LOGIN;
GRANT ALL ON ALL TABLES IN SCHEMA phi TO t_writer;
GRANT pg_write_all_data TO t_writer;
SELECT phi.note_audit_event('TEST', 'public.chart', CASE i WHEN 200 THEN U&'event \8336' ELSE 'event ' || i END) FROM generate_series(1, 200) i \g /dev/null
SELECT phi.advance_audit() \g /dev/null
SELECT phi.note_audit_event('TEST', 'public.chart', 'later ' || i) FROM generate_series(1, 5) i \g /dev/null
SELECT phi.advance_audit() \g /dev/null
SELECT min(record_id) AS first, max(record_id) AS last FROM phi.audit_log WHERE operation = 'TEST' AND detail LIKE 'event %' \gset
SELECT record_id AS tail FROM phi.audit_log WHERE operation = 'TEST' AND detail = 'later 5' \gset
SELECT k.first_leaf + o - 1 AS leaf FROM phi.audit_leaf k, unnest(k.ids) WITH ORDINALITY u(id, o) WHERE id = :first \gset
SELECT max(first_leaf + cardinality(ids)) AS size FROM phi.audit_leaf \gset
SELECT note AS trusted FROM phi.audit_checkpoint ORDER BY size DESC LIMIT 1 \gset
SELECT tableoid::regclass AS part FROM phi.audit_log WHERE record_id = :first \gset

-- Each fault: what, how far from the first leaf, how far from the first record.
CREATE FUNCTION t.faults(from_leaf bigint DEFAULT 0, to_leaf bigint DEFAULT NULL, trusted text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', fault, leaf - current_setting('t.leaf')::bigint, record_id - current_setting('t.first')::bigint, detail), '; ' ORDER BY fault, leaf, record_id, checkpoint, detail)
  FROM phi.verify_audit(from_leaf, to_leaf, trusted)
$$;
SELECT set_config('t.leaf', :'leaf', false), set_config('t.first', :'first', false), set_config('t.part', :'part', false) \g /dev/null
SELECT is(t.faults(), NULL, 'a log that nobody touched verifies');
SELECT is(t.faults(trusted => :'trusted'), NULL, 'against a checkpoint that was kept, too');
SET client_encoding = 'SJIS';
SELECT is(t.faults(), NULL, 'whatever the client''s encoding');
RESET client_encoding;
SELECT is(count(*), 205::bigint, 'with the records of this test') FROM phi.audit_log l JOIN (SELECT unnest(ids) AS id FROM phi.audit_leaf) k ON k.id = l.record_id WHERE operation = 'TEST' AND relation = 'public.chart';

-- Nobody writes: not by SQL, not with all rights, not the owner, not in another role of replication.
CREATE TABLE t.attempt (what text);
INSERT INTO t.attempt SELECT format('%s %s', v, r) FROM unnest(ARRAY['phi.audit_log', :'part', 'phi.audit_log_default', 'phi.audit_leaf', 'phi.audit_node', 'phi.audit_checkpoint', 'phi.audit_signer']) r,
  unnest(ARRAY['DELETE FROM', 'TRUNCATE', 'UPDATE']) v;
UPDATE t.attempt SET what = what || CASE WHEN what LIKE '%log%' OR what LIKE '%' || :'part' THEN ' SET detail = NULL' WHEN what LIKE '%leaf' THEN ' SET min_id = 1' WHEN what LIKE '%node' THEN ' SET index = 1' WHEN what LIKE '%signer' THEN ' SET since = 1' ELSE ' SET size = 1' END WHERE what LIKE 'UPDATE%';
SELECT throws_ok(what, '42501', NULL, what || ': refused to the superuser who owns it') FROM t.attempt;
SET session_replication_role = replica;
SELECT throws_ok(what, '42501', NULL, what || ': and in whatever role of replication') FROM t.attempt;
RESET session_replication_role;
SET ROLE t_writer;
SELECT throws_ok(format('INSERT INTO phi.audit_log SELECT * FROM phi.audit_log LIMIT 1'), '42501', NULL, 'who may write all tables forges no record');
SELECT throws_ok(format('INSERT INTO %s SELECT * FROM phi.audit_log LIMIT 1', current_setting('t.part')), '42501', NULL, 'nor in a partition');
RESET ROLE;
SET ROLE t_auditor;
SELECT lives_ok('SELECT * FROM phi.verify_audit()', 'an auditor verifies');
SELECT lives_ok('SELECT count(*) FROM phi.audit_log', 'and reads');
SELECT throws_ok('DELETE FROM phi.audit_log', '42501', NULL, 'and writes nothing');
SELECT throws_ok('SELECT phi.note_audit_event(''X'', NULL, NULL)', '42501', NULL, 'nor calls what writes');
RESET ROLE;
SET ROLE app_a;
SELECT throws_ok('SELECT count(*) FROM phi.audit_log', '42501', NULL, 'an application does not read');
SELECT throws_ok('SELECT * FROM phi.verify_audit()', '42501', NULL, 'nor verify');
RESET ROLE;

-- The superuser who edits; each time the log is put back.
CREATE TABLE t.tamper (no int, what text, change text, found text);
CREATE FUNCTION t.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  found text;
BEGIN
  BEGIN
    PERFORM set_config('client_min_messages', 'warning', true);
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER; ALTER TABLE phi.audit_leaf DISABLE TRIGGER USER; ALTER TABLE phi.audit_checkpoint DISABLE TRIGGER USER; ALTER TABLE phi.audit_node DISABLE TRIGGER USER', current_setting('t.part'));
    EXECUTE replace(replace(change, 'LOG', current_setting('t.part')), 'FIRST', current_setting('t.first'));
    found := t.faults();
    RAISE EXCEPTION USING ERRCODE = 'P0T01', MESSAGE = coalesce(found, 'nothing');
  EXCEPTION WHEN SQLSTATE 'P0T01' THEN
    RETURN SQLERRM;
  END;
END $$;
INSERT INTO t.tamper VALUES
  (1, 'one byte of one record', 'UPDATE LOG SET detail = ''Event 8'' WHERE record_id = FIRST + 7', 'altered 7 7'),
  (2, 'who it was', 'UPDATE LOG SET login = ''another'' WHERE record_id = FIRST + 7', 'altered 7 7'),
  (3, 'a time, by a microsecond', 'UPDATE LOG SET at = at + interval ''1 us'' WHERE record_id = FIRST + 7', 'altered 7 7'),
  (4, 'nothing in place of an empty text', 'UPDATE LOG SET person = '''' WHERE record_id = FIRST + 7', 'altered 7 7'),
  (5, 'one deleted', 'DELETE FROM LOG WHERE record_id = FIRST + 7', 'missing 7 7'),
  (6, 'two swapped', 'UPDATE LOG SET record_id = CASE record_id WHEN FIRST + 7 THEN FIRST + 9 ELSE FIRST + 7 END WHERE record_id IN (FIRST + 7, FIRST + 9)',
      'reordered 7 7 record X is stored as Y; reordered 9 9 record Y is stored as X'),
  (7, 'one inserted', 'INSERT INTO LOG SELECT (jsonb_populate_record(l, ''{"record_id": 9000000000000}'')).* FROM phi.audit_log l WHERE record_id = FIRST + 7', 'inserted'),
  (8, 'one inserted, as of the future', 'INSERT INTO LOG SELECT (jsonb_populate_record(l, ''{"record_id": 9000000000000, "xact": "9000000000"}'')).* FROM phi.audit_log l WHERE record_id = FIRST + 7', 'inserted'),
  (9, 'one doubled', 'INSERT INTO LOG SELECT l.* FROM phi.audit_log l WHERE record_id = FIRST + 7', 'doubled 7 7 several records have this id; doubled 7 7 several records have this id'),
  (10, 'one with its leaf', 'UPDATE LOG SET detail = ''x'' WHERE record_id = FIRST + 7; UPDATE phi.audit_leaf k SET hashes = (SELECT string_agg(phi.audit_leaf_hash(l), '''' ORDER BY o) FROM unnest(k.ids) WITH ORDINALITY u(id, o) JOIN phi.audit_log l ON record_id = id) WHERE FIRST + 7 = ANY (ids)',
      'checkpoint its root is not that'),
  (11, 'one removed with its leaf', 'DELETE FROM LOG WHERE record_id = FIRST + 7; UPDATE phi.audit_leaf SET ids = array_remove(ids, FIRST + 7), hashes = substr(hashes, 1, 32 * (array_position(ids, FIRST + 7) - 1)) || substr(hashes, 32 * array_position(ids, FIRST + 7) + 1) WHERE FIRST + 7 = ANY (ids)',
      'checkpoint its root is not that'),
  (12, 'a checkpoint''s root', 'UPDATE phi.audit_checkpoint SET root = sha256(root) WHERE size = (SELECT max(size) FROM phi.audit_checkpoint)', 'checkpoint its root is not that of the first \d+ leaves; checkpoint its note is of another size or root'),
  (13, 'a checkpoint''s signature', 'UPDATE phi.audit_checkpoint SET note = replace(note, ''='', '''') WHERE size = (SELECT max(size) FROM phi.audit_checkpoint)', 'checkpoint its note is not a checkpoint'),
  (14, 'the last leaves', 'DELETE FROM phi.audit_leaf WHERE first_leaf = (SELECT max(first_leaf) FROM phi.audit_leaf)', 'cut off'),
  (15, 'an inner node', 'UPDATE phi.audit_node SET hash = sha256(hash) WHERE (level, index) = (6, 0)', 'node altered phi.audit_node, level 6, index 0');
SELECT matches(regexp_replace(t.tampered(change), '(node altered|checkpoint|cut off|inserted) -?\d+ ', '\1 ', 'g'),
  '(^|; )' || replace(replace(found, 'X', (:first + 9)::text), 'Y', (:first + 7)::text), what || ' is found') FROM t.tamper ORDER BY no;

-- The tail: the records of the last transaction.
SELECT matches(t.tampered('DELETE FROM LOG WHERE record_id > FIRST + 199'), '(^|; )cut off', 'a tail that is cut off is called so');
SELECT unalike(t.tampered('UPDATE LOG SET detail = ''x'' WHERE record_id = FIRST + 7'), '%checkpoint%', 'while leaves and checkpoints are sound nothing is said against them');

-- Log, leaves, nodes, state and checkpoints, all rewritten, and signed: only what was kept elsewhere tells.
BEGIN;
SELECT set_config('client_min_messages', 'warning', true) \g /dev/null
SELECT format('ALTER TABLE %s DISABLE TRIGGER USER', r) FROM unnest(ARRAY['phi.audit_log', :'part', 'phi.audit_leaf', 'phi.audit_node', 'phi.audit_checkpoint']) r \gexec
UPDATE phi.audit_log SET detail = 'x' WHERE record_id = :first + 7;
UPDATE phi.audit_leaf k SET hashes = (SELECT string_agg(phi.audit_leaf_hash(l), '' ORDER BY o) FROM unnest(k.ids) WITH ORDINALITY u(id, o) JOIN phi.audit_log l ON record_id = id) WHERE :first + 7 = ANY (ids);
UPDATE phi.audit_node n SET hash = t.hash FROM phi.audit_tree('{}') t WHERE (t.level, t.index) = (n.level, n.index);
UPDATE phi.audit_checkpoint c SET root = t.hash, note = phi.sign_audit_note(format(E'%s\n%s\n%s\n', (SELECT origin FROM phi.audit_state), c.size, encode(t.hash, 'base64')))
FROM phi.audit_tree(ARRAY(SELECT size FROM phi.audit_checkpoint ORDER BY 1)) t WHERE t.level = 0 AND t.index = c.size AND t.hash <> c.root;
SELECT is(t.faults(), NULL, 'who rewrites everything and signs it leaves no trace in the database');
SELECT matches(t.faults(trusted => :'trusted'), '^checkpoint the first \d+ leaves are not those of the trusted checkpoint$', 'but the checkpoint that was kept tells');
ROLLBACK;
-- Or cuts all of it off.
BEGIN;
SELECT set_config('client_min_messages', 'warning', true) \g /dev/null
SELECT format('ALTER TABLE %s DISABLE TRIGGER USER', r) FROM unnest(ARRAY['phi.audit_log', :'part', 'phi.audit_leaf', 'phi.audit_node', 'phi.audit_checkpoint']) r \gexec
SELECT count(*) AS kept FROM (SELECT FROM phi.audit_leaf WHERE first_leaf + cardinality(ids) <= :leaf) k \gset
SELECT coalesce(max(first_leaf + cardinality(ids)), 0) AS kept_size FROM phi.audit_leaf WHERE first_leaf + cardinality(ids) <= :leaf \gset
DELETE FROM phi.audit_log l WHERE NOT EXISTS (SELECT FROM phi.audit_leaf k, unnest(k.ids) id WHERE id = l.record_id AND k.first_leaf < :kept_size);
DELETE FROM phi.audit_leaf WHERE first_leaf >= :kept_size;
DELETE FROM phi.audit_node WHERE (index + 1) * (1::bigint << level) > :kept_size;
DELETE FROM phi.audit_checkpoint WHERE size > :kept_size;
UPDATE phi.audit_state SET size = :kept_size;
SELECT is(t.faults(), NULL, 'who cuts off everything leaves no trace in the database');
SELECT matches(t.faults(trusted => :'trusted'), 'cut off .*the trusted checkpoint has \d+ leaves', 'but the checkpoint that was kept tells');
ROLLBACK;
SELECT is(t.faults(trusted => replace(:'trusted', 'pg_phi', 'pg_psi')), 'checkpoint the trusted checkpoint is not signed by a key of this log', 'a checkpoint of another log proves nothing');
SELECT is(t.faults(trusted => 'no note'), 'checkpoint the trusted checkpoint is not a checkpoint', 'nor what is none');

-- A part of the log.
SELECT is(t.faults(:leaf, :leaf + 10), NULL, 'a part verifies');
BEGIN;
SELECT set_config('client_min_messages', 'warning', true) \g /dev/null
SELECT format('ALTER TABLE %s DISABLE TRIGGER USER', r) FROM unnest(ARRAY['phi.audit_log', :'part']) r \gexec
UPDATE phi.audit_log SET detail = 'x' WHERE record_id = :first + 7;
SELECT is(t.faults(:leaf, :leaf + 7), NULL, 'before the fault');
SELECT is(t.faults(:leaf + 7, :leaf + 8), 'altered 7 7', 'with it');
SELECT is(t.faults(:leaf + 8), NULL, 'and behind it');
ROLLBACK;
SELECT throws_ok('SELECT * FROM phi.verify_audit(5, 4)', '22023', NULL, 'a part that ends before it begins is refused');

-- Records of transactions that run are not judged, and get their leaf later.
SELECT size AS size_before FROM phi.audit_state \gset
BEGIN;
SELECT phi.note_audit_event('TEST', NULL, 'in this transaction') \g /dev/null
SELECT phi.advance_audit() \g /dev/null
SELECT is(t.faults(), NULL, 'a record that is not committed is no fault');
SELECT is(count(*), 0::bigint, 'and has no leaf') FROM phi.audit_leaf k, unnest(k.ids) id JOIN phi.audit_log l ON l.record_id = id WHERE l.detail = 'in this transaction';
COMMIT;
SELECT phi.advance_audit() \g /dev/null
SELECT is(count(*), 1::bigint, 'then it has') FROM phi.audit_leaf k, unnest(k.ids) id JOIN phi.audit_log l ON l.record_id = id WHERE l.detail = 'in this transaction';

-- Keys: rotated, the log verifies on; sealed, it is sequenced and signed later.
SELECT phi.rotate_signing_key() AS new_key \gset
SELECT phi.note_audit_event('TEST', NULL, 'under a new key') \g /dev/null
SELECT phi.advance_audit() \g /dev/null
SELECT is(key_id, :new_key, 'the next checkpoint is signed with the new key') FROM phi.audit_checkpoint ORDER BY size DESC LIMIT 1;
SELECT is(t.faults(trusted => :'trusted'), NULL, 'and old ones verify');
SELECT is(count(*), 2::bigint, 'both are on the list of verifier keys') FROM phi.audit_keys WHERE purpose = 'signing' AND verifier IS NOT NULL;
SELECT throws_ok('SELECT phi.destroy_key(-1)', '42809', NULL, 'keys of the log are not destroyed');
SELECT throws_ok('SELECT phi.rotate_digest_key(''none'')', '42704', NULL, 'a clinic that is none has no key');
SELECT * FROM finish();
