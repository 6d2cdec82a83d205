/* audit/verify.c */
CREATE FUNCTION phi.audit_tree(sizes bigint[], OUT level smallint, OUT index bigint, OUT hash bytea) RETURNS SETOF record
  AS 'MODULE_PATHNAME', 'phi_audit_tree' LANGUAGE C STABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.audit_tree(bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.audit_tree(bigint[]) TO phi_auditor;
COMMENT ON FUNCTION phi.audit_tree(bigint[]) IS
  'The tree as phi.audit_leaf makes it: hashes that phi.audit_node should have, and as level 0 the root of the first "index" leaves for each of the sizes that there is';

CREATE FUNCTION phi.check_audit_note(note text, verifiers text[], OUT signed boolean, OUT origin text, OUT size bigint, OUT root bytea)
  AS 'MODULE_PATHNAME', 'phi_check_audit_note' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.check_audit_note(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.check_audit_note(text, text[]) TO phi_auditor;
COMMENT ON FUNCTION phi.check_audit_note(text, text[]) IS
  'Reads a checkpoint (C2SP tlog-checkpoint) and tells whether one of the verifier keys signed it; NULLs for what is no checkpoint';

/* Leaves [from_leaf, to_leaf) against their records. */
CREATE FUNCTION phi.compare_audit_records(from_leaf bigint, to_leaf bigint)
  RETURNS TABLE (fault text, leaf bigint, record_id bigint, detail text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
  WITH leaf AS (
    SELECT k.first_leaf + u.o - 1 AS leaf, u.id, substr(k.hashes, (32 * u.o - 31)::int, 32) AS hash
    FROM phi.audit_leaf k, unnest(k.ids) WITH ORDINALITY u(id, o)
    WHERE k.first_leaf < to_leaf AND k.first_leaf + 63 >= from_leaf
  ), leaves AS (
    SELECT leaf.*, count(*) OVER (PARTITION BY leaf.id) AS times FROM leaf WHERE leaf.leaf >= from_leaf AND leaf.leaf < to_leaf
  ), span AS (
    /* Whose records these leaves are; all of them when they are all leaves. */
    SELECT min(k.first_xact) AS first, max(k.last_xact) AS last,
           from_leaf <= 0 AND to_leaf >= (SELECT s.size FROM phi.audit_state s) AS whole
    FROM phi.audit_leaf k WHERE k.first_leaf < to_leaf AND k.first_leaf + 63 >= from_leaf
  ), records AS (
    SELECT r.record_id, r.xact, phi.audit_leaf_hash(r) AS hash, count(*) OVER (PARTITION BY r.record_id) AS times
    FROM phi.audit_log r, span s WHERE s.whole OR r.xact BETWEEN s.first AND s.last
  ), elsewhere AS (
    /* Leaves of the same transactions, of which there may be very many. */
    SELECT DISTINCT u.id FROM span s JOIN phi.audit_leaf k ON k.last_xact >= s.first AND k.first_xact <= s.last, unnest(k.ids) u(id)
    WHERE NOT s.whole
  ), kept AS (
    SELECT coalesce(range_agg(m), '{}'::int8multirange) AS retired FROM phi.audit_retired t, unnest(t.leaves) m
  ), compared AS MATERIALIZED (
    SELECT CASE WHEN r.record_id IS NULL THEN 'missing'
                WHEN l.id IS NULL THEN 'inserted'
                WHEN r.times > 1 OR (l.times > 1 AND r.hash = l.hash) THEN 'doubled'
                ELSE 'altered' END AS fault,
           l.leaf, coalesce(l.id, r.record_id) AS record_id, l.hash, l.times
    FROM leaves l FULL JOIN records r ON r.record_id = l.id LEFT JOIN elsewhere e ON e.id = r.record_id
    WHERE (r.record_id IS NULL AND NOT (SELECT retired FROM kept) @> l.leaf)
       OR (l.id IS NULL AND ((SELECT r.xact < s.horizon OR r.record_id < s.first_id FROM phi.audit_state s) OR (r.xact >= pg_snapshot_xmax(pg_current_snapshot())
                AND r.xact IS DISTINCT FROM pg_current_xact_id_if_assigned()))
           AND e.id IS NULL)
       OR (l.id IS NOT NULL AND r.record_id IS NOT NULL AND (r.hash <> l.hash OR r.times > 1 OR l.times > 1))
  ), stored AS (
    SELECT c.record_id, r FROM (SELECT * FROM compared WHERE compared.fault IN ('altered', 'inserted') LIMIT 300) c
    JOIN phi.audit_log r USING (record_id)
  ), expected AS (
    SELECT * FROM compared WHERE compared.fault IN ('altered', 'missing') LIMIT 300
  ), moved AS (
    SELECT s.record_id AS stored_as, e.record_id AS was
    FROM stored s JOIN expected e ON e.record_id <> s.record_id
    WHERE phi.audit_leaf_hash(jsonb_populate_record(s.r, jsonb_build_object('record_id', e.record_id))) = e.hash
  ), last AS (
    SELECT max(l.leaf) AS leaf FROM leaves l JOIN records r ON r.record_id = l.id
  )
  SELECT CASE WHEN m.was IS NOT NULL THEN 'reordered'
              WHEN c.fault = 'missing' AND c.leaf > coalesce((SELECT last.leaf FROM last), -1)
                   AND to_leaf >= (SELECT s.size FROM phi.audit_state s) THEN 'cut off'
              ELSE c.fault END,
         c.leaf, c.record_id,
         CASE WHEN m.was IS NOT NULL THEN format('record %s is stored as %s', m.was, m.stored_as)
              WHEN c.fault = 'doubled' AND c.times > 1 THEN 'several leaves are said to be of this record'
              WHEN c.fault = 'doubled' THEN 'several records have this id' END
  FROM compared c LEFT JOIN moved m ON m.stored_as = c.record_id
  WHERE NOT (c.fault = 'missing' AND EXISTS (SELECT FROM moved WHERE was = c.record_id))
  ORDER BY c.leaf, c.record_id;
$$;
REVOKE EXECUTE ON FUNCTION phi.compare_audit_records(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.compare_audit_records(bigint, bigint) TO phi_auditor;
COMMENT ON FUNCTION phi.compare_audit_records(bigint, bigint) IS
  'Records against the leaves from the first number up to, not including, the second; a part of phi.verify_audit()';

/* The tree against what is stored of it, and against checkpoints. */
CREATE FUNCTION phi.compare_audit_tree(trusted_checkpoint text)
  RETURNS TABLE (fault text, leaf bigint, checkpoint bigint, detail text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
  WITH trusted AS MATERIALIZED (
    SELECT n.* FROM phi.check_audit_note(btrim(trusted_checkpoint, E' \r\n') || E'\n', ARRAY(SELECT verifier FROM phi.audit_signer)) n
    WHERE trusted_checkpoint IS NOT NULL
  ), tree AS MATERIALIZED (
    SELECT * FROM phi.audit_tree(ARRAY(SELECT c.size FROM phi.audit_checkpoint c UNION SELECT t.size FROM trusted t WHERE t.size IS NOT NULL ORDER BY 1))
  ), gaps AS (
    SELECT k.first_leaf, k.first_leaf + cardinality(k.ids) AS next_leaf,
           lag(k.first_leaf + cardinality(k.ids), 1, 0::bigint) OVER (ORDER BY k.first_leaf) AS expected
    FROM phi.audit_leaf k
  ), total AS (
    SELECT coalesce(max(next_leaf), 0) AS leaves FROM gaps
  ), roots AS (
    SELECT c.size, t.hash = c.root AS fits, lag(c.size, 1, 0::bigint) OVER (ORDER BY c.size) AS previous
    FROM phi.audit_checkpoint c LEFT JOIN tree t ON t.level = 0 AND t.index = c.size
  )
  SELECT 'leaves missing', g.expected, NULL::bigint, format('leaves %s to %s are not in phi.audit_leaf', g.expected, g.first_leaf - 1)
  FROM gaps g WHERE g.first_leaf <> g.expected
  UNION ALL
  SELECT 'cut off', t.leaves, NULL::bigint, format('the log had %s leaves', s.size)
  FROM phi.audit_state s, total t WHERE s.size > t.leaves
  UNION ALL
  SELECT 'inserted', s.size, NULL::bigint, format('the log had %s leaves', s.size)
  FROM phi.audit_state s, total t WHERE s.size < t.leaves
  UNION ALL
  SELECT 'node altered', coalesce(n.index, t.index) * (1::bigint << coalesce(n.level, t.level)), NULL::bigint,
         format('phi.audit_node, level %s, index %s', coalesce(n.level, t.level), coalesce(n.index, t.index))
  FROM phi.audit_node n FULL JOIN (SELECT * FROM tree WHERE tree.level > 0) t ON (t.level, t.index) = (n.level, n.index)
  WHERE (n.hash = t.hash) IS NOT TRUE
  UNION ALL
  SELECT 'checkpoint', r.previous, r.size, format('its root is not that of the first %s leaves', r.size)
  FROM roots r WHERE r.fits IS NOT TRUE
  UNION ALL
  SELECT 'cut off', t.leaves, n.size, format('the trusted checkpoint has %s leaves', n.size)
  FROM trusted n, total t WHERE n.size > t.leaves
  UNION ALL
  SELECT 'checkpoint', NULL::bigint, n.size, CASE
    WHEN n.size IS NULL THEN 'the trusted checkpoint is not a checkpoint'
    WHEN NOT n.signed THEN 'the trusted checkpoint is not signed by a key of this log'
    ELSE format('the first %s leaves are not those of the trusted checkpoint', n.size) END
  FROM trusted n
  WHERE n.size IS NULL OR NOT n.signed
     OR (n.size <= (SELECT leaves FROM total) AND NOT EXISTS (SELECT FROM tree t WHERE t.level = 0 AND t.index = n.size AND t.hash = n.root));
$$;
REVOKE EXECUTE ON FUNCTION phi.compare_audit_tree(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.compare_audit_tree(text) TO phi_auditor;
COMMENT ON FUNCTION phi.compare_audit_tree(text) IS
  'The leaves against inner nodes, state and roots of checkpoints; a part of phi.verify_audit()';

CREATE FUNCTION phi.verify_audit(from_leaf bigint DEFAULT 0, to_leaf bigint DEFAULT NULL, trusted_checkpoint text DEFAULT NULL)
  RETURNS TABLE (fault text, leaf bigint, record_id bigint, checkpoint bigint, detail text)
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  first bigint := greatest(from_leaf, 0);
  past bigint := coalesce(to_leaf, 9223372036854775807);
BEGIN
  IF first > past THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = format('leaf %s is not before leaf %s', from_leaf, to_leaf);
  END IF;
  /* First, for months that are retired while we wait are gone, and then it must be seen why. */
  LOCK TABLE phi.audit_log IN ACCESS SHARE MODE;
  RETURN QUERY SELECT c.fault, c.leaf, c.record_id, NULL::bigint, c.detail
    FROM phi.compare_audit_records(first, past) c;
  RETURN QUERY SELECT c.fault, c.leaf, NULL::bigint, c.checkpoint, c.detail
    FROM phi.compare_audit_tree(trusted_checkpoint) c;
  RETURN QUERY SELECT c.fault, c.leaf, NULL::bigint, NULL::bigint, c.detail
    FROM phi.compare_audit_retired() c;
  RETURN QUERY SELECT 'checkpoint', NULL::bigint, NULL::bigint, c.size, CASE
      WHEN n.size IS NULL THEN 'its note is not a checkpoint'
      WHEN NOT n.signed THEN 'its signature is not one of this log''s keys'
      ELSE 'its note is of another size or root' END
    FROM phi.audit_checkpoint c,
         phi.check_audit_note(c.note, ARRAY(SELECT verifier FROM phi.audit_signer)) n
    WHERE c.size >= first AND c.size <= past AND (n.signed AND n.size = c.size AND n.root = c.root) IS NOT TRUE
    ORDER BY c.size;
END $$;
REVOKE EXECUTE ON FUNCTION phi.verify_audit(bigint, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.verify_audit(bigint, bigint, text) TO phi_auditor;
COMMENT ON FUNCTION phi.verify_audit(bigint, bigint, text) IS
  'Verifies the audit log and returns a row for each fault, none if it verifies: records (altered, missing, inserted, doubled, reordered, cut off) of the leaves from the first number up to, not including, the second, default all; always the whole tree, retirements, checkpoints of these sizes, and a checkpoint that was kept elsewhere. Records that are not sequenced yet are not judged';
