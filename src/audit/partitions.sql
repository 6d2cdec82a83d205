CREATE FUNCTION phi.remove_moved_records(first timestamptz, past timestamptz) RETURNS bigint
  AS 'MODULE_PATHNAME', 'phi_remove_moved_records' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.remove_moved_records(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION phi.remove_moved_records(timestamptz, timestamptz) IS
  'Removes the records of these times from phi.audit_log_default, below the executor, and returns their number; internal to phi.move_records';

/*
 * No record is lost: who counts others than were copied has seen somebody at work.
 * Nor does a query miss one that was planned without the new partition: it waits
 * for us, or we for it. Only who looks from an older snapshot, and at a range of
 * times for which the default partition is left out, sees them in neither.
 */
CREATE FUNCTION phi.move_records(partition regclass, first timestamptz, past timestamptz) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moved bigint;
BEGIN
  EXECUTE format('INSERT INTO %s SELECT * FROM ONLY phi.audit_log_default d WHERE d.at >= $1 AND d.at < $2', partition)
    USING first, past;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved > 0 AND phi.remove_moved_records(first, past) <> moved THEN
    RAISE EXCEPTION USING
      ERRCODE = 'serialization_failure',
      MESSAGE = 'records of phi.audit_log_default changed while they were moved';
  END IF;
  IF moved > 0 THEN
    LOCK TABLE ONLY phi.audit_log IN ACCESS EXCLUSIVE MODE NOWAIT;
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.move_records(regclass, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION phi.move_records(regclass, timestamptz, timestamptz) IS
  'Moves the records of these times from phi.audit_log_default, which the caller has locked, into a table that is to be attached; ERROR 55P03 while somebody reads the log; internal';

CREATE FUNCTION phi.lock_for_partition(moves boolean) RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_lock_for_partition' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.lock_for_partition(boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.lock_for_partition(boolean) IS
  'Takes the locks for attaching a partition to the log, and for moving records there, if nobody has to be waited for; internal';

CREATE FUNCTION phi.missing_audit_months(thorough boolean) RETURNS SETOF timestamp
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH today AS (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AS month),
  wanted AS (
    SELECT today.month + n * interval '1 month' AS month FROM today, generate_series(0, 2) n
    UNION
    /* Months that are over: the worker was away. */
    SELECT date_trunc('month', d.at AT TIME ZONE 'UTC') FROM ONLY phi.audit_log_default d WHERE thorough
  )
  SELECT w.month FROM wanted w, today
  WHERE to_regclass(format('phi.audit_log_%s', to_char(w.month, 'YYYY_MM'))) IS NULL
    /* Many rows of a month that is being written are moved when it is over: nobody waits then. */
    AND (w.month <> today.month OR 10000 >= (SELECT count(*) FROM (
      SELECT FROM ONLY phi.audit_log_default d WHERE d.at >= w.month AT TIME ZONE 'UTC' LIMIT 10001) many))
  ORDER BY w.month;
END;
REVOKE EXECUTE ON FUNCTION phi.missing_audit_months(boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.missing_audit_months(boolean) IS
  'Beginnings (UTC) of months whose partition is to be made: this month, the next two, and, when thorough, those of records in the default partition; internal';

/* Others read times as this writes them: a time zone's letters may be those of another. */
CREATE FUNCTION phi.make_audit_partition(month timestamp) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC'
  SET default_tablespace = '' SET default_table_access_method = 'heap'
AS $$
DECLARE
  table_name text := 'audit_log_' || to_char(month, 'YYYY_MM');
  first timestamptz := month AT TIME ZONE 'UTC';
  past timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
  relation regclass;
  grantee text;
BEGIN
  EXECUTE format('CREATE TABLE phi.%I (LIKE phi.audit_log INCLUDING STORAGE)', table_name);
  relation := format('phi.%I', table_name)::regclass;
  /* What ALTER DEFAULT PRIVILEGES gives is not meant for the log. */
  FOR grantee IN
    SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = relation AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', relation, grantee);
  END LOOP;
  EXECUTE format('CREATE TRIGGER only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION phi.only_owner()', relation);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER only_owner', relation);
  PERFORM phi.guard_audit_table(relation);
  /* As phi.audit_log_default has it. Not of the parent: a dump that attaches a table would make it twice. */
  EXECUTE format('CREATE INDEX %I ON %s (xact, record_id)', table_name || '_xact', relation);
  PERFORM phi.move_records(relation, first, past);
  EXECUTE format('ALTER TABLE phi.audit_log ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', relation, first, past);
  EXECUTE format('COMMENT ON TABLE %s IS %L', relation, format('Records of %s (UTC)', to_char(month, 'YYYY-MM')));
END $$;
REVOKE EXECUTE ON FUNCTION phi.make_audit_partition(timestamp) FROM PUBLIC;
COMMENT ON FUNCTION phi.make_audit_partition(timestamp) IS 'Makes the partition of a month (UTC) of the log; internal';

CREATE FUNCTION phi.make_audit_partitions(thorough boolean) RETURNS boolean
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  months timestamp[] := ARRAY(SELECT phi.missing_audit_months(thorough));
  month timestamp;
BEGIN
  IF cardinality(months) > 0 AND NOT phi.lock_for_partition(EXISTS (SELECT FROM ONLY phi.audit_log_default)) THEN
    RETURN false;
  END IF;
  FOREACH month IN ARRAY months LOOP
    PERFORM phi.make_audit_partition(month);
  END LOOP;
  RETURN true;
EXCEPTION WHEN lock_not_available THEN
  RETURN false;
END $$;
REVOKE EXECUTE ON FUNCTION phi.make_audit_partitions(boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.make_audit_partitions(boolean) IS
  'Makes the partitions of the log that are missing; false when somebody else has locks on it: then it is to be tried again; internal to the worker and phi.open_audit';
