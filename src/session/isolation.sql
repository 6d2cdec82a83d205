CREATE FUNCTION phi.isolate(relation regclass, clinic_column name) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  member regclass;
  column_type text;
  condition text;
BEGIN
  IF relation IS NULL OR (SELECT relkind FROM pg_class WHERE oid = relation) NOT IN ('r', 'p') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('%s is not a table', coalesce(relation::text, 'null'));
  END IF;
  SELECT format_type(atttypid, -1) INTO column_type FROM pg_attribute
  WHERE attrelid = relation AND attname = clinic_column AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_column',
      MESSAGE = format('column "%s" of table %s does not exist', clinic_column, relation);
  END IF;
  /*
   * The session's side is cast, once a query, so that the column's index serves.
   * A code that the type changes, as integer does 01, matches nothing.
   */
  condition := format(CASE WHEN column_type IN ('text', 'character varying', 'bpchar')
                        THEN '%I = (SELECT phi.current_clinic()::%s)'
                        ELSE '%I = (SELECT c::%s FROM phi.current_clinic() c WHERE c::%2$s::text = c)'
                      END, clinic_column, column_type);
  /* Rows of a partition, and old versions of rows, can be reached without the table. */
  FOR member IN
    WITH RECURSIVE tree (oid) AS (
      SELECT relation::oid UNION
      SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
    ) SELECT tree.oid FROM tree UNION ALL SELECT h.history FROM phi.history_of(relation) h WHERE h.history IS NOT NULL
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', member);
    /* Without a permissive policy no row is seen; with another, no other clinic''s. */
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = member AND polname = 'phi_isolation') THEN
      EXECUTE format('ALTER POLICY phi_clinic ON %s USING (%s) WITH CHECK (%2$s)', member, condition);
      EXECUTE format('ALTER POLICY phi_isolation ON %s USING (%s) WITH CHECK (%2$s)', member, condition);
    ELSE
      EXECUTE format('CREATE POLICY phi_clinic ON %s AS PERMISSIVE USING (%s) WITH CHECK (%2$s)', member, condition);
      EXECUTE format('CREATE POLICY phi_isolation ON %s AS RESTRICTIVE USING (%s) WITH CHECK (%2$s)', member, condition);
    END IF;
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.isolate(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION phi.isolate(regclass, name) IS
  'Shows and accepts only rows of the session''s clinic, compared with the named column, in a table and its partitions, also for its owner; run as the owner, who must be superuser or granted EXECUTE';

CREATE FUNCTION phi.unisolate(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  member regclass;
  policy name;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = relation AND polname = 'phi_isolation') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('table %s is not isolated', coalesce(relation::text, 'null')),
      HINT = 'phi.isolate() isolates a table.';
  END IF;
  FOR member IN
    WITH RECURSIVE tree (oid) AS (
      SELECT relation::oid UNION
      SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
    ) SELECT tree.oid FROM tree UNION ALL SELECT h.history FROM phi.history_of(relation) h WHERE h.history IS NOT NULL
  LOOP
    FOR policy IN SELECT polname FROM pg_policy
      WHERE polrelid = member AND polname IN ('phi_clinic', 'phi_isolation')
    LOOP
      EXECUTE format('DROP POLICY %I ON %s', policy, member);
    END LOOP;
    /* Policies of others keep row security as it is. */
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = member) THEN
      EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', member);
    END IF;
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.unisolate(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.unisolate(regclass) IS
  'Takes back what phi.isolate() did; ERROR 42704 when the table is not isolated';
