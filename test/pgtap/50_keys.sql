-- Keys: rotation, states, and rows that were edited by hand.
\ir include/setup.psql
CREATE ROLE t_keeper LOGIN IN ROLE phi_custodian;
CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
CREATE TABLE t.note (n int, v enctext(clinical), w enctext(identity));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.note VALUES (1, 'secret note', 'Sato')$$) \g /dev/null
SELECT key_id AS clinical FROM phi.keys WHERE (clinic, class) = ('a', 'clinical') \gset
SELECT key_id AS other FROM phi.keys WHERE (clinic, class) = ('b', 'clinical') \gset

-- What a new clinic has.
SELECT is(string_agg(format('%s %s %s %s', class, version, suite, state), ', ' ORDER BY key_id),
  'search 1 xaes-256-gcm active, general 1 xaes-256-gcm active, identity 1 xaes-256-gcm active, insurance 1 xaes-256-gcm active, clinical 1 xaes-256-gcm active, sensitive 1 xaes-256-gcm active',
  'a clinic starts with a key for each class and a search key') FROM phi.keys WHERE clinic = 'a';
SELECT is(count(*) FILTER (WHERE from_state IS NULL AND to_state = 'active' AND reason = 'clinic created' AND actor = session_user), 12::bigint, 'each with its event') FROM phi.key_events;
SELECT is((clinic, name, keys)::text, '(a,"Clinic A",6)', 'phi.clinics') FROM phi.clinics WHERE clinic = 'a';
SELECT is(count(DISTINCT wrapped), 13::bigint, 'all keys differ, and that which signs the audit log') FROM phi.data_key;

-- A row edited by hand, in a session that has the key at hand already: refused
-- at once, readable again once the row is as it was.
CREATE TABLE t.saved AS SELECT * FROM phi.data_key;
CREATE TABLE t.edit (what text, change text);
INSERT INTO t.edit VALUES
  ('version',         'version = version + 10'),
  ('suite 2',         'suite = 2'),
  ('suite 0',         'suite = 0'),
  ('suite 77',        'suite = 77'),
  ('master_key',      'master_key = ''another'''),
  ('empty master_key', 'master_key = '''''),
  ('first byte',      'wrapped = set_byte(wrapped, 0, get_byte(wrapped, 0) # 1)'),
  ('last byte',       'wrapped = set_byte(wrapped, length(wrapped) - 1, get_byte(wrapped, length(wrapped) - 1) # 128)'),
  ('cut',             'wrapped = substr(wrapped, 1, length(wrapped) - 1)'),
  ('longer',          'wrapped = wrapped || ''\x00'''),
  ('empty',           'wrapped = '''''),
  ('another row''s key', 'wrapped = (SELECT wrapped FROM t.saved s WHERE s.key_id = (SELECT key_id FROM phi.keys WHERE (clinic, class) = (''a'', ''identity'')))'),
  ('another clinic''s key', 'wrapped = (SELECT wrapped FROM t.saved s WHERE s.key_id = (SELECT key_id FROM phi.keys WHERE (clinic, class) = (''b'', ''clinical'')))'),
  ('state compromised, then edited', 'state = ''compromised'', version = 99'),
  ('destroyed',       'state = ''destroyed'', wrapped = NULL');
CREATE FUNCTION t.edited(key int, change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  before text; edited text; after text;
BEGIN
  PERFORM set_config('session_authorization', 't_app_a', true), set_config('phi.clinic', 'a', true);
  SELECT v::text INTO before FROM t.note WHERE n = 1;
  PERFORM set_config('session_authorization', 'postgres', true);
  EXECUTE format('UPDATE phi.data_key k SET %s WHERE key_id = %s', change, key);
  PERFORM set_config('session_authorization', 't_app_a', true);
  BEGIN
    SELECT v::text INTO edited FROM t.note WHERE n = 1;
  EXCEPTION WHEN OTHERS THEN edited := 'ERROR ' || SQLSTATE;
  END;
  PERFORM set_config('session_authorization', 'postgres', true);
  UPDATE phi.data_key k SET (clinic_id, class, version, suite, state, master_key, wrapped) = (s.clinic_id, s.class, s.version, s.suite, s.state, s.master_key, s.wrapped)
  FROM t.saved s WHERE s.key_id = k.key_id;
  PERFORM set_config('session_authorization', 't_app_a', true);
  BEGIN
    SELECT v::text INTO after FROM t.note WHERE n = 1;
  EXCEPTION WHEN OTHERS THEN after := SQLERRM;
  END;
  PERFORM set_config('phi.clinic', '', true), set_config('session_authorization', 'postgres', true);
  RETURN concat_ws(', ', before, edited, after);
END $$;
SELECT matches(t.edited(:clinical, change), '^secret note, ERROR (22000|39000|38000|55000|42501|58000|F0000|XX001|58P01), secret note$', 'edited: ' || what) FROM t.edit;
SELECT matches(t.edited(:clinical, format('class = CASE WHEN class = 2 THEN 3 ELSE 2 END, version = 50, state = ''retired''')), '^secret note, ERROR \w+, secret note$', 'edited: class');
SELECT matches(t.edited(:clinical, format('clinic_id = %s, version = 50, state = ''retired''', :clinic_b)), '^secret note, ERROR \w+, secret note$', 'edited: clinic_id');
UPDATE phi.data_key SET key_id = 100000 WHERE key_id = :clinical;
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), 'ERROR 22000', 'edited: key_id, the value''s key is not there');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.note (v) VALUES (''x'')'), t.run('t_app_a', 'a', 'INSERT INTO t.note (v) VALUES (''x'')'), 'nor does a new value take the moved key');
SELECT alike(t.run('t_app_a', 'a', 'INSERT INTO t.note (v) VALUES (''x'')'), 'ERROR %', 'it is refused');
UPDATE phi.data_key SET key_id = :clinical WHERE key_id = 100000;
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), 'secret note', 'put back');
DELETE FROM phi.data_key WHERE key_id = :clinical;
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), 'ERROR 22000', 'a row that was deleted');
SELECT alike(t.error_of('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), '22000: encrypted value names key %, which does not exist%phi.data_key%', 'says which key is missing');
SELECT is(t.run('t_app_a', '', 'SELECT format(''%s'', v) LIKE ''phi1:%'' FROM t.note WHERE n = 1'), 'true', 'a dump can still be made');
INSERT INTO phi.data_key SELECT * FROM t.saved WHERE key_id = :clinical;
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), 'secret note', 'the row inserted again');

-- Rotation.
SELECT is(t.run('t_keeper', '', 'SELECT phi.rotate_key(''a'', ''clinical'') > 12'), 'true', 'a custodian rotates a key');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.note VALUES (2, ''new note'')', 'SELECT string_agg(v::text || (phi.describe(v)).version, '' '' ORDER BY n) FROM t.note'), 'secret note1 new note2', 'old values read, new ones carry the new key');
SELECT is(string_agg(version || state, ' ' ORDER BY version), '1retired 2active', 'states') FROM phi.keys WHERE (clinic, class) = ('a', 'clinical');
SELECT is(string_agg(concat_ws(' ', version, from_state, to_state, actor, reason), ', ' ORDER BY event_id), '1 active retired t_keeper rotated, 2 active t_keeper rotated', 'events') FROM phi.key_events WHERE reason = 'rotated';
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM t.note x JOIN t.note y ON x.v = y.v'), '2', 'values of two versions compare');
SELECT is(t.run('t_app_a', 'a', 'SELECT (count(*) FILTER (WHERE v = ''secret note''))::text FROM t.note'), '1', 'and are found');
SELECT is(t.run('t_keeper', '', 'SELECT phi.rotate_key(''a'', ''clinical'')', 'SELECT phi.rotate_key(''a'', ''clinical'')', 'SELECT string_agg(version || state, '' '' ORDER BY version) FROM phi.keys WHERE (clinic, class) = (''a'', ''clinical'')'), '1retired 2retired 3retired 4active', 'twice more');
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(v::text, '','' ORDER BY n) FROM t.note'), 'secret note,new note', 'all of them read');

-- States: only the transitions of the standard.
CREATE FUNCTION t.moved(key int, states text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE s text;
BEGIN
  FOREACH s IN ARRAY states LOOP PERFORM phi.move_key(key, s, 'test'); END LOOP;
  RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION WHEN OTHERS THEN RETURN CASE SQLSTATE WHEN 'ZZZZZ' THEN 'allowed' ELSE SQLSTATE END;
END $$;
SELECT is(t.moved(:other, from_state || ARRAY[to_state]),
  CASE WHEN format('%s %s', coalesce(from_state[1], 'active'), to_state) IN ('active retired', 'active compromised', 'retired compromised', 'retired destroyed', 'compromised destroyed') THEN 'allowed' ELSE '55000' END,
  format('%s to %s', coalesce(from_state[1], 'active'), to_state))
FROM (VALUES (ARRAY[]::text[]), (ARRAY['retired']), (ARRAY['compromised'])) f(from_state), unnest(ARRAY['active', 'retired', 'compromised', 'destroyed', 'lost']) to_state;
SELECT is(t.moved(:other, ARRAY['retired', 'destroyed', to_state]), '55000', 'destroyed to ' || to_state) FROM unnest(ARRAY['active', 'retired', 'compromised', 'destroyed']) to_state;
SELECT phi.move_key(:clinical, 'destroyed', 'test') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE n = 1'), 'ERROR 55000', 'a value whose key is destroyed');
SELECT is((SELECT wrapped FROM phi.data_key WHERE key_id = :clinical), NULL, 'whose bytes are gone');

-- A custodian and an auditor see what they need and decrypt nothing.
SELECT is(t.run(role, '', statement), wanted, format('%s: %s', role, statement))
FROM (VALUES ('SELECT count(*) > 0 FROM phi.keys', 'true', 'true'), ('SELECT count(*) > 0 FROM phi.clinics', 'true', 'true'), ('SELECT count(*) > 0 FROM phi.key_events', 'true', 'true'),
             ('SELECT count(*) > 0 FROM phi.grants', 'true', 'true'), ('SELECT count(*) > 0 FROM phi.grant_events', 'true', 'true'), ('SELECT count(*) > 0 FROM phi.protected_columns', 'true', 'true'),
             ('SELECT phi.create_clinic(''new'', ''New'') > 0', 'true', 'ERROR 42501'), ('SELECT phi.rotate_key(''b'', ''identity'') > 0', 'true', 'ERROR 42501'),
             ('SELECT w::text FROM t.note', 'ERROR 42501', 'ERROR 42501'), ('SELECT phi.decrypt(w) FROM t.note', 'ERROR 42501', 'ERROR 42501'), ('SELECT wrapped FROM phi.data_key', 'ERROR 42501', 'ERROR 42501'),
             ('UPDATE phi.data_key SET state = ''retired''', 'ERROR 42501', 'ERROR 42501'), ('DELETE FROM phi.key_event', 'ERROR 42501', 'ERROR 42501'), ('SELECT phi.grant_clinic(''t_nobody'', ''a'')', 'ERROR 42501', 'ERROR 42501'),
             ('SELECT phi.add_key(1, 1::smallint, 9, ''x'')', 'ERROR 42501', 'ERROR 42501'), ('SELECT phi.wrap_new_key(1, 1, 1::smallint, 1)', 'ERROR 42501', 'ERROR 42501'), ('SELECT phi.move_key(1, ''retired'', ''x'')', 'ERROR 42501', 'ERROR 42501')) v(statement, custodian, auditor),
     LATERAL (VALUES ('t_keeper', custodian), ('t_auditor', auditor)) r(role, wanted);
SELECT is(count(*), 0::bigint, 'no view of phi has a column of bytes') FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('v', 'm') AND atttypid = 'bytea'::regtype;
SELECT is(string_agg(format('%s.%s', relname, attname), ',' ORDER BY relname, attname), 'audit_checkpoint.root,audit_leaf.hashes,audit_log_default.new_digest,audit_log_default.old_digest,audit_node.hash,audit_retired.root,audit_state.frontier,data_key.wrapped,destruction_certificate.hash,destruction_certificate.previous_hash,protect_change.row_key', 'and tables have wrapped ones, hashes, and keys of rows') FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'phi'::regnamespace AND relkind = 'r' AND relname !~ '^audit_log_2' AND atttypid = 'bytea'::regtype;

SELECT * FROM finish();
ROLLBACK;
