-- Tables for bench/search; then sorts and joins of :n values.
\set QUIET on
\pset tuples_only on
\pset format unaligned
CREATE TABLE tps (part text, what text, tps float8);
GRANT ALL ON tps TO bench;
\c - bench
SET client_min_messages = warning;
SET phi.clinic = 'a';
CREATE TABLE plain_hash (id int, clinic text, name text);
INSERT INTO plain_hash SELECT i, 'a', (1000000000000000000 + i)::text FROM generate_series(1, :n) i;
CREATE TABLE plain_btree AS SELECT * FROM plain_hash;
CREATE TABLE phi_hash (id int, clinic text, name enctext(identity));
INSERT INTO phi_hash SELECT * FROM plain_hash;
CREATE TABLE phi_btree (id int, clinic text, name enctext(identity));
INSERT INTO phi_btree SELECT * FROM phi_hash;
CREATE TABLE hmac_btree AS SELECT id, clinic, name, hmac(name, 'secret', 'sha256') AS digest FROM plain_hash;
CREATE INDEX ON plain_hash USING hash (name);
CREATE INDEX ON plain_btree (name);
CREATE INDEX ON phi_hash USING hash (name);
CREATE INDEX ON phi_btree (name enctext_equality_ops);
CREATE INDEX ON hmac_btree (digest);
CREATE TABLE patient_plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, kana text, address text, phone text, insurance_no text, note text);
CREATE TABLE patient_phi (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name enctext(identity), kana enctext(identity), address enctext(identity),
  phone enctext(identity), insurance_no enctext(insurance), note enctext(clinical));
CREATE TABLE patient_raw (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea, kana bytea, address bytea, phone bytea, insurance_no bytea, note bytea, digest bytea);
CREATE INDEX ON patient_plain USING hash (name);
CREATE INDEX ON patient_phi USING hash (name);
CREATE INDEX ON patient_raw USING hash (digest);
\c - postgres
-- The same tables behind a clinic's row security.
SELECT format('CREATE TABLE %1$s_isolated (LIKE %1$s INCLUDING ALL); ALTER TABLE %1$s_isolated OWNER TO bench', t) FROM unnest('{plain_hash,plain_btree,phi_hash,phi_btree,hmac_btree}'::text[]) t \gexec
SELECT format('INSERT INTO %1$s_isolated SELECT * FROM %1$s', t) FROM unnest('{plain_hash,plain_btree,phi_hash,phi_btree,hmac_btree}'::text[]) t \gexec
SELECT phi.isolate((t || '_isolated')::regclass, 'clinic') FROM unnest('{plain_hash,plain_btree,phi_hash,phi_btree,hmac_btree}'::text[]) t \g /dev/null
VACUUM ANALYZE;
CHECKPOINT;

\c - bench
SET client_min_messages = warning;
SET phi.clinic = 'a';
CALL measure('scan', 'plaintext', :n, 'SELECT sum(length(name)) FROM plain_hash', 3);
CALL measure('scan', 'pg_phi', :n, 'SELECT sum(length(name)) FROM phi_hash', 3);
SELECT report('scan');
SET work_mem = '1GB';
CREATE TABLE plain_shuffled AS SELECT * FROM plain_hash ORDER BY md5(name);
CREATE TABLE phi_shuffled (id int, clinic text, name enctext(identity));
INSERT INTO phi_shuffled SELECT * FROM plain_shuffled;
VACUUM ANALYZE plain_shuffled, phi_shuffled;
CALL measure('sort in memory', 'plaintext, collation C', :n, 'SELECT count(*) FROM (SELECT name FROM plain_shuffled ORDER BY name COLLATE "C" OFFSET 0) s', 3);
CALL measure('sort in memory', 'pg_phi', :n, 'SELECT count(*) FROM (SELECT name FROM phi_shuffled ORDER BY name COLLATE "C" OFFSET 0) s', 3);
SET work_mem = '16MB';
CALL measure('sort on disk', 'plaintext, collation C', :n, 'SELECT count(*) FROM (SELECT name FROM plain_shuffled ORDER BY name COLLATE "C" OFFSET 0) s', 3);
CALL measure('sort on disk', 'pg_phi', :n, 'SELECT count(*) FROM (SELECT name FROM phi_shuffled ORDER BY name COLLATE "C" OFFSET 0) s', 3);
SET work_mem = '1GB';
CALL measure('hash join', 'plaintext', :n, 'SELECT count(*) FROM plain_hash x JOIN plain_shuffled y USING (name)', 3);
CALL measure('hash join', 'pg_phi', :n, 'SELECT count(*) FROM phi_hash x JOIN phi_shuffled y USING (name)', 3);
SELECT report(part) FROM unnest('{sort in memory,sort on disk,hash join}'::text[]) part;
\c - postgres
SET client_min_messages = warning;

CREATE VIEW best AS SELECT part, what, percentile_cont(0.5) WITHIN GROUP (ORDER BY tps) AS tps FROM tps GROUP BY part, what;
CREATE FUNCTION report_tps() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT line FROM (
    SELECT part, 0 AS no, 0 AS what, E'\n' || format('%-58s %10s %10s', part || ', tps of two clients', 'median', 'ratio') AS line FROM (SELECT DISTINCT part FROM best) p
    UNION ALL
    SELECT part, 1, -tps, format('  %-56s %10s %10s', what, round(tps), round((tps / max(tps) FILTER (WHERE what LIKE 'plaintext%') OVER (PARTITION BY part))::numeric, 2)) FROM best) l
  ORDER BY part DESC, no, what
$$;

CREATE FUNCTION of(part text, what text) RETURNS float8 LANGUAGE sql AS $$ SELECT tps FROM best b WHERE b.part = of.part AND b.what = of.what $$;
CREATE FUNCTION per_value(part text, what text) RETURNS float8 LANGUAGE sql AS $$ SELECT seconds / n FROM result r WHERE r.part = per_value.part AND r.what = per_value.what $$;
CREATE FUNCTION goals() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT E'\n' || format('%-72s %8s   %s', 'what is to be reached', 'measured', 'goal')
  UNION ALL
  SELECT format('  %-70s %8s   %s', what, round(measured::numeric, 2), goal) FROM (
    SELECT part || ': hash index / plaintext hash index' AS what, of(part, 'pg_phi: hash index') / of(part, 'plaintext, hash index') AS measured, '>= 0.9' AS goal
      FROM unnest('{"point lookup","point lookup, under row security"}'::text[]) part
    UNION ALL SELECT part || ': hash index / plaintext btree', of(part, 'pg_phi: hash index') / of(part, 'plaintext, btree'), '>= 0.85'
      FROM unnest('{"point lookup","point lookup, under row security"}'::text[]) part
    UNION ALL SELECT 'point lookup: varchar / unknown', of('point lookup', 'pg_phi: hash index, varchar as JDBC sends') / of('point lookup', 'pg_phi: hash index'), '1'
    UNION ALL SELECT p || ': (pg_phi - one decryption) / plaintext',
      (per_value(p, 'pg_phi') - per_value('scan', 'pg_phi') + per_value('scan', 'plaintext')) / per_value(p, 'plaintext, collation C'), '<= 2.5' FROM unnest('{sort in memory,sort on disk}'::text[]) p
    UNION ALL SELECT 'hash join / plaintext', per_value('hash join', 'pg_phi') / per_value('hash join', 'plaintext'), '<= 3'
    UNION ALL SELECT 'patients, synchronous_commit on / plaintext', of('patients, synchronous_commit on', 'pg_phi') / of('patients, synchronous_commit on', 'plaintext'), '>= 0.95'
    UNION ALL SELECT 'patients, synchronous_commit off / plaintext', of('patients, synchronous_commit off', 'pg_phi') / of('patients, synchronous_commit off', 'plaintext'), '>= 0.78') g
$$;
