-- Tables for bench/audit, then changes of single rows and of :n rows at once.
\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
CREATE TABLE tps (part text, what text, tps float8);
GRANT ALL ON tps TO bench;
CREATE FUNCTION report_tps() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT line FROM (
    SELECT DISTINCT part, 0 AS no, E'\n' || format('%-58s %10s %8s', part, 'tps', 'ratio') AS line FROM tps
    UNION ALL
    SELECT part, CASE what WHEN 'no audit' THEN 1 ELSE 2 END, format('  %-56s %10s %8s', what, round(tps::numeric), round((tps / max(tps) FILTER (WHERE what = 'no audit') OVER (PARTITION BY part))::numeric, 2))
    FROM (SELECT part, what, percentile_cont(0.5) WITHIN GROUP (ORDER BY tps) AS tps FROM tps GROUP BY part, what) r
  ) l ORDER BY part, no, line
$$;

-- CPU time of this process, user and system, in seconds, to 10 ms: what else the
-- machine does does not count, nor does waiting for the disk.
CREATE FUNCTION cpu_time() RETURNS float8 LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
  SELECT (split_part(stat, ' ', 14)::int + split_part(stat, ' ', 15)::int) / 100.0 FROM pg_read_file('/proc/self/stat') stat
$$;
CREATE OR REPLACE PROCEDURE measure(part text, what text, n bigint, statement text, runs int DEFAULT 5, before text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
  best float8 := 'infinity';
  started float8;
BEGIN
  FOR i IN 1..runs LOOP
    IF before IS NOT NULL THEN EXECUTE before; END IF;
    COMMIT;
    started := cpu_time();
    EXECUTE statement;
    best := least(best, cpu_time() - started);
    COMMIT;
  END LOOP;
  INSERT INTO result (part, what, n, seconds) VALUES (part, what, n, best);
END $$;

CREATE TABLE patient_none (id int PRIMARY KEY, name enctext(identity), kana enctext(identity), address enctext(identity),
  phone enctext(identity), note enctext(clinical)) WITH (fillfactor = 50);
CREATE TABLE patient_audit (LIKE patient_none INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE patient_history (LIKE patient_none INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE patient_jsonb (LIKE patient_none INCLUDING ALL) WITH (fillfactor = 50);
SELECT format('ALTER TABLE patient_%s OWNER TO bench', v) FROM unnest('{none,audit,history,jsonb}'::text[]) v \gexec
SELECT phi.audit('patient_audit') \g /dev/null
SELECT phi.audit('patient_history', history => true) \g /dev/null

-- What many applications have: what changed, as JSON, in plaintext.
CREATE TABLE jsonb_log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(),
  who text DEFAULT session_user, relation text, operation text, old jsonb, new jsonb);
GRANT ALL ON jsonb_log TO bench;
CREATE FUNCTION log_as_jsonb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO jsonb_log (relation, operation, old, new)
  VALUES (TG_TABLE_NAME, TG_OP, CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
  RETURN NULL;
END $$;
CREATE TRIGGER log_as_jsonb AFTER INSERT OR UPDATE OR DELETE ON patient_jsonb FOR EACH ROW EXECUTE FUNCTION log_as_jsonb();

CREATE PROCEDURE update_singly(relation text, n int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..n LOOP
    EXECUTE format('UPDATE %s SET phone = $1 WHERE id = $2', relation) USING '090-' || i, i;
  END LOOP;
END $$;
GRANT EXECUTE ON PROCEDURE update_singly TO bench;
SELECT set_config('bench.n', :'n', false) \g /dev/null

\c - bench
SET client_min_messages = warning;
SET phi.clinic = 'a';
SET synchronous_commit = off;
-- Not \set within a loop of psql: the statements are the same for all.
SELECT format($c$CALL measure('INSERT of %1$s rows, CPU of its process', '%2$s', %1$s,
    'INSERT INTO patient_%3$s SELECT i, ''Sato Hanako '' || i, ''sato hanako '' || i, ''Hakodate 1-2-'' || i, ''0138-'' || i, ''penicillin allergy '' || i FROM generate_series(1, %1$s) i',
    3, 'TRUNCATE patient_%3$s')$c$, :n, what, v)
FROM (VALUES ('none', 'no audit'), ('audit', 'pg_phi: audit'), ('history', 'pg_phi: audit and history'),
             ('jsonb', 'plpgsql trigger, jsonb of plaintext')) x(v, what) \gexec
SELECT format($c$CALL measure('single-row UPDATE, CPU of its process', '%2$s', %1$s, 'CALL update_singly(''patient_%3$s'', %1$s)', 3)$c$, :n, what, v)
FROM (VALUES ('none', 'no audit'), ('audit', 'pg_phi: audit'), ('history', 'pg_phi: audit and history'),
             ('jsonb', 'plpgsql trigger, jsonb of plaintext')) x(v, what) \gexec
SELECT report(part) FROM (SELECT DISTINCT part FROM result WHERE part LIKE '%of its process' ORDER BY 1) p;
\c - postgres
VACUUM ANALYZE;
CHECKPOINT;
