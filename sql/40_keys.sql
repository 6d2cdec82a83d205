-- Keys, as a custodian sees and rotates them.
\set SHOW_CONTEXT never
SET SESSION AUTHORIZATION custodian;
SELECT clinic, name, keys FROM phi.clinics ORDER BY clinic;
SELECT clinic, class, version, suite, state FROM phi.keys WHERE clinic = 'a' ORDER BY key_id;
SELECT phi.rotate_key('a', 'identity') > 0 AS rotated;
SELECT phi.rotate_key('a', 'nonsense');
SELECT phi.rotate_key('c', 'identity');
SELECT clinic, class, version, state FROM phi.keys WHERE clinic = 'a' AND class = 'identity' ORDER BY version;
SELECT clinic, class, version, from_state, to_state, actor, reason FROM phi.key_events WHERE reason <> 'clinic created' ORDER BY event_id;
SELECT wrapped FROM phi.data_key;
SELECT name::text FROM patient;

-- Old values read; new ones carry the new key; both are found.
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
INSERT INTO patient (id, name) VALUES (5, 'Sato Hanako');
SELECT id, name, (phi.describe(name)).version FROM patient WHERE name = 'Sato Hanako' ORDER BY id;

-- The auditor reads and changes nothing.
SET SESSION AUTHORIZATION auditor;
SELECT count(*) > 0 AS reads FROM phi.key_events;
SELECT phi.rotate_key('a', 'identity');
SET phi.clinic = 'a';

-- Suites: what is new is encrypted with the one that is set, what is old stays readable.
RESET SESSION AUTHORIZATION;
SET phi.suite = 'camellia-256-ctr-hmac-sha-256';
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
UPDATE patient SET note = 'with Camellia' WHERE id = 5;
RESET SESSION AUTHORIZATION;
SET phi.suite = 'xchacha20-poly1305';
SET SESSION AUTHORIZATION app_a;
UPDATE patient SET born = '2000-01-01' WHERE id = 5;
SELECT name, born, note FROM patient WHERE id = 5;
SELECT (phi.describe(name)).suite AS name, (phi.describe(born)).suite AS born, (phi.describe(note)).suite AS note FROM patient WHERE id = 5;
SET phi.suite = 'xaes-256-gcm';
RESET SESSION AUTHORIZATION;
SET phi.suite = 'rot13';
RESET phi.suite;

-- A key row that somebody edited is no key.
SET SESSION AUTHORIZATION app_a;
SELECT name FROM patient WHERE id = 1 AND clinic = 'a';
RESET SESSION AUTHORIZATION;
BEGIN;
UPDATE phi.data_key SET version = version + 10 WHERE clinic_id = (SELECT clinic_id FROM phi.clinic WHERE code = 'a');
SET SESSION AUTHORIZATION app_a;
\set VERBOSITY terse
SELECT name FROM patient WHERE id = 1 AND clinic = 'a';
\set VERBOSITY default
ROLLBACK;
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
SELECT name FROM patient WHERE id = 1 AND clinic = 'a';
