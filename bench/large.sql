-- One value of 100 MB that does not compress.
\set QUIET on
\pset tuples_only on
\pset format unaligned
\c - bench
SET phi.clinic = 'a';
CREATE TABLE large_plain (v bytea);
CREATE TABLE large (v encbytea(clinical));
ALTER TABLE large_plain ALTER v SET STORAGE EXTERNAL;
DO $$
BEGIN
  INSERT INTO large_plain SELECT string_agg(sha512(g::text::bytea), '') FROM generate_series(1, 1638400) g;
END $$;
CREATE FUNCTION peak_kb() RETURNS int LANGUAGE sql AS
  $$SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int - substring(pg_read_file('/proc/self/status') FROM 'RssShmem:\s+(\d+)')::int$$;
\c - bench
SET phi.clinic = 'a';
SELECT peak_kb() AS before, clock_timestamp() AS started \gset
INSERT INTO large SELECT v FROM large_plain;
SELECT format('encrypting a value of 100 MB: %s s, %s MB of memory at its peak', round(extract(epoch FROM clock_timestamp() - :'started')::numeric, 2), (peak_kb() - :before) / 1024) AS line \gset
\echo :line
\c - bench
SET phi.clinic = 'a';
SELECT peak_kb() AS before, clock_timestamp() AS started \gset
SELECT length(v) FROM large \g /dev/null
SELECT format('decrypting it: %s s, %s MB of memory at its peak', round(extract(epoch FROM clock_timestamp() - :'started')::numeric, 2), (peak_kb() - :before) / 1024) AS line \gset
\echo :line
