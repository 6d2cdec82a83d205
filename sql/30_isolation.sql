-- One prepared statement for both clinics; then rows as well as values apart.
\set SHOW_CONTEXT never
SET SESSION AUTHORIZATION app_b;
SET phi.clinic = 'b';
INSERT INTO patient (id, name, note) VALUES (1, 'Sato Hanako', 'of Otaru');
RESET SESSION AUTHORIZATION;
SELECT phi.isolate('patient', 'clinic');
\d patient
SELECT phi.isolate('patient', 'hospital');
SELECT phi.isolate('phi.keys', 'clinic');
SELECT "column", isolated FROM phi.protected_columns WHERE relation = 'patient'::regclass ORDER BY 1;

SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
SELECT clinic, id, name FROM patient ORDER BY id;
SELECT clinic, id, name FROM patient WHERE clinic = 'b' OR true ORDER BY id;
INSERT INTO patient (clinic, id) VALUES ('b', 7);
UPDATE patient SET clinic = 'b';
DELETE FROM patient WHERE clinic = 'b';
SET phi.clinic = '';
SELECT * FROM patient;
SET SESSION AUTHORIZATION app_b;
SET phi.clinic = 'b';
SELECT clinic, id, name, note FROM patient ORDER BY id;
RESET phi.clinic;
RESET SESSION AUTHORIZATION;
-- The DBA sees rows, not values.
SELECT clinic, count(*), count(*) FILTER (WHERE format('%s', name) LIKE 'phi1:%') AS sealed FROM patient GROUP BY clinic ORDER BY clinic;

-- A literal in a prepared statement is a value of the clinic that runs it.
CREATE ROLE app_ab LOGIN;
GRANT SELECT ON patient TO app_ab;
SELECT phi.grant_clinic('app_ab', 'a'), phi.grant_clinic('app_ab', 'b');
CREATE FUNCTION find_sato() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN (SELECT clinic || id FROM patient WHERE name = 'Sato Hanako');
END $$;
SET SESSION AUTHORIZATION app_ab;
SET phi.clinic = 'a';
PREPARE sato AS SELECT clinic, id, name FROM patient WHERE name = 'Sato Hanako';
EXECUTE sato;
SELECT find_sato();
SET phi.clinic = 'b';
EXECUTE sato;
SELECT find_sato();
BEGIN;
SET LOCAL phi.clinic = 'a';
EXECUTE sato;
SELECT find_sato();
COMMIT;
EXECUTE sato;
SELECT find_sato();
BEGIN;
SAVEPOINT s;
SET LOCAL phi.clinic = 'a';
EXECUTE sato;
ROLLBACK TO s;
EXECUTE sato;
COMMIT;
SET phi.clinic = '';
EXECUTE sato;
RESET SESSION AUTHORIZATION;

SELECT phi.unisolate('patient');
SELECT phi.unisolate('patient');
SELECT clinic, count(*) FROM patient GROUP BY clinic ORDER BY clinic;
