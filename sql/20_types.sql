-- What each kind of session reads and writes.
\set SHOW_CONTEXT never
SET SESSION AUTHORIZATION app_a;
INSERT INTO patient (clinic, id, name) VALUES ('a', 1, 'Sato Hanako');
SET phi.clinic = 'a';
INSERT INTO patient (id, name, born, note) VALUES
  (1, 'Sato Hanako', '1958-03-21', 'allergy: penicillin'),
  (2, '佐藤 花子', '1971-12-01', ''),
  (3, NULL, 'infinity', 'phi');
SELECT * FROM patient ORDER BY id;
SELECT id, upper(name), age('2020-01-01', born), length(note) FROM patient WHERE name = 'Sato Hanako';
SELECT * FROM patient WHERE born >= '1970-01-01' ORDER BY born DESC;
INSERT INTO patient (id, born) VALUES (9, 'Sato was born yesterday');
INSERT INTO patient (id, name) VALUES (9, 'phi1: is how an envelope begins');
INSERT INTO patient (id, name) VALUES (4, phi.encrypt('phi1: is how an envelope begins'));
SELECT name FROM patient WHERE id = 4;
UPDATE patient SET note = name WHERE id = 4;
SELECT (phi.describe(name)).class AS name_is, (phi.describe(note)).class AS note_is FROM patient WHERE id = 4;
DELETE FROM patient WHERE id = 4;
SELECT d.clinic, d.class, d.version, d.suite, d.type, d.bytes FROM patient, phi.describe(name) d WHERE id = 1;

-- The nurse, who holds no clinical values.
SET SESSION AUTHORIZATION nurse;
SET phi.clinic = 'a';
SELECT id, name FROM patient ORDER BY id;
SELECT id, name, note FROM patient ORDER BY id;
SELECT count(*) FROM patient WHERE note = 'allergy: penicillin';
INSERT INTO patient (id, note) VALUES (9, 'of mine');
SET phi.hidden_value = 'null';
SELECT id, name, note FROM patient ORDER BY id;
RESET phi.hidden_value;

-- Another clinic.
SET SESSION AUTHORIZATION app_b;
SET phi.clinic = 'b';
SELECT id, name FROM patient ORDER BY id;
SELECT count(*) FROM patient WHERE name = 'Sato Hanako';
SET phi.result_as_base = off;
SELECT id, regexp_replace(format('%s', name), '[A-Za-z0-9+/=]{40,}$', '<base64>') AS name FROM patient ORDER BY id;
RESET phi.result_as_base;

-- The DBA.
RESET phi.clinic;
RESET SESSION AUTHORIZATION;
SELECT id, regexp_replace(format('%s', name), '[A-Za-z0-9+/=]{40,}$', '<base64>') AS name FROM patient ORDER BY id;
SELECT upper(name) FROM patient;
SELECT * FROM patient WHERE name = 'Sato Hanako';
SELECT * FROM patient WHERE born < current_date;
UPDATE patient SET note = 'x';
INSERT INTO patient (clinic, name) VALUES ('a', 'phi1:AAAA');

-- The types of a result's columns: base types for those who hold a grant, or as it is forced.
SELECT name, born FROM patient \gdesc
SET phi.result_as_base = on;
SELECT name, born FROM patient \gdesc
RESET phi.result_as_base;
SET SESSION AUTHORIZATION app_a;
SELECT name, born, note FROM patient \gdesc
SELECT DISTINCT name FROM patient \gdesc
SELECT name FROM patient UNION SELECT note FROM patient \gdesc
SELECT name, count(*) FROM patient GROUP BY name ORDER BY name \gdesc
UPDATE patient SET id = id RETURNING name, born \gdesc
WITH w AS (SELECT born FROM patient) SELECT * FROM w LIMIT 1 \gdesc
SELECT array_agg(name) FROM patient \gdesc
SET phi.result_as_base = off;
SELECT name, born, note FROM patient \gdesc
RESET phi.result_as_base;
-- Sealed, one who could open a clinic gets an error, not ciphertext for text.
SELECT name FROM patient;

-- Cursors, prepared statements and views.
SET phi.clinic = 'a';
BEGIN;
DECLARE c CURSOR FOR SELECT id, name FROM patient ORDER BY name;
FETCH ALL FROM c;
COMMIT;
PREPARE p AS SELECT id, name FROM patient WHERE name = 'Sato Hanako';
EXECUTE p;
PREPARE p2 (varchar) AS SELECT id, name FROM patient WHERE name = $1;
EXECUTE p2 ('Sato Hanako');
CREATE TEMP VIEW names AS SELECT id, name FROM patient;
SELECT * FROM names ORDER BY name;
SELECT * FROM names \gdesc
CREATE TEMP TABLE copied AS SELECT name FROM patient;
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'copied'::regclass AND attnum > 0;
SELECT name FROM copied ORDER BY 1;

-- COPY: a session that may read gets plaintext, another one envelopes, which restore as they are.
COPY (SELECT name, born FROM patient ORDER BY id) TO STDOUT;
COPY patient (id, name, born) FROM STDIN;
6	Suzuki Taro	1980-05-05
\.
COPY patient (id, name, born) FROM STDIN;
7	phi1:c2hvcnQ=	1980-05-05
\.
SELECT name, born FROM patient WHERE id = 6;
DELETE FROM patient WHERE id = 6;

-- A constant in a stored expression would be a value of one clinic for all.
RESET SESSION AUTHORIZATION;
CREATE TABLE stored (v enctext(identity) DEFAULT 'unknown');
CREATE TABLE stored (v enctext(identity) DEFAULT 'unknown'::text);
CREATE TABLE checked (v enctext(identity) CHECK (v <> 'unknown'::text));
DROP TABLE stored, checked;
