-- What bench/rekey calls: tables filled anew, a measured statement, the report.
\set QUIET on
CREATE EXTENSION pg_phi;
CREATE EXTENSION pgcrypto;
CREATE ROLE bench LOGIN;
SELECT phi.create_clinic('a', 'Bench') \g /dev/null
SELECT phi.grant_clinic(r, 'a') FROM unnest('{bench,postgres}'::regrole[]) r \g /dev/null
-- No checkpoint but ours, so that each run writes the full page images of the
-- pages that it touches, once.
ALTER SYSTEM SET checkpoint_timeout = '1h';
SELECT pg_reload_conf() \g /dev/null

CREATE TABLE result (no int GENERATED ALWAYS AS IDENTITY, what text, n bigint, seconds float8,
                     wal bigint, size bigint, grown bigint, cpu float8, memory bigint);

-- The random IV is kept before the value; one expression makes it, two use it.
CREATE FUNCTION raw_update() RETURNS text LANGUAGE sql AS $$
  SELECT 'UPDATE t SET (c1, c2, c3) = (SELECT '
    || string_agg(format($f$i%s || encrypt_iv(decrypt_iv(substr(c%1$s, 17), '%2$s', substr(c%1$s, 1, 16), 'aes-cbc'), '%2$s', i%1$s, 'aes-cbc')$f$,
                         i, '0123456789abcdef0123456789abcdef'), ', ')
    || ' FROM (SELECT gen_random_bytes(16) AS i1, gen_random_bytes(16) AS i2, gen_random_bytes(16) AS i3 OFFSET 0) iv)'
  FROM generate_series(1, 3) i
$$;
CREATE FUNCTION pgp_update() RETURNS text LANGUAGE sql AS $$
  SELECT 'UPDATE t SET ' || string_agg(format($f$c%s = pgp_sym_encrypt(pgp_sym_decrypt(c%1$s, 'secret'), 'secret', 's2k-mode=0, cipher-algo=aes256')$f$, i), ', ')
  FROM generate_series(1, 3) i
$$;

-- Tables of n rows with three values of 20 bytes, as the columns' types say.
CREATE FUNCTION fill(n bigint, types text[], expressions text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DROP TABLE IF EXISTS t;
  EXECUTE format('CREATE TABLE t (id int PRIMARY KEY, c1 %s, c2 %s, c3 %s)', types[1], types[2], types[3]);
  PERFORM set_config('phi.clinic', 'a', true);
  EXECUTE format('INSERT INTO t SELECT g, %s, %s, %s FROM (SELECT g, substr(md5(g::text), 1, 20) AS v, '
    'substr(md5(g::text || ''b''), 1, 20) AS w, substr(md5(g::text || ''c''), 1, 20) AS x FROM generate_series(1, %s) g) s',
    replace(expressions[1], '$', 'v'), replace(expressions[1], '$', 'w'), replace(expressions[1], '$', 'x'), n);
END $$;
CREATE FUNCTION fill(n bigint, kind text) RETURNS void LANGUAGE sql AS $$
  SELECT CASE kind
    WHEN 'plain' THEN fill(n, '{text,text,text}', '{$}')
    WHEN 'bytes' THEN fill(n, '{bytea,bytea,bytea}', ARRAY['substr(sha256($::bytea) || sha512($::bytea), 1, 79)'])
    WHEN 'raw' THEN fill(n, '{bytea,bytea,bytea}', ARRAY[
      $q$'0123456789abcdef'::bytea || encrypt_iv($::bytea, '0123456789abcdef0123456789abcdef', '0123456789abcdef', 'aes-cbc')$q$])
    WHEN 'pgp' THEN fill(n, '{bytea,bytea,bytea}', ARRAY[$q$pgp_sym_encrypt($, 'secret', 's2k-mode=0, cipher-algo=aes256')$q$])
    WHEN 'phi' THEN fill(n, '{enctext(identity),enctext(clinical),enctext}', '{$}')
  END
$$;

-- The best run of each; memory and growth are the worst.
CREATE VIEW best AS
  SELECT min(no) AS no, what, n, min(seconds) AS seconds, n / min(seconds) AS rate, max(wal) / n AS wal,
         max(grown::float8 / size) AS growth, min(cpu) / n * 1e6 AS cpu, max(memory) / 1024.0 AS memory
  FROM result GROUP BY what, n;

CREATE FUNCTION report() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT format('%-46s %8s %8s %8s %6s %10s %7s %9s %10s', 'three values in each row', 'rows', 'seconds', 'rows/s', 'ratio',
                'CPU us/row', 'ratio', 'WAL B/row', 'growth') || format(' %9s', 'memory')
  UNION ALL
  (SELECT format('  %-44s %8s %8s %8s %6s %10s %7s %9s %10s', what, n, round(seconds::numeric, 2), round(rate), round((rate / plain.r)::numeric, 2),
                 round(cpu::numeric, 2), round((plain.c / nullif(cpu, 0))::numeric, 2), wal, round(growth::numeric, 2)) || format(' %6s MB', round(memory, 1))
   FROM best, (SELECT rate AS r, cpu AS c FROM best ORDER BY no LIMIT 1) plain ORDER BY no)
$$;

CREATE FUNCTION goals() RETURNS SETOF text LANGUAGE sql AS $$
  WITH b AS (
    SELECT max(rate) FILTER (WHERE what = 'plaintext UPDATE') AS plain, max(cpu) FILTER (WHERE what = 'plaintext UPDATE') AS plain_cpu,
           max(rate) FILTER (WHERE what = 'pg_phi: online, 1 worker') AS one, max(cpu) FILTER (WHERE what = 'pg_phi: online, 1 worker') AS one_cpu,
           max(rate) FILTER (WHERE what = 'pg_phi: online, 2 workers') AS two,
           max(growth) FILTER (WHERE what ~ 'pg_phi: online, . workers?$') AS growth,
           max(memory) FILTER (WHERE what LIKE 'pg_phi: online%') AS memory,
           max(memory) FILTER (WHERE what = 'pg_phi: online, 1 worker') AS large, max(memory) FILTER (WHERE what LIKE '%a quarter%') AS small
    FROM best)
  SELECT format('  %-46s %8s   %s', g.what, round(g.value::numeric, 2), g.goal)
  FROM b, LATERAL (VALUES
    (1, 'rate with one worker / plaintext UPDATE', one / plain, '>= 0.7'),
    (2, 'the same by CPU time', plain_cpu / one_cpu, ''),
    (3, 'rate with two workers / plaintext UPDATE', two / plain, '> 1.0'),
    (4, 'size after / before, online', growth, '< 1.3'),
    (5, 'private memory of a worker, online, MB', memory, '< 64'),
    (6, 'the same, all rows / a quarter of them', large / small, 'about 1')) g (no, what, value, goal) ORDER BY g.no
$$;
