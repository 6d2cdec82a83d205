CREATE TABLE phi.audit_retired (
  leaves      int8multirange PRIMARY KEY,
  from_at     timestamptz NOT NULL,
  to_at       timestamptz NOT NULL,
  records     bigint NOT NULL,
  root        bytea NOT NULL CHECK (length(root) = 32),
  note        text NOT NULL,
  retired_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  retired_by  name NOT NULL
);
GRANT SELECT ON phi.audit_retired TO phi_auditor;
COMMENT ON TABLE phi.audit_retired IS
  'Leaves whose records were exported and removed with phi.retire_audit(), the root of a tree of just these leaves, and the signed note of it';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_retired', '');
SELECT phi.guard_audit_table('phi.audit_retired'), phi.guard_audit_rows('phi.audit_retired');

CREATE FUNCTION phi.root_of_leaves(leaves int8multirange) RETURNS bytea
  AS 'MODULE_PATHNAME', 'phi_root_of_leaves' LANGUAGE C STABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.root_of_leaves(int8multirange) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.root_of_leaves(int8multirange) TO phi_auditor;
COMMENT ON FUNCTION phi.root_of_leaves(int8multirange) IS
  'Root of a Merkle tree of just these leaves, in their order, as phi-verify prints it of an export';

/* What was retired is missed by nobody: so whoever claims it must show the note. */
CREATE FUNCTION phi.compare_audit_retired() RETURNS TABLE (fault text, leaf bigint, detail text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 'retirement', lower(r.leaves), CASE
    WHEN NOT n.signed THEN 'its signature is not one of this log''s keys'
    WHEN r.root <> phi.root_of_leaves(r.leaves) THEN 'its root is not that of these leaves'
    ELSE 'its note is of other leaves or of another root' END
  FROM phi.audit_retired r,
       phi.check_audit_note(r.note, ARRAY(SELECT verifier FROM phi.audit_signer)) n,
       string_to_array(r.note, E'\n') line
  WHERE (n.signed AND r.root = phi.root_of_leaves(r.leaves)
         AND line[1] IN (SELECT split_part(s.verifier, '+', 1) || '/retired' FROM phi.audit_signer s)
         AND line[2:4] = ARRAY[r.leaves::text, encode(r.root, 'base64'), '']) IS NOT TRUE
  ORDER BY 2;
END;
REVOKE EXECUTE ON FUNCTION phi.compare_audit_retired() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.compare_audit_retired() TO phi_auditor;
COMMENT ON FUNCTION phi.compare_audit_retired() IS
  'Retired leaves against their signed notes; a part of phi.verify_audit()';

/* By the bounds, not by the name: the default partition has none. In their one spelling that is read back as it was. */
CREATE FUNCTION phi.audit_partitions(before timestamptz, OUT partition regclass, OUT from_at timestamptz, OUT to_at timestamptz) RETURNS SETOF record
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC'
BEGIN ATOMIC
  SELECT c.oid::regclass, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
       regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$^FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)$$re$) b (bounds)
  WHERE i.inhparent = 'phi.audit_log'::regclass AND b.bounds[2]::timestamptz <= audit_partitions.before
  ORDER BY 2;
END;
REVOKE EXECUTE ON FUNCTION phi.audit_partitions(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION phi.audit_partitions(timestamptz) IS
  'Partitions of the log that end before a time, and their bounds; internal to phi.retire_audit()';

CREATE FUNCTION phi.leaves_of_partitions(partitions text[], OUT records bigint, OUT leaves int8multirange)
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  covered bigint;
BEGIN
  WITH record AS MATERIALIZED (
    SELECT r.record_id, r.xact FROM phi.audit_log r WHERE r.tableoid = ANY (partitions::regclass[])
  ), xacts AS (
    SELECT min(r.xact) AS first, max(r.xact) AS last FROM record r
  ), leaf AS (
    SELECT k.first_leaf + u.o - 1 AS leaf
    FROM xacts x JOIN phi.audit_leaf k ON k.last_xact >= x.first AND k.first_xact <= x.last, unnest(k.ids) WITH ORDINALITY u(id, o)
    WHERE u.id IN (SELECT r.record_id FROM record r)
      AND k.first_leaf + u.o <= (SELECT max(c.size) FROM phi.audit_checkpoint c)
  ), run AS (
    SELECT int8range(min(l.leaf), max(l.leaf) + 1) AS leaves, count(*) AS n
    FROM (SELECT leaf.leaf, leaf.leaf - row_number() OVER (ORDER BY leaf.leaf) AS island FROM leaf) l GROUP BY l.island
  )
  SELECT (SELECT count(*) FROM record), coalesce(range_agg(run.leaves), '{}'), coalesce(sum(run.n), 0)
  INTO records, leaves, covered FROM run;
  IF covered <> records THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s records of these months have %s leaves that a checkpoint covers', records, covered),
      HINT = 'Wait until the worker has made a checkpoint, and verify the log with phi.verify_audit().';
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.leaves_of_partitions(text[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.leaves_of_partitions(text[]) IS
  'How many records there are in partitions, and their leaves; ERROR 55000 unless each has its leaf and a checkpoint covers it; internal to phi.retire_audit()';

CREATE FUNCTION phi.check_exported_root(leaves int8multirange, exported_root text) RETURNS bytea
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  root bytea := phi.root_of_leaves(leaves);
BEGIN
  IF lower(exported_root) <> encode(root, 'hex') AND exported_root <> encode(root, 'base64') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'this is not the root of these records',
      DETAIL = 'Either other records were exported, or what is stored was altered.',
      HINT = 'Export these months again, verify the export with phi-verify, and give the subtree root that it prints; verify the log with phi.verify_audit().';
  END IF;
  RETURN root;
END $$;
REVOKE EXECUTE ON FUNCTION phi.check_exported_root(int8multirange, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.check_exported_root(int8multirange, text) IS
  'The root of a tree of just these leaves; ERROR 22023 unless it is the one given, in hex or base64; internal to phi.retire_audit()';

CREATE FUNCTION phi.retire_audit(before timestamptz, exported_root text DEFAULT NULL,
                                 OUT partitions text[], OUT records bigint, OUT leaves int8multirange, OUT retired boolean)
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
  since timestamptz;
  until timestamptz;
  subtree bytea;
  relation text;
BEGIN
  IF (before <= now()) IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'the time before which records are retired must be in the past';
  END IF;
  PERFORM phi.require_read_committed();
  /* One at a time. */
  LOCK TABLE phi.audit_retired IN SHARE ROW EXCLUSIVE MODE;
  SELECT coalesce(array_agg(p.partition::text ORDER BY p.from_at), '{}'), min(p.from_at), max(p.to_at) INTO partitions, since, until
  FROM phi.audit_partitions(before) p;
  /* Whoever wrote a record there has ended, and is seen by what follows. */
  IF exported_root IS NOT NULL THEN
    FOREACH relation IN ARRAY partitions LOOP
      EXECUTE format('LOCK TABLE %s IN SHARE MODE', relation);
    END LOOP;
  END IF;
  SELECT l.records, l.leaves INTO records, leaves FROM phi.leaves_of_partitions(partitions) l;
  retired := false;
  IF exported_root IS NULL OR cardinality(partitions) = 0 THEN
    RETURN;
  END IF;
  subtree := phi.check_exported_root(leaves, exported_root);
  IF NOT phi.cleared('retire_audit', jsonb_build_object('before', to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                                                         'root', encode(subtree, 'hex'))) THEN
    RETURN;
  END IF;
  /* Months without records leave nothing to account for. */
  IF records > 0 THEN
    INSERT INTO phi.audit_retired (leaves, from_at, to_at, records, root, note, retired_by)
    SELECT retire_audit.leaves, since, until, retire_audit.records, subtree,
           phi.sign_audit_note(format(E'%s/retired\n%s\n%s\n', s.origin, retire_audit.leaves, encode(subtree, 'base64'))), phi.login_name()
    FROM phi.audit_state s;
  END IF;
  PERFORM phi.note_audit_event('RETIRE', 'phi.audit_log', format('%s records of %s to %s, root %s', records, since, until, encode(subtree, 'base64')));
  FOREACH relation IN ARRAY partitions LOOP
    EXECUTE format('DROP TABLE %s', relation);
  END LOOP;
  retired := true;
END $$;
REVOKE EXECUTE ON FUNCTION phi.retire_audit(timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.retire_audit(timestamptz, text) TO phi_custodian;
COMMENT ON FUNCTION phi.retire_audit(timestamptz, text) IS
  'Removes the whole months of the audit log that end before a time, once they are exported: exported_root is the subtree root that phi-verify prints of the export; without it nothing is done but told which partitions, records and leaves it concerns. Leaf hashes stay, so the log still verifies. With phi.require_approval a second custodian must approve. ERROR 22023 the root is another, 55000 records without a checkpoint, 55P03 somebody reads or writes these months, 25001 in a transaction of another isolation level than read committed';
