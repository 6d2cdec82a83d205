CREATE FUNCTION phi.key_values(key_ids int[])
  RETURNS TABLE (key_id int, place text, "values" bigint)
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT v.key_id, format('%s column %I', v.relation, v.column), v."values"
  FROM phi.count_values() v WHERE v.key_id = ANY (key_ids) AND v."values" > 0
  UNION ALL
  SELECT v.key_id, v.object, v."values"
  FROM phi.stored_constants() v WHERE v.key_id = ANY (key_ids) AND v."values" > 0;
END;
REVOKE EXECUTE ON FUNCTION phi.key_values(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.key_values(int[]) IS
  'Where values of these keys are stored, and how many; key 0 stands for values that name no known key; reads the whole database; internal';

CREATE FUNCTION phi.require_no_foreign_temp_tables() RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found text;
BEGIN
  SELECT string_agg(format('process %s has %s', t.pid, t.relation), ', ') INTO found
  FROM (SELECT * FROM phi.foreign_temp_tables() LIMIT 5) t;
  IF found IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use',
      MESSAGE = 'temporary tables of other sessions have encrypted columns',
      DETAIL = format('Nobody else can read them: %s.', found),
      HINT = 'End these sessions, or wait for their end: SELECT pg_terminate_backend(pid).';
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_no_foreign_temp_tables() FROM PUBLIC;
COMMENT ON FUNCTION phi.require_no_foreign_temp_tables() IS
  'ERROR 55006 when another session has a temporary table whose values cannot be counted; internal';

CREATE FUNCTION phi.require_unused(key_ids int[]) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  used record;
BEGIN
  SELECT max(v.key_id) AS key_id, max(v.key_id) FILTER (WHERE v.key_id > 0) AS named, sum(v."values") AS n,
         string_agg(format('%s: %s%s', v.place, v."values",
                           CASE WHEN v.key_id = 0 THEN ' malformed or of no known key' END), '; ' ORDER BY v."values" DESC)
           FILTER (WHERE v.place_no <= 5) AS places
  INTO used
  FROM (SELECT k.*, row_number() OVER (ORDER BY k."values" DESC) AS place_no FROM phi.key_values(0 || key_ids) k) v;
  IF used.key_id IS NULL THEN
    RETURN;
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'object_in_use',
    MESSAGE = CASE WHEN used.named IS NULL THEN 'values that name no known key may be of the key to be destroyed'
                   ELSE format('key %s is still in use', used.named) END,
    DETAIL = format('%s values: %s.', used.n, used.places),
    HINT = CASE WHEN used.named IS NULL THEN 'Restore or delete these values.'
                WHEN EXISTS (SELECT FROM phi.rekey_failure f WHERE f.key_id = used.named)
                  THEN format('CALL phi.rekey(key_id => %s). Values that could not be re-encrypted before are in phi.rekey_failures: restore or delete them.', used.named)
                ELSE format('CALL phi.rekey(key_id => %s)', used.named) END;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_unused(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_unused(int[]) IS
  'ERROR 55006 when the database holds a value of one of the keys, or one that cannot be attributed; reads it all; internal';

CREATE FUNCTION phi.require_no_copies(key_ids int[]) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found regclass;
BEGIN
  SELECT i INTO found FROM phi.indexes_of_keys(key_ids) i LIMIT 1;
  IF found IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use',
      MESSAGE = format('index %s holds values of keys that are to be destroyed', found),
      DETAIL = 'They are of dead rows, or lead to others: searches compare them.',
      HINT = format('REINDEX INDEX CONCURRENTLY %s, then again.', found);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_no_copies(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_no_copies(int[]) IS
  'ERROR 55006 when an index for equality holds a value of one of the keys; internal';

/*
 * Who encrypts under the keys has ended before the first count. Who has read
 * values of theirs before it may store a copy, and has ended before the second.
 * Copies may be handed on from one transaction to the next; but who stores a
 * value of a key that is not active locks phi.key_use first, and looks at the
 * key's state then. So the last count is made, and the key destroyed, under the
 * other side of that lock.
 */
CREATE FUNCTION phi.prove_unused(key_ids int[]) RETURNS text
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  data_keys int[] := ARRAY(SELECT k.key_id FROM phi.data_key k WHERE k.key_id IN (SELECT unnest(key_ids)) AND k.class >= 0);
  first_count timestamptz;
  waited timestamptz;
BEGIN
  IF data_keys = '{}' THEN
    RETURN 'search key: no value names it; all hash indexes were built anew with its successor when it left use';
  END IF;
  PERFORM phi.require_no_foreign_temp_tables();
  PERFORM phi.wait_for_writers();
  first_count := clock_timestamp();
  PERFORM phi.require_unused(data_keys);
  PERFORM phi.wait_for_readers();
  LOCK TABLE phi.key_use IN EXCLUSIVE MODE;
  /* If somebody must give way now, it is not an application. */
  PERFORM set_config('deadlock_timeout', '10ms', true);
  waited := clock_timestamp();
  PERFORM phi.require_unused(data_keys);
  PERFORM phi.require_no_copies(data_keys);
  PERFORM phi.require_no_foreign_temp_tables();
  RETURN format('no stored value names the key: first count at %s, after the last possible writer had ended; second count at %s, after all transactions had ended that could have read a value before',
                phi.utc(first_count), phi.utc(waited));
END $$;
REVOKE EXECUTE ON FUNCTION phi.prove_unused(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.prove_unused(int[]) IS
  'Proves that no value needs the keys, and returns the proof; waits for other transactions and reads the whole database twice; ERROR 55006 otherwise; internal';

CREATE FUNCTION phi.require_destroyable(key_ids int[]) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  k phi.data_key;
BEGIN
  PERFORM phi.require_read_committed();
  /* One at a time: two would wait for each other as for writers. */
  LOCK TABLE phi.destruction_certificate IN SHARE ROW EXCLUSIVE MODE;
  SELECT * INTO k FROM phi.data_key d
  WHERE d.key_id IN (SELECT unnest(key_ids)) AND d.state NOT IN ('retired', 'compromised') LIMIT 1;
  IF k.state = 'destroyed' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('key %s is destroyed already', k.key_id),
      HINT = 'The view phi.destruction_certificates says when and by whom.';
  ELSIF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('key %s is active', k.key_id),
      DETAIL = 'New values are encrypted with it.',
      HINT = CASE WHEN k.class < 0 THEN 'Rotate it first with phi.rotate_search_key().'
                  ELSE 'Rotate it first with phi.rotate_key(), and re-encrypt its values with CALL phi.rekey().' END;
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_destroyable(int[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_destroyable(int[]) IS
  'Keeps others from destroying keys meanwhile; ERROR 55000 when one of these is active or destroyed. Their rows are not locked: what follows waits for others; internal';

CREATE FUNCTION phi.destroy_keys(key_ids int[], shred boolean, reason text, for_job phi.rekey_job DEFAULT NULL) RETURNS int[]
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  proof text;
  lost record;
  certificates int[] := '{}';
BEGIN
  PERFORM phi.require_destroyable(key_ids);
  IF shred THEN
    PERFORM phi.wait_for_writers();
    proof := format('no proof was asked for: values counted at %s became unreadable', phi.utc(clock_timestamp()));
  ELSE
    proof := phi.prove_unused(key_ids);
  END IF;
  PERFORM phi.move_keys(key_ids, 'destroyed', reason);
  FOR lost IN
    SELECT k.key_id, k.clinic_id, coalesce(v.n, 0) AS n
    FROM phi.data_key k LEFT JOIN (
      SELECT c.key_id, sum(c."values")::bigint AS n
      FROM phi.key_values(CASE WHEN shred THEN key_ids ELSE '{}' END) c GROUP BY c.key_id) v USING (key_id)
    WHERE k.key_id IN (SELECT unnest(key_ids)) ORDER BY k.key_id
  LOOP
    certificates := certificates || phi.certify('key', lost.clinic_id, lost.key_id, lost.n, proof, reason, for_job);
  END LOOP;
  DELETE FROM phi.key_use u WHERE u.key_id IN (SELECT unnest(key_ids));
  /* What nobody can read has another place in these. */
  IF shred THEN
    PERFORM phi.rebuild_search_index(i::regclass) FROM phi.indexes_of_keys(key_ids) i;
  END IF;
  RETURN certificates;
END $$;
REVOKE EXECUTE ON FUNCTION phi.destroy_keys(int[], boolean, text, phi.rekey_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.destroy_keys(int[], boolean, text, phi.rekey_job) IS
  'Destroys keys, with one proof for all that no value needs them unless they are shredded, and returns the certificates; for_job: the job that does it for whoever started it; internal';

CREATE FUNCTION phi.destroy_key(key_id int, shred boolean DEFAULT false) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF key_id IS NULL OR shred IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed',
      MESSAGE = format('%s must not be null', CASE WHEN key_id IS NULL THEN 'the key' ELSE 'shred' END);
  END IF;
  IF NOT EXISTS (SELECT FROM phi.data_key k WHERE k.key_id = destroy_key.key_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('key %s does not exist', key_id),
      HINT = 'The view phi.keys lists the keys.';
  END IF;
  IF (SELECT k.class FROM phi.data_key k WHERE k.key_id = destroy_key.key_id) < -1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('key %s is one of the audit log', key_id),
      DETAIL = 'What it has signed or digested is checked with it.',
      HINT = 'Digest keys of a clinic are destroyed with phi.shred_clinic().';
  END IF;
  PERFORM phi.require_destroyable(ARRAY[key_id]);
  IF NOT phi.cleared('destroy_key', jsonb_build_object('key_id', key_id, 'shred', shred)) THEN
    RETURN NULL;
  END IF;
  RETURN (phi.destroy_keys(ARRAY[key_id], shred, CASE WHEN shred THEN 'shredded' ELSE 'no longer needed' END))[1];
END $$;
REVOKE EXECUTE ON FUNCTION phi.destroy_key(int, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.destroy_key(int, boolean) TO phi_custodian;
COMMENT ON FUNCTION phi.destroy_key(int, boolean) IS
  'Destroys a retired or compromised key and returns the number of its certificate; NULL when it waits for phi.approve(). Waits for other transactions and reads the whole database twice to prove that no value needs the key: ERROR 55006 otherwise. With shred the values are only counted, and become unreadable. ERROR 42704 unknown key, 55000 active or destroyed, 25001 not read committed. The wrapped key stays in dead rows, WAL and backups until these are gone';
