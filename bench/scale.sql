-- 100,000 clinics with 600,000 keys.
\set QUIET on
\pset tuples_only on
\pset format unaligned
\set clinics 100000
\c - postgres
SET client_min_messages = warning;
SELECT count(phi.create_clinic('c' || g, 'Clinic ' || g)) FROM generate_series(1, :clinics) g \g /dev/null
SELECT count(*) FROM (SELECT phi.grant_clinic('bench', 'c' || g) FROM generate_series(1, :clinics) g) s \g /dev/null
VACUUM ANALYZE phi.clinic, phi.data_key, phi.clinic_grant;
SELECT format('%s clinics, %s keys', (SELECT count(*) FROM phi.clinic), (SELECT count(*) FROM phi.data_key)) AS scale \gset
\echo :scale

\c - bench
CREATE TABLE visit (clinic text, v enctext(identity));
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN first..last LOOP
    PERFORM set_config('phi.clinic', 'c' || i, true);
    INSERT INTO visit VALUES ('c' || i, ('value ' || i)::text);
  END LOOP;
END $$;
CREATE FUNCTION visit(first int, last int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  n int := 0;
BEGIN
  FOR i IN first..last LOOP
    PERFORM set_config('phi.clinic', 'c' || i, true);
    n := n + (SELECT count(length(v)) FROM visit WHERE clinic = 'c' || i);
  END LOOP;
  RETURN n;
END $$;
SELECT fill(1, 10000) \g /dev/null
CREATE INDEX ON visit (clinic);
ANALYZE visit;
\c - bench
\timing on
\echo 'a new connection opens a clinic and reads its first value:'
SET phi.clinic = 'c5000';
SELECT length(v) FROM visit WHERE clinic = 'c5000' \g /dev/null
\echo 'and the next one:'
SET phi.clinic = 'c6000';
SELECT length(v) FROM visit WHERE clinic = 'c6000' \g /dev/null
\timing off
\c - bench
SELECT visit(1, 20) \g /dev/null
CREATE FUNCTION private_kb() RETURNS bigint LANGUAGE sql AS
  $$SELECT sum(used_bytes) / 1024 FROM pg_backend_memory_contexts WHERE name LIKE 'pg_phi%' OR parent LIKE 'pg_phi%'$$;
\c - postgres
GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO bench;
GRANT SELECT ON pg_backend_memory_contexts TO bench;
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bench;
GRANT pg_read_server_files TO bench;
\c - bench
CREATE FUNCTION rss_kb() RETURNS int LANGUAGE sql AS
  $$SELECT substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)')::int$$;
SELECT visit(1, 20) \g /dev/null
SELECT rss_kb() AS before \gset
SELECT clock_timestamp() AS started \gset
SELECT visit(1, 10000) AS visited \gset
SELECT format('a backend that visited %s clinics: %s us each, %s kB in its keyring, %s kB more memory of its own',
  :visited, round((extract(epoch FROM clock_timestamp() - :'started') / :visited * 1e6)::numeric), private_kb(), rss_kb() - :before) AS line \gset
\echo :line
