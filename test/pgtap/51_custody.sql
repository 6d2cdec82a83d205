-- Custody: master keys, counting, destruction with proof, certificates, and
-- search keys. What commits on its way is in test/t/012_custody.pl.
\ir include/setup.psql
CREATE ROLE t_keeper LOGIN IN ROLE phi_custodian;
CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
CREATE TABLE t.patient (n int, name enctext(identity), note enctext(clinical));
CREATE INDEX name_idx ON t.patient USING hash (name);
CREATE TABLE t.parted (n int, name enctext(identity)) PARTITION BY RANGE (n);
CREATE INDEX ON t.parted USING hash (name);
CREATE TABLE t.part PARTITION OF t.parted FOR VALUES FROM (0) TO (100);
ALTER TABLE t.part ADD EXCLUDE USING hash (name WITH =);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient SELECT n, ('Sato ' || n)::text, 'note' FROM generate_series(1, 20) n$$, $$INSERT INTO t.part SELECT n, ('Sato ' || n)::text FROM generate_series(1, 20) n$$) \g /dev/null
SELECT t.run('t_app_b', 'b', $$INSERT INTO t.patient VALUES (100, 'Ito', 'note')$$) \g /dev/null
SELECT key_id AS identity FROM phi.keys WHERE (clinic, class) = ('a', 'identity') \gset
SELECT key_id AS unused FROM phi.keys WHERE (clinic, class) = ('a', 'insurance') \gset
SELECT key_id AS search FROM phi.keys WHERE (clinic, class) = ('a', 'search') \gset

-- Keys that are due.
SELECT is(count(*), 0::bigint, 'no new key is due') FROM phi.rotation_due;
UPDATE phi.data_key SET created_at = created_at - interval '366 days' WHERE key_id = :unused;
SELECT is((key_id, clinic, class, age > '366 days', due_since < now())::text, format('(%s,a,insurance,t,t)', :unused), 'one of a year ago is') FROM phi.rotation_due;
SET LOCAL phi.rotation_interval = '367d';
SELECT is(count(*), 0::bigint, 'not by a longer interval') FROM phi.rotation_due;
SELECT is(t.run('t_auditor', '', 'SELECT count(*) FROM phi.rotation_due'), '0', 'an auditor sees them');
SELECT phi.rotate_key('a', 'insurance') AS fresh \gset
SELECT is(count(DISTINCT last_rotated)::text || bool_and(last_rotated > now()), '1true', 'last_rotated is of the newest version') FROM phi.keys WHERE (clinic, class) = ('a', 'insurance');

-- Counting.
SELECT is(t.run('t_keeper', '', 'SELECT string_agg(clinic || class || values, '','' ORDER BY clinic, class) FROM phi.count_key_values() WHERE values > 0'), 'aclinical20,aidentity40,bclinical1,bidentity1', 'a custodian counts');
SELECT is(known_values || (counted_at > now())::text, '40true', 'phi.keys keeps it') FROM phi.keys WHERE key_id = :identity;
SELECT is(known_values, 0::bigint, 'zero too') FROM phi.keys WHERE key_id = :unused;
SELECT is(t.run('t_auditor', '', 'SELECT count(*) FROM phi.count_key_values()'), 'ERROR 42501', 'an auditor does not count');

-- Master keys.
CREATE TABLE t.before AS SELECT key_id, master_key, wrapped FROM phi.data_key;
SELECT is((SELECT format('%s %s %s', count(*), bool_and(newest AND available AND needed), bool_and(keys = unwrapped)) FROM phi.check_master_key()), '1 t t', 'one master key, which unwraps all keys');
SELECT t.run('t_keeper', '', 'SELECT phi.prepare_master_key()') AS prepared \gset
SELECT is(t.run('t_keeper', '', 'SELECT phi.prepare_master_key()'), :'prepared', 'a prepared master key is prepared once');
SELECT is(format('%s %s %s %s', newest, available, keys, needed), 't t 0 f', 'it wraps nothing yet') FROM phi.check_master_key() WHERE master_key = :'prepared';
SELECT phi.create_clinic('c', 'C') \g /dev/null
SELECT isnt(max(master_key), :'prepared', 'nor new keys') FROM phi.keys WHERE clinic = 'c';
SET LOCAL phi.suite = 'xchacha20-poly1305';
SELECT is(t.run('t_keeper', '', 'SELECT phi.rotate_master_key()'), :'prepared', 'the rotation takes it');
RESET phi.suite;
SELECT is(string_agg(DISTINCT concat_ws(' ', master_key, suite), ', '), :'prepared' || ' xchacha20-poly1305', 'for all keys, with the suite of the day') FROM phi.keys;
SELECT is(count(*), 0::bigint, 'nothing wrapped is as it was') FROM t.before b JOIN phi.data_key k USING (wrapped);
SELECT is(string_agg(format('%s %s %s', newest, keys = unwrapped, needed), ', ' ORDER BY master_key), 'f t f, t t t', 'the old one is not needed') FROM phi.check_master_key();
SELECT is(t.run('t_app_a', 'a', 'SELECT name::text FROM t.patient WHERE n = 7'), 'Sato 7', 'values read as before');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.patient VALUES (21, ''Sato 21'')', 'SELECT name::text FROM t.patient WHERE n = 21'), 'Sato 21', 'and are written');
SELECT is((SELECT concat_ws(' ', from_keys[1] < to_key, keys, actor) FROM phi.master_key_events), 't 20 t_keeper', 'the rotation is on record');
UPDATE phi.data_key SET version = 9 WHERE key_id = :identity;
SELECT is(unwrapped, keys - 1, 'a key that does not unwrap shows') FROM phi.check_master_key() WHERE needed;
SELECT throws_like('SELECT phi.rotate_master_key()', format('key %s could not be unwrapped', :identity), 'and is not passed over');
UPDATE phi.data_key SET version = 1 WHERE key_id = :identity;
SELECT is(t.run('t_auditor', '', 'SELECT count(*) > 0 FROM phi.check_master_key()'), 'true', 'an auditor checks');
SELECT is(t.run('t_auditor', '', 'SELECT phi.rotate_master_key()'), 'ERROR 42501', 'but does not rotate');

-- Search keys.
CREATE FUNCTION t.found(name text) RETURNS text LANGUAGE sql AS $$
  SELECT t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', 'SET LOCAL enable_bitmapscan = off',
    format('SELECT concat_ws('' '', (SELECT n FROM t.patient WHERE name = %L::text), (SELECT n FROM t.parted WHERE name = %1$L::text))', name))
$$;
SELECT is(t.found('Sato 7'), '7 7', 'found by index');
SELECT t.run('t_keeper', '', 'SELECT phi.rotate_search_key(''a'')') AS new_search \gset
SELECT is(string_agg(state, ' ' ORDER BY version), 'retired active', 'the search key is rotated') FROM phi.keys WHERE (clinic, class) = ('a', 'search');
SELECT is(t.found('Sato 7'), '7 7', 'found as before');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.part VALUES (30, ''Sato 7'')'), 'ERROR 23P01', 'the exclusion constraint holds');
SELECT is(t.run('t_app_b', 'b', 'SET LOCAL enable_seqscan = off', 'SELECT n FROM t.patient WHERE name = ''Ito''::text'), '100', 'other clinics too');
SELECT is(t.run('t_keeper', '', format('SELECT phi.destroy_key(%s)', :search)) ~ '^\d+$', true, 'the old one can be destroyed');
SELECT is(t.found('Sato 20'), '20 20', 'and nothing needs it');

-- Destroying.
SELECT alike(t.error_of('t_keeper', '', format('SELECT phi.destroy_key(%s)', :identity)), '55000: key % is active%rotate_key%', 'not an active key');
SELECT phi.rotate_key('a', 'identity') \g /dev/null
SELECT alike(t.error_of('t_keeper', '', format('SELECT phi.destroy_key(%s)', :identity)), '55006: key % is still in use | 41 values: t.% column name: 21; t.% column name: 20. | CALL phi.rekey(key_id => %)', 'nor one in use: says where');
SELECT is(state, 'retired', 'which stays as it was') FROM phi.keys WHERE key_id = :identity;
SELECT t.run('t_keeper', '', format('SELECT phi.destroy_key(%s)', :unused)) AS certificate \gset
SELECT is(state || coalesce(known_values::text, ' unknown'), 'destroyed unknown', 'one that nothing needs') FROM phi.keys WHERE key_id = :unused;
SELECT is((key_id, clinic, class, version, what, values_unreadable, destroyed_by, approved_by, reason)::text, format('(%s,a,insurance,1,key,0,t_keeper,,"no longer needed")', :unused), 'with a certificate') FROM phi.destruction_certificates WHERE certificate_id = :certificate;
SELECT matches(proof, '^no stored value names the key: first count at \d.*Z, .*; second count at \d.*Z, ', 'that has the proof') FROM phi.destruction_certificates WHERE certificate_id = :certificate;
SELECT alike(t.error_of('t_keeper', '', format('SELECT phi.destroy_key(%s)', :unused)), '55000: key % is destroyed already%', 'not twice');
SELECT is(t.run('t_keeper', '', format('SELECT phi.destroy_key(%s, shred => true)', :identity)) ~ '^\d+$', true, 'shredding needs no proof');
SELECT is((values_unreadable, reason)::text, '(41,shredded)', 'but counts') FROM phi.destruction_certificates WHERE key_id = :identity;
SELECT is(t.run('t_app_a', 'a', 'SELECT name::text FROM t.patient WHERE n = 7'), 'ERROR 55000', 'what is unreadable now');
SELECT is(t.run('t_auditor', '', 'SELECT phi.destroy_key(1)'), 'ERROR 42501', 'an auditor destroys nothing');
-- A value that names no key: nobody can say which it needed.
SELECT key_id AS sensitive FROM phi.keys WHERE (clinic, class) = ('a', 'sensitive') \gset
SELECT phi.rotate_key('a', 'sensitive') \g /dev/null
SELECT format('UPDATE t.patient SET note = %L WHERE n = 1', 'phi1:' || translate(encode(set_byte(decode(substr(format('%s', note), 6), 'base64'), 4, 99), 'base64'), E'\n', '')) FROM t.patient WHERE n = 1 \gexec
SELECT alike(t.error_of('t_keeper', '', format('SELECT phi.destroy_key(%s)', :sensitive)), '55006: values that name no known key %| 1 values: %column note: 1 malformed or of no known key. | Restore or delete these values.', 'a value of an unknown key keeps all keys');
DELETE FROM t.patient WHERE n = 1;
SELECT is(t.run('t_keeper', '', format('SELECT phi.destroy_key(%s)', :sensitive)) ~ '^\d+$', true, 'until it is gone');

-- The chain of certificates.
SELECT is_empty('SELECT * FROM phi.check_certificates()', 'the chain is sound');
SELECT is(t.run('t_auditor', '', 'SELECT count(*) FROM phi.check_certificates()'), '0', 'says the auditor');
SELECT is(t.run('t_auditor', '', 'SELECT count(*) FROM phi.destruction_certificates'), '4', 'who sees the certificates');
CREATE FUNCTION t.faults(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
  EXECUTE change;
  SELECT string_agg(DISTINCT fault, ', ' ORDER BY fault) INTO found FROM phi.check_certificates();
  RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = coalesce(found, 'sound');
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN RETURN SQLERRM;
END $$;
SELECT is(t.faults(change), fault, 'tampering: ' || change) FROM (VALUES
  ('SELECT 1', 'sound'),
  ('UPDATE phi.destruction_certificate SET values_unreadable = 0 WHERE values_unreadable > 0', 'the certificate was altered'),
  ('UPDATE phi.destruction_certificate SET destroyed_by = ''t_nobody'' WHERE certificate_id = (SELECT min(certificate_id) FROM phi.destruction_certificate)', 'the certificate was altered'),
  ('UPDATE phi.destruction_certificate SET approved_by = '''' WHERE certificate_id = (SELECT max(certificate_id) FROM phi.destruction_certificate)', 'the certificate was altered'),
  ('UPDATE phi.destruction_certificate SET destroyed_at = destroyed_at - interval ''1 microsecond''', 'the certificate was altered'),
  ('UPDATE phi.destruction_certificate d SET reason = ''x'', hash = phi.certificate_hash(ROW(d.certificate_id, d.key_id, d.clinic, d.class, d.version, d.what, d.values_unreadable, d.proof, d.destroyed_at, d.destroyed_by, d.login, d.approved_by, ''x'', d.previous_hash, NULL)) WHERE certificate_id = (SELECT min(certificate_id) FROM phi.destruction_certificate)', 'certificates before it were removed, added or altered'),
  ('DELETE FROM phi.destruction_certificate WHERE certificate_id = (SELECT min(certificate_id) FROM phi.destruction_certificate)', 'certificates before it were removed, added or altered, the key is destroyed without a certificate'),
  ('DELETE FROM phi.destruction_certificate WHERE certificate_id = (SELECT max(certificate_id) FROM phi.destruction_certificate)', 'the key is destroyed without a certificate'),
  ('TRUNCATE phi.destruction_certificate', 'the key is destroyed without a certificate'),
  ('UPDATE phi.data_key SET state = ''retired'', wrapped = ''x'' WHERE key_id = (SELECT max(key_id) FROM phi.destruction_certificate)', 'its key is not destroyed')) v(change, fault);
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL datestyle = 'German';
SELECT is_empty('SELECT * FROM phi.check_certificates()', 'whatever the session''s time zone and date style');

-- Requests.
SELECT is(t.run('t_auditor', '', 'SELECT count(*) FROM phi.requests'), '0', 'without phi.require_approval nobody is asked');
SELECT throws_ok('SET phi.require_approval = on', '55P02', NULL, 'which no session sets');
SELECT is(phi.is_custodian('t_keeper'), true, 'a custodian');
SELECT is(phi.is_custodian(current_user), false, 'a superuser is none by being superuser');
SELECT * FROM finish();
ROLLBACK;
