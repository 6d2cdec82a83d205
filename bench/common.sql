\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
CREATE EXTENSION pg_phi;
CREATE EXTENSION pgcrypto;
CREATE ROLE bench LOGIN;
GRANT ALL ON SCHEMA public TO bench;
SELECT phi.create_clinic('a', 'Bench') \g /dev/null
SELECT phi.grant_clinic('bench', 'a') \g /dev/null

CREATE TABLE result (no int GENERATED ALWAYS AS IDENTITY, part text, what text, n bigint, seconds float8);
GRANT ALL ON result TO bench;

-- The best of some runs: what is left is the work itself.
CREATE PROCEDURE measure(part text, what text, n bigint, statement text, runs int DEFAULT 5, before text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
  best float8 := 'infinity';
  started timestamptz;
BEGIN
  FOR i IN 1..runs LOOP
    IF before IS NOT NULL THEN EXECUTE before; END IF;
    COMMIT;
    started := clock_timestamp();
    EXECUTE statement;
    best := least(best, extract(epoch FROM clock_timestamp() - started));
    COMMIT;
  END LOOP;
  INSERT INTO result (part, what, n, seconds) VALUES (part, what, n, best);
END $$;

-- A part of the results; the first row is what others are compared with.
CREATE FUNCTION report(wanted text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT E'\n' || format('%-58s %10s %12s %8s', wanted, 'us/value', 'above plain', 'ratio')
  UNION ALL
  (SELECT format('  %-56s %10s %12s %8s', what, round(us::numeric, 3), round((us - plain)::numeric, 3), round((us / plain)::numeric, 2))
   FROM (SELECT no, what, seconds / n * 1e6 AS us, first_value(seconds / n * 1e6) OVER (ORDER BY no) AS plain
         FROM result WHERE part = wanted) r ORDER BY no)
$$;
