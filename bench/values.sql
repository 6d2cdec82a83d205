-- 1M values of 20 bytes: scan, insert, size, against plain text and pgcrypto.
\set QUIET on
\pset tuples_only on
\pset format unaligned
\set n 1000000
\set few 20000
\c - bench
SET phi.clinic = 'a';
SET client_min_messages = warning;

CREATE TABLE source AS SELECT substr(md5(g::text), 1, 20) AS v FROM generate_series(1, :n) g;
CREATE TABLE t_plain (v text);
CREATE TABLE t_phi (v enctext(identity));
CREATE TABLE t_camellia (v enctext(identity));
CREATE TABLE t_xchacha (v enctext(identity));
CREATE TABLE t_raw (v bytea);
CREATE TABLE t_pgp (v bytea);
CREATE TABLE t_pgp_default (v bytea);

\set raw 'encrypt_iv(v::bytea, ''0123456789abcdef0123456789abcdef'', gen_random_bytes(16), ''aes-cbc'')'
\set pgp 'pgp_sym_encrypt(v, ''secret'', ''s2k-mode=0, cipher-algo=aes256'')'
CALL measure('encrypting insert', 'plain text', :n, 'INSERT INTO t_plain SELECT v FROM source', 5, 'TRUNCATE t_plain');
CALL measure('encrypting insert', 'pg_phi: enctext(identity), from text', :n, 'INSERT INTO t_phi SELECT v FROM source', 5, 'TRUNCATE t_phi');
CREATE TABLE t_bytes (v bytea);
ALTER TABLE t_bytes ALTER v SET STORAGE EXTERNAL;
CREATE TABLE source_bytes AS SELECT substr(sha256(v::bytea) || sha512(v::bytea), 1, 79) AS v FROM source;
CALL measure('encrypting insert', 'bytea of as many bytes as the envelope', :n, 'INSERT INTO t_bytes SELECT v FROM source_bytes', 5, 'TRUNCATE t_bytes');
CREATE TABLE t_general (v enctext);
CREATE TABLE t_moved (v enctext(identity));
INSERT INTO t_general SELECT v FROM source;
CALL measure('encrypting insert', 'pg_phi: a value moved from general to identity', :n, 'INSERT INTO t_moved SELECT v FROM t_general', 5, 'TRUNCATE t_moved');
CALL measure('encrypting insert', 'pgcrypto: raw AES-256-CBC, random IV', :n, format('INSERT INTO t_raw SELECT %s FROM source', :'raw'), 3, 'TRUNCATE t_raw');
CALL measure('encrypting insert', 'pgcrypto: pgp_sym_encrypt, s2k-mode=0, aes256', :few, format('INSERT INTO t_pgp SELECT %s FROM source LIMIT %s', :'pgp', :few), 3, 'TRUNCATE t_pgp');
CALL measure('encrypting insert', 'pgcrypto: pgp_sym_encrypt, default', :few / 10, format('INSERT INTO t_pgp_default SELECT pgp_sym_encrypt(v, ''secret'') FROM source LIMIT %s', :few / 10), 3, 'TRUNCATE t_pgp_default');
\c - postgres
SET client_min_messages = warning;
ALTER ROLE bench SET phi.suite = 'camellia-256-ctr-hmac-sha-256';
\c - bench
SET phi.clinic = 'a';
CALL measure('encrypting insert', 'pg_phi: the same with Camellia', :n, 'INSERT INTO t_camellia SELECT v FROM source', 3, 'TRUNCATE t_camellia');
\c - postgres
ALTER ROLE bench SET phi.suite = 'xchacha20-poly1305';
\c - bench
SET phi.clinic = 'a';
CALL measure('encrypting insert', 'pg_phi: the same with XChaCha20', :n, 'INSERT INTO t_xchacha SELECT v FROM source', 3, 'TRUNCATE t_xchacha');
\c - postgres
ALTER ROLE bench RESET phi.suite;
VACUUM ANALYZE t_plain, t_phi, t_camellia, t_xchacha, t_raw, t_pgp, t_pgp_default;
\c - bench
SET phi.clinic = 'a';
SET client_min_messages = warning;
SELECT report('encrypting insert');

CALL measure('decrypting scan', 'plain text', :n, 'SELECT sum(length(v)) FROM t_plain');
CALL measure('decrypting scan', 'pg_phi: enctext(identity)', :n, 'SELECT sum(length(v)) FROM t_phi');
CALL measure('decrypting scan', 'pg_phi: the same with Camellia', :n, 'SELECT sum(length(v)) FROM t_camellia', 3);
CALL measure('decrypting scan', 'pg_phi: the same with XChaCha20', :n, 'SELECT sum(length(v)) FROM t_xchacha', 3);
-- What raw encryption leaves to do by hand: the IV is not stored with the value.
CALL measure('decrypting scan', 'pgcrypto: raw AES-256-CBC', :n, 'SELECT sum(length(decrypt_iv(v, ''0123456789abcdef0123456789abcdef'', ''0123456789abcdef'', ''aes-cbc''))) FROM t_raw_fixed', 3,
  'CREATE TABLE IF NOT EXISTS t_raw_fixed AS SELECT encrypt_iv(v::bytea, ''0123456789abcdef0123456789abcdef'', ''0123456789abcdef'', ''aes-cbc'') AS v FROM source');
CALL measure('decrypting scan', 'pgcrypto: pgp_sym_decrypt, s2k-mode=0, aes256', :few, 'SELECT sum(length(pgp_sym_decrypt(v, ''secret''))) FROM t_pgp', 3);
CALL measure('decrypting scan', 'pgcrypto: pgp_sym_decrypt, default', :few / 10, 'SELECT sum(length(pgp_sym_decrypt(v, ''secret''))) FROM t_pgp_default', 3);
SELECT report('decrypting scan');

-- Two processes against one.
SET max_parallel_workers_per_gather = 1;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CALL measure('the same by two processes', 'plain text', :n, 'SELECT sum(length(v)) FROM t_plain');
CALL measure('the same by two processes', 'pg_phi: enctext(identity)', :n, 'SELECT sum(length(v)) FROM t_phi');
SELECT report('the same by two processes');
SELECT format('  speed-up: plain text %s, pg_phi %s', max(round((one.seconds / two.seconds)::numeric, 2)) FILTER (WHERE one.what = 'plain text'),
  max(round((one.seconds / two.seconds)::numeric, 2)) FILTER (WHERE one.what <> 'plain text'))
FROM result one JOIN result two USING (what) WHERE one.part = 'decrypting scan' AND two.part = 'the same by two processes';
SELECT format(E'\nbytes stored for a value of 20: plain text %s, pg_phi %s, pgcrypto raw %s, pgp_sym %s',
  (SELECT max(pg_column_size(v)) FROM t_plain), (SELECT max(pg_column_size(v)) FROM t_phi),
  (SELECT max(pg_column_size(v)) + 16 FROM t_raw), (SELECT max(pg_column_size(v)) FROM t_pgp));
