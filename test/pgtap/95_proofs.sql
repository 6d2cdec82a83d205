-- Proofs of inclusion and consistency, against an implementation of RFC 6962 in
-- SQL, written from its definitions alone, and against published ones.
\ir include/setup.psql
CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;

-- The tree: all complete subtrees, and what is made of them.
CREATE TABLE t.node (level int, index bigint, hash bytea, PRIMARY KEY (level, index));
CREATE FUNCTION t.make_tree() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR h IN 0..20 LOOP
    INSERT INTO t.node SELECT h + 1, a.index / 2, sha256('\x01' || a.hash || b.hash)
    FROM t.node a JOIN t.node b ON b.level = h AND b.index = a.index + 1 WHERE a.level = h AND a.index % 2 = 0;
  END LOOP;
END $$;
CREATE FUNCTION t.mth(first bigint, size bigint) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  h int := 0;
BEGIN
  IF size = 0 THEN
    RETURN sha256('');
  END IF;
  WHILE 1::bigint << (h + 1) <= size LOOP h := h + 1; END LOOP;
  IF size = 1::bigint << h THEN
    RETURN (SELECT hash FROM t.node WHERE level = h AND index = first >> h);
  END IF;
  RETURN sha256('\x01' || t.mth(first, 1::bigint << h) || t.mth(first + (1::bigint << h), size - (1::bigint << h)));
END $$;
-- PATH(m, D[n]) and SUBPROOF(m, D[n], b).
CREATE FUNCTION t.path(m bigint, first bigint, n bigint) RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
  k bigint := 1;
BEGIN
  IF n = 1 THEN
    RETURN '{}';
  END IF;
  WHILE 2 * k < n LOOP k := 2 * k; END LOOP;
  RETURN CASE WHEN m < k THEN t.path(m, first, k) || t.mth(first + k, n - k)
              ELSE t.path(m - k, first + k, n - k) || t.mth(first, k) END;
END $$;
CREATE FUNCTION t.subproof(m bigint, first bigint, n bigint, b boolean) RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
  k bigint := 1;
BEGIN
  IF m = n THEN
    RETURN CASE WHEN b THEN '{}' ELSE ARRAY[t.mth(first, n)] END;
  END IF;
  WHILE 2 * k < n LOOP k := 2 * k; END LOOP;
  RETURN CASE WHEN m <= k THEN t.subproof(m, first, k, b) || t.mth(first + k, n - k)
              ELSE t.subproof(m - k, first + k, n - k, false) || t.mth(first, k) END;
END $$;

-- The tree as the log, as if it were sequenced: record ids in another order than
-- the leaves, and some rows of leaves not filled.
CREATE FUNCTION t.make_log(sizes bigint[]) RETURNS void LANGUAGE sql AS $$
  DELETE FROM phi.audit_leaf;
  DELETE FROM phi.audit_node;
  DELETE FROM phi.audit_checkpoint;
  INSERT INTO phi.audit_leaf
  SELECT min(index), min(index # 200), max(index # 200), '3', '3', array_agg(index # 200 ORDER BY index), string_agg(hash, '' ORDER BY index)
  FROM t.node WHERE level = 0 GROUP BY index / 64, CASE WHEN index / 64 % 3 = 0 THEN index % 64 / 10 END;
  INSERT INTO phi.audit_node SELECT level, index, hash FROM t.node WHERE level IN (6, 12);
  INSERT INTO phi.audit_checkpoint (size, root, key_id, note) SELECT size, t.mth(0, size), 1, 'checkpoint of ' || size FROM unnest(sizes) size;
  UPDATE phi.audit_state SET size = (SELECT count(*) FROM t.node WHERE level = 0);
$$;
ALTER TABLE phi.audit_leaf DISABLE TRIGGER USER;
ALTER TABLE phi.audit_node DISABLE TRIGGER USER;
ALTER TABLE phi.audit_checkpoint DISABLE TRIGGER USER;

-- Before there is anything.
SELECT throws_ok('SELECT phi.inclusion_proof(1)', '42704', 'record 1 has no leaf in the audit log', 'no proof from an empty log');
SELECT is(phi.consistency_proof(0, 0), '{}', 'the empty log begins with itself');

-- The tree that Certificate Transparency's implementations are tested with:
-- transparency-dev/merkle, proof/verify_test.go.
INSERT INTO t.node SELECT 0, o - 1, sha256('\x00' || leaf)
FROM unnest('{"","\\x00","\\x10","\\x2021","\\x3031","\\x40414243","\\x5051525354555657","\\x606162636465666768696a6b6c6d6e6f"}'::bytea[]) WITH ORDINALITY u(leaf, o);
SELECT t.make_tree(), t.make_log('{1,2,3,5,6,7,8}') \g /dev/null
CREATE TABLE t.published (a bigint, size bigint, proof bytea[]);
INSERT INTO t.published VALUES
  (0, 1, '{}'),
  (0, 8, '{"\\x96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7","\\x5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e","\\x6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}'),
  (5, 8, '{"\\xbc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b","\\xca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0","\\xd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}'),
  (2, 3, '{"\\xfac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}'),
  (1, 5, '{"\\x6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d","\\x5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e","\\xbc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}');
SELECT is(root, '\x5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328', 'the published root') FROM phi.audit_checkpoint WHERE size = 8;
SELECT is((i.leaf, i.size, i.proof, i.checkpoint), (p.a, p.size, p.proof, 'checkpoint of ' || p.size), format('published: leaf %s of %s', p.a, p.size))
FROM t.published p, phi.inclusion_proof(p.a # 200, p.size) i;
SELECT is(phi.consistency_proof(a, b), proof::bytea[], format('published: %s begins %s', a, b))
FROM (VALUES (1, 1, '{}'), (2, 5, '{"\\x5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e","\\xbc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}'),
  (6, 7, '{"\\x0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a","\\xb08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f","\\xd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}'),
  (6, 8, '{"\\x0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a","\\xca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0","\\xd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}')) v(a, b, proof);

-- A log with nodes of both levels.
TRUNCATE t.node;
INSERT INTO t.node SELECT 0, i, sha256('\x00' || convert_to('record ' || i, 'UTF8')) FROM generate_series(0, 4299) i;
SELECT t.make_tree(), t.make_log('{1,2,63,64,65,100,1000,4096,4097,4299}') \g /dev/null
ANALYZE phi.audit_leaf;
CREATE TABLE t.tried AS
SELECT c.size, i.leaf, i.leaf_hash, i.proof, c.root, i.checkpoint = c.note AS its_note, i.size AS size_told
FROM phi.audit_checkpoint c,
     LATERAL (SELECT DISTINCT leaf FROM unnest(ARRAY[0, 1, 31, 62, 63, 64, 127, 639, 640, 999, 4031, 4095, 4096, c.size - 2, c.size - 1, c.size / 3]) leaf WHERE leaf >= 0 AND leaf < c.size) l,
     phi.inclusion_proof(l.leaf # 200, c.size) i;
SELECT is(count(*), 87::bigint, 'proofs of so many leaves and sizes') FROM t.tried;
SELECT is(count(*), 0::bigint, 'each is as RFC 6962 defines it') FROM t.tried
WHERE (proof = t.path(leaf, 0, size) AND leaf_hash = (SELECT hash FROM t.node WHERE level = 0 AND index = leaf) AND its_note AND size_told = size) IS NOT TRUE;
SELECT is(count(*), 0::bigint, 'each leads to the root') FROM t.tried WHERE NOT phi.check_inclusion(leaf, size, leaf_hash, proof, root);
SELECT is(count(*), 0::bigint, 'none as another leaf') FROM t.tried WHERE phi.check_inclusion(leaf + 1, size, leaf_hash, proof, root) OR phi.check_inclusion(leaf, size, root, proof || root, root);
SELECT is((SELECT (size, checkpoint) FROM phi.inclusion_proof(3)), (4299::bigint, 'checkpoint of 4299'::text), 'the newest checkpoint unless asked');
CREATE TABLE t.pairs AS
SELECT a.size AS a, b.size AS b, a.root AS root_a, b.root AS root_b, phi.consistency_proof(a.size, b.size) AS proof
FROM phi.audit_checkpoint a JOIN phi.audit_checkpoint b ON a.size <= b.size;
SELECT is(count(*), 0::bigint, 'proofs of every two sizes are as RFC 6962 defines them') FROM t.pairs WHERE proof <> t.subproof(a, 0, b, true);
SELECT is(count(*), 55::bigint, 'and lead to both roots') FROM t.pairs WHERE phi.check_consistency(a, b, proof, root_a, root_b);
SELECT is(count(*), 0::bigint, 'not to others') FROM t.pairs
WHERE phi.check_consistency(a, b, proof, root_a, sha256(root_b)) OR phi.check_consistency(a, b, proof, sha256(root_a), root_b) OR phi.check_consistency(a, b, proof || root_b, root_a, root_b)
   OR (a < b AND phi.check_consistency(b, a, proof, root_b, root_a));
SELECT is(phi.consistency_proof(77, 4300), t.subproof(77, 0, 4300, true), 'sizes need no checkpoint');
SELECT is(phi.consistency_proof(0, 4300), '{}', 'every log begins with the empty one');

-- What is not there.
SELECT throws_ok(call, code, message, call)
FROM (VALUES
  ('SELECT phi.inclusion_proof(NULL)', '22004', 'the record''s id must not be null'),
  ('SELECT phi.inclusion_proof(999999)', '42704', 'record 999999 has no leaf in the audit log'),
  ('SELECT phi.inclusion_proof(-1)', '42704', 'record -1 has no leaf in the audit log'),
  ('SELECT phi.inclusion_proof(4299 # 200)', '55000', 'record 4099 is not covered by the checkpoint'),
  ('SELECT phi.inclusion_proof(100 # 200, 100)', '55000', 'record 172 is not covered by the checkpoint'),
  ('SELECT phi.inclusion_proof(200, 77)', '42704', 'the audit log has no checkpoint of size 77'),
  ('SELECT phi.inclusion_proof(200, -5)', '42704', 'the audit log has no checkpoint of size -5'),
  ('SELECT phi.consistency_proof(65, 64)', '22023', 'a log of size 65 is not the beginning of one of size 64'),
  ('SELECT phi.consistency_proof(-1, 64)', '22023', 'a log of size -1 is not the beginning of one of size 64'),
  ('SELECT phi.consistency_proof(64, 4301)', '42704', 'the audit log has no size 4301')) v(call, code, message);
SELECT is(phi.consistency_proof(NULL, 1), NULL, 'NULL for NULL');
SELECT is(phi.check_inclusion(0, 1, hash, proof::bytea[], root), false, what)
FROM t.node n, (VALUES ('\x00'::bytea, '{}', 'a root that is no hash'), (NULL, '{NULL}', 'a NULL in the proof'), (NULL, '{"\\x00"}', 'a hash too short'), (NULL, '{{"\\x00"}}', 'two dimensions')) v(bad, proof, what),
     LATERAL (SELECT coalesce(bad, n.hash)) r(root)
WHERE n.level = 0 AND n.index = 0;
SELECT is(phi.check_inclusion(0, 1, hash, array_fill(hash, ARRAY[65]), hash) OR phi.check_inclusion(-1, 1, hash, '{}', hash) OR phi.check_inclusion(0, -1, hash, '{}', hash), false, 'nor what no proof can be')
FROM t.node WHERE level = 0 AND index = 0;
SELECT ok(phi.check_inclusion(0, 1, hash, '{}', hash), 'of one leaf, its hash is the root') FROM t.node WHERE level = 0 AND index = 0;

-- Who may.
SELECT is(t.run('t_auditor', '', call), wanted, 'an auditor: ' || call)
FROM (VALUES ('SELECT leaf FROM phi.inclusion_proof(3)', '203'), ('SELECT cardinality(phi.consistency_proof(64, 128))', '1'),
             ('SELECT phi.check_inclusion(0, 1, ''x'', ''{}'', ''x'')', 'false'), ('SELECT phi.check_consistency(0, 1, ''{}'', ''x'', ''x'')', 'false')) v(call, wanted);
SELECT is(t.run('t_nurse', 'a', call), 'ERROR 42501', 'nobody else: ' || call)
FROM unnest(ARRAY['SELECT phi.inclusion_proof(3)', 'SELECT phi.consistency_proof(64, 128)', 'SELECT phi.check_inclusion(0, 1, ''x'', ''{}'', ''x'')', 'SELECT phi.check_consistency(0, 1, ''{}'', ''x'', ''x'')']) call;

-- A log that was tampered with proves nothing false.
SELECT lives_ok('SELECT phi.inclusion_proof(leaf # 200) FROM unnest(ARRAY[70, 4100]::bigint[]) leaf', 'proofs before');
UPDATE phi.audit_leaf SET hashes = overlay(hashes PLACING '\x00' FROM 200) WHERE first_leaf = 64;
SELECT throws_ok('SELECT phi.inclusion_proof(70 # 200)', 'XX001', 'the audit log has no proof of this', 'an altered leaf');
SELECT throws_ok('SELECT phi.consistency_proof(65, 100)', 'XX001', 'the audit log has no proof of this', 'of an altered leaf');
SELECT lives_ok('SELECT phi.inclusion_proof(4100 # 200)', 'others have theirs still');
DELETE FROM phi.audit_node WHERE level = 12;
SELECT throws_ok('SELECT phi.inclusion_proof(4100 # 200)', 'XX001', 'the audit log has no proof of this', 'a missing node');
UPDATE phi.audit_leaf SET ids = ids[1:10], hashes = substr(hashes, 1, 320) WHERE first_leaf = 64;
SELECT throws_ok('SELECT phi.inclusion_proof(66 # 200)', 'XX001', 'the audit log has no proof of this', 'missing leaves');
SELECT throws_ok('SELECT phi.inclusion_proof(80 # 200)', '42704', NULL, 'and a record of them');
SELECT * FROM finish();
ROLLBACK;
