CREATE FUNCTION phi.search_indexes(OUT index oid, OUT relation oid) RETURNS SETOF record
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT i.indexrelid, i.indrelid
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
       CROSS JOIN unnest(i.indclass::oid[]) opclass
       JOIN pg_opclass o ON o.oid = opclass
       JOIN pg_opfamily f ON f.oid = o.opcfamily
       JOIN pg_am am ON am.oid = o.opcmethod
       JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = o.opcintype
                       AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
       JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_phi'
  WHERE am.amname = 'hash' OR am.amname = 'btree' AND f.opfname LIKE '%\_unique\_ops';
END;
REVOKE EXECUTE ON FUNCTION phi.search_indexes() FROM PUBLIC;
COMMENT ON FUNCTION phi.search_indexes() IS
  'Indexes by the keyed PRF of encrypted values, also of partitions and exclusion constraints; internal';

CREATE FUNCTION phi.index_names_keys(index oid, key_ids int[]) RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_index_names_keys' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.index_names_keys(oid, int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.index_names_keys(oid, int[]) IS
  'Whether any page of a btree index holds a value of one of the keys, be it of a dead row; NULL for what is no such index; internal';

CREATE FUNCTION phi.indexes_of_keys(key_ids int[]) RETURNS SETOF oid
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.index FROM phi.search_indexes() s JOIN pg_class c ON c.oid = s.index
  WHERE (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema()) AND phi.index_names_keys(s.index, key_ids)
  ORDER BY 1;
END;
REVOKE EXECUTE ON FUNCTION phi.indexes_of_keys(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.indexes_of_keys(int[]) IS
  'Indexes for equality with values of the keys in them, be it of dead rows; reads them all; internal';

CREATE FUNCTION phi.encrypted_relations() RETURNS SETOF oid
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT p.relation::oid FROM phi.protected_columns p
  UNION SELECT s.relation FROM phi.search_indexes() s;
END;
REVOKE EXECUTE ON FUNCTION phi.encrypted_relations() FROM PUBLIC;
COMMENT ON FUNCTION phi.encrypted_relations() IS
  'Tables and materialized views with encrypted columns, or indexes by their keyed PRF; internal';

/*
 * A search meets the old index with the old key or the new one with the new key,
 * nothing between: who searches waits for the locks, and notices the new key
 * when it gets them. Locks are taken in the order of OIDs.
 */
CREATE FUNCTION phi.lock_search_tables() RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found regclass;
BEGIN
  /* First what keeps indexes from being added meanwhile, */
  FOR found IN SELECT o FROM phi.encrypted_relations() o JOIN pg_class c ON c.oid = o
               WHERE c.relkind IN ('r', 'p') AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
               ORDER BY o LOOP
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', found);
  END LOOP;
  /* then everybody from those that have one. */
  FOR found IN SELECT DISTINCT s.relation FROM phi.search_indexes() s JOIN pg_class c ON c.oid = s.relation
               WHERE c.relkind = 'r' ORDER BY 1 LOOP
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', found);
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.lock_search_tables() FROM PUBLIC;
COMMENT ON FUNCTION phi.lock_search_tables() IS
  'Locks every table that is searched by the clinics'' search keys, to the end of the transaction; for phi.lock_search';

/*
 * Applications lock the same tables in an order of their own. So whoever waits
 * here lets go of everything before the server looks for a deadlock, which it
 * might end by cancelling the application, and tries again.
 */
CREATE FUNCTION phi.lock_search() RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  own_timeout text := current_setting('lock_timeout');
  patience interval := nullif(own_timeout::interval, '0');
  begun timestamptz := clock_timestamp();
  reason text;
BEGIN
  IF EXISTS (SELECT FROM phi.search_indexes() s JOIN pg_class c ON c.oid = s.relation
             WHERE c.relpersistence = 't' AND c.relnamespace <> pg_my_temp_schema()) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use',
      MESSAGE = 'temporary tables of other sessions have hash indexes on encrypted columns',
      DETAIL = (SELECT string_agg(format('Process %s: %s.', t.pid, t.relation), ' ') FROM phi.foreign_temp_tables() t),
      HINT = 'End these sessions: their indexes cannot be built anew.';
  END IF;
  FOR attempt IN 1 .. 60 LOOP
    BEGIN
      PERFORM set_config('lock_timeout', '200ms', true);
      PERFORM phi.lock_search_tables();
      PERFORM set_config('lock_timeout', own_timeout, true);
      RETURN;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_CONTEXT;
      EXIT WHEN clock_timestamp() - begun > patience;
      PERFORM pg_sleep(0.1 + 0.9 * random());
    END;
  END LOOP;
  RAISE EXCEPTION USING
    ERRCODE = 'lock_not_available',
    MESSAGE = 'could not lock all tables that have hash indexes on encrypted columns',
    DETAIL = format('Others were at work with them for %s seconds, last with the one of %s.',
                    round(extract(epoch FROM clock_timestamp() - begun)), substring(reason FROM 'LOCK TABLE ONLY ([^\n]+) IN ')),
    HINT = 'Nothing was changed. Try again when no long transaction is open, or end those that are: see pg_stat_activity.';
END $$;
REVOKE EXECUTE ON FUNCTION phi.lock_search() FROM PUBLIC;
COMMENT ON FUNCTION phi.lock_search() IS
  'Locks every table that is searched by the clinics'' search keys, to the end of the transaction, without ever waiting for one while others wait for long; tries for about a minute, or as long as lock_timeout says; ERROR 55P03 in vain, 55006 when another session has such a temporary table; internal';

CREATE FUNCTION phi.invalidate_index(index oid) RETURNS void
  AS 'MODULE_PATHNAME', 'phi_invalidate_index' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.invalidate_index(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.invalidate_index(oid) IS
  'Has no query use an index any more until it is built anew; its table must be locked; internal';

/* An index may have functions of its owner's, and they may do anything. */
CREATE FUNCTION phi.rebuild_search_index(index regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  why text;
BEGIN
  EXECUTE format('REINDEX INDEX %s', index);
EXCEPTION WHEN OTHERS THEN
  /* Then no index can be built, and all goes back. */
  IF (SELECT s.sealed FROM phi.seal_status() s) THEN
    RAISE;
  END IF;
  GET STACKED DIAGNOSTICS why = MESSAGE_TEXT;
  PERFORM phi.invalidate_index(index);
  RAISE WARNING USING
    MESSAGE = format('index %s on table %s could not be built anew', index,
                     (SELECT i.indrelid::regclass FROM pg_index i WHERE i.indexrelid = index)),
    DETAIL = format('It is invalid now, and no query uses it. The error was: %s', why),
    HINT = format('Remove the cause, then run REINDEX INDEX %s, or drop the index.', index);
END $$;
REVOKE EXECUTE ON FUNCTION phi.rebuild_search_index(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.rebuild_search_index(regclass) IS
  'Builds a hash index anew with the search keys of now; WARNING when that fails: the index is then invalid; internal';

CREATE FUNCTION phi.replace_search_keys(clinics int[], to_state text, reason text) RETURNS int[]
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  new_keys int[];
  found regclass;
BEGIN
  PERFORM phi.require_read_committed();
  PERFORM phi.lock_search();
  PERFORM FROM phi.clinic c WHERE c.clinic_id IN (SELECT unnest(clinics)) ORDER BY c.clinic_id FOR NO KEY UPDATE;
  PERFORM phi.move_keys(ARRAY(SELECT k.key_id FROM phi.data_key k
                              WHERE k.clinic_id IN (SELECT unnest(clinics)) AND k.class = -1 AND k.state = 'active'),
                        to_state, reason);
  new_keys := ARRAY(SELECT phi.add_key(of_clinic, -1::smallint,
                                       coalesce((SELECT max(k.version) FROM phi.data_key k
                                                 WHERE (k.clinic_id, k.class) = (of_clinic, -1)), 0) + 1, reason)
                    FROM unnest(clinics) of_clinic);
  FOR found IN SELECT s.index FROM phi.search_indexes() s ORDER BY 1 LOOP
    PERFORM phi.rebuild_search_index(found);
  END LOOP;
  RETURN new_keys;
END $$;
REVOKE EXECUTE ON FUNCTION phi.replace_search_keys(int[], text, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.replace_search_keys(int[], text, text) IS
  'Moves the clinics'' active search keys to a state, gives each clinic a new one, and builds all hash indexes anew; returns the new ids; internal';

CREATE FUNCTION phi.rotate_search_key(clinic text) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF clinic IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed',
      MESSAGE = 'the clinic must not be null';
  END IF;
  RETURN (phi.replace_search_keys(ARRAY[phi.clinic_id(clinic)], 'retired', 'rotated'))[1];
END $$;
REVOKE EXECUTE ON FUNCTION phi.rotate_search_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.rotate_search_key(text) TO phi_custodian;
COMMENT ON FUNCTION phi.rotate_search_key(text) IS
  'Gives a clinic a new search key, builds all hash indexes on encrypted columns anew, and returns the key''s id. Tables with such indexes are locked until the transaction ends: it takes the time of a REINDEX of them all. ERROR 55P03 when they cannot be locked for a minute; WARNING for an index that cannot be built, which is invalid then';

CREATE FUNCTION phi.count_key_values()
  RETURNS TABLE (key_id int, clinic text, class text, version int, state text, "values" bigint)
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  begun timestamptz := clock_timestamp();
  stray bigint;
BEGIN
  WITH found AS (
    SELECT v.key_id, sum(v."values")::bigint AS n
    FROM (SELECT key_id, "values" FROM phi.count_values() UNION ALL
          SELECT key_id, "values" FROM phi.stored_constants()) v GROUP BY v.key_id
  ), kept AS (
    INSERT INTO phi.key_use AS u (key_id, "values", counted_at)
    SELECT k.key_id, coalesce(found.n, 0), begun
    FROM phi.data_key k LEFT JOIN found USING (key_id) WHERE k.class >= 0
    ON CONFLICT (key_id) DO UPDATE SET "values" = excluded."values", counted_at = excluded.counted_at
  )
  SELECT found.n INTO stray FROM found WHERE found.key_id = 0;
  IF stray > 0 THEN
    RAISE WARNING USING
      ERRCODE = 'data_corrupted',
      MESSAGE = format('%s stored values are malformed or name a key that is not known', stray),
      HINT = 'SELECT * FROM phi.count_values() WHERE key_id = 0 lists where, for a superuser. No key can be destroyed without shred before they are restored or removed.';
  END IF;
  RETURN QUERY
    SELECT k.key_id, c.code::text, phi.class_name(k.class), k.version, k.state, u."values"
    FROM phi.key_use u JOIN phi.data_key k USING (key_id) JOIN phi.clinic c USING (clinic_id)
    WHERE u.counted_at = begun ORDER BY k.key_id;
END $$;
REVOKE EXECUTE ON FUNCTION phi.count_key_values() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.count_key_values() TO phi_custodian;
COMMENT ON FUNCTION phi.count_key_values() IS
  'Counts the stored values of every data key by reading all encrypted columns of the database; phi.keys shows the result as known_values. WARNING XX001 when values name no key that is known';
