/*
 * The trigger's arguments are for a dump to carry: no OIDs. None: changes are
 * recorded. Three: also kept, 'history', the name of the history table in the
 * schema of the table, and since when.
 */
CREATE FUNCTION phi.audit_change() RETURNS trigger
  AS 'MODULE_PATHNAME', 'phi_audit_change' LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.audit_change() FROM PUBLIC;
COMMENT ON FUNCTION phi.audit_change() IS
  'Trigger of tables that are audited: records each changed row, and TRUNCATE; made by phi.audit()';

CREATE FUNCTION phi.record_audit(operation text, relation regclass, detail text) RETURNS void
  AS 'MODULE_PATHNAME', 'phi_record_audit' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.record_audit(text, regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.record_audit(text, regclass, text) IS
  'Writes a record about a table as a whole; internal to phi.audit';

CREATE FUNCTION phi.add_audit_keys() RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  /* One at a time, and no clinic is made meanwhile without its key. Later ones come with it. */
  IF EXISTS (SELECT FROM phi.data_key k WHERE (k.clinic_id, k.class) = (0, -2)) THEN
    RETURN;
  END IF;
  LOCK TABLE phi.clinic IN SHARE ROW EXCLUSIVE MODE;
  /* A clinic that was shredded gets none again. */
  PERFORM phi.add_key(c.clinic_id, -2::smallint, 1, 'audit begun')
  FROM (SELECT 0 AS clinic_id UNION ALL
        SELECT k.clinic_id FROM phi.data_key k WHERE k.clinic_id > 0 GROUP BY 1 HAVING bool_or(k.state <> 'destroyed')) c
  WHERE NOT EXISTS (SELECT FROM phi.data_key k WHERE (k.clinic_id, k.class) = (c.clinic_id, -2))
  ORDER BY c.clinic_id;
END $$;
REVOKE EXECUTE ON FUNCTION phi.add_audit_keys() FROM PUBLIC;
COMMENT ON FUNCTION phi.add_audit_keys() IS
  'Makes the keys of the audit log''s digests: for each clinic, and for sessions without one (clinic 0), where there is none yet; internal to phi.audit';

CREATE FUNCTION phi.table_tree(relation regclass) RETURNS TABLE (member regclass, is_partition boolean)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE tree (oid) AS (
    SELECT relation::oid UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
  )
  SELECT c.oid::regclass, c.relispartition FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE c.relkind IN ('r', 'p');
END;
REVOKE EXECUTE ON FUNCTION phi.table_tree(regclass) FROM PUBLIC;
/* Of the view phi.audited_tables, whose functions run with the reader's rights. */
GRANT EXECUTE ON FUNCTION phi.table_tree(regclass) TO phi_auditor;
COMMENT ON FUNCTION phi.table_tree(regclass) IS
  'A table, its partitions and the tables that inherit from it; internal to phi.audit';

CREATE FUNCTION phi.check_auditable(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wrong text;
BEGIN
  PERFORM phi.require_owner(relation);
  PERFORM phi.require_owner(t.member) FROM phi.table_tree(relation) t;
  SELECT CASE
    WHEN c.relkind NOT IN ('r', 'p') THEN format('%s is not a table', relation)
    WHEN c.relpersistence = 't' THEN format('table %s is temporary', relation)
    WHEN c.relispartition THEN format('table %s is a partition', relation)
    WHEN n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'phi')
      OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = relation AND d.deptype = 'e')
      THEN format('table %s belongs to the system or to an extension', relation)
    WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgfoid = 'phi.refuse_change'::regproc)
      THEN format('table %s is part of the audit trail', relation)
  END INTO wrong
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type', MESSAGE = wrong,
      HINT = 'Only tables can be audited that outlive their session and belong to no extension; partitions with the table that they are of.';
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.check_auditable(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.check_auditable(regclass) IS
  'ERROR 42501 unless the caller owns the table, 42809 when such a table cannot be audited; internal to phi.audit';

CREATE FUNCTION phi.drop_audit_triggers(relation regclass) RETURNS boolean
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found record;
  any_found boolean := false;
BEGIN
  FOR found IN SELECT t.tgname, m.member FROM phi.table_tree(relation) m JOIN pg_trigger t ON t.tgrelid = m.member
               WHERE t.tgfoid = 'phi.audit_change'::regproc AND t.tgparentid = 0 LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.member);
    any_found := true;
  END LOOP;
  RETURN any_found;
END $$;
REVOKE EXECUTE ON FUNCTION phi.drop_audit_triggers(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.drop_audit_triggers(regclass) IS
  'Removes the triggers of phi.audit() from a table, its partitions and the tables that inherit from it; false: there were none; internal';

CREATE FUNCTION phi.make_audit_triggers(relation regclass, arguments text) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found record;
BEGIN
  FOR found IN SELECT * FROM phi.table_tree(relation) LOOP
    /* Partitions have clones of it. */
    IF NOT found.is_partition THEN
      EXECUTE format('CREATE TRIGGER phi_audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION phi.audit_change(%s)',
                     found.member, arguments);
    END IF;
    /* Rows go to the history while they are there. */
    EXECUTE format('CREATE TRIGGER phi_audit_truncate %s TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION phi.audit_change()',
                   CASE arguments WHEN '' THEN 'AFTER' ELSE 'BEFORE' END, found.member);
  END LOOP;
  /* In whatever role of replication; the clones of a trigger follow. */
  FOR found IN SELECT t.tgname, t.tgrelid::regclass AS member FROM phi.table_tree(relation) m JOIN pg_trigger t ON t.tgrelid = m.member
               WHERE t.tgfoid = 'phi.audit_change'::regproc AND t.tgparentid = 0 LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.member, found.tgname);
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.make_audit_triggers(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.make_audit_triggers(regclass, text) IS
  'Makes the triggers of phi.audit(); internal';

CREATE FUNCTION phi.audit(relation regclass, history boolean DEFAULT false) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET quote_all_identifiers = off SET default_tablespace = '' SET default_table_access_method = 'heap'
AS $$
DECLARE
  arguments text := '';
  detail text := 'history off';
BEGIN
  IF relation IS NULL OR history IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed',
      MESSAGE = 'the table and history must not be null';
  END IF;
  PERFORM phi.check_auditable(relation);
  /* As strong as what follows needs, or others who wait for us would wait in vain. */
  EXECUTE format('LOCK TABLE %s IN %s MODE', relation,
                 CASE WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgfoid = 'phi.audit_change'::regproc)
                   THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END);
  /* It may have been changed while we waited. */
  PERFORM phi.check_auditable(relation);
  PERFORM phi.open_audit();
  PERFORM phi.add_audit_keys();
  IF history THEN
    SELECT p.arguments, p.detail INTO arguments, detail FROM phi.prepare_history(relation) p;
  END IF;
  PERFORM phi.drop_audit_triggers(relation);
  PERFORM phi.make_audit_triggers(relation, arguments);
  PERFORM phi.record_audit('AUDIT', relation, detail);
END $$;
REVOKE EXECUTE ON FUNCTION phi.audit(regclass, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.audit(regclass, boolean) IS
  'Records every change of the rows of a table, its partitions and the tables that inherit from it in phi.audit_log, from now on; with history also keeps old versions of rows, for phi.as_of(). Called again it switches the history on or off, brings it in line with columns that were changed, and finds partitions and children that were added: of a partition that was added since, all is recorded but a TRUNCATE by its own name. For the table''s owner who was granted EXECUTE, and superusers: ERROR 42501 for others, 42809 for what is no such table';

CREATE FUNCTION phi.unaudit(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF relation IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed',
      MESSAGE = 'the table must not be null';
  END IF;
  PERFORM phi.check_auditable(relation);
  IF NOT phi.drop_audit_triggers(relation) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('table %s is not audited', relation),
      HINT = 'phi.audit() begins it.';
  END IF;
  PERFORM phi.record_audit('UNAUDIT', relation, 'history off');
END $$;
REVOKE EXECUTE ON FUNCTION phi.unaudit(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.unaudit(regclass) IS
  'Ends what phi.audit() began; ERROR 42704 when the table is not audited';

CREATE VIEW phi.audited_tables AS
  SELECT t.tgrelid::regclass AS relation, h.history, h.since,
         coalesce(h.problem, (SELECT format('%s is not recorded: call phi.audit() again.', string_agg(
                                concat(CASE WHEN m.is_partition THEN 'TRUNCATE' ELSE 'What changes' END, ' ', m.member), ', '))
                              FROM phi.table_tree(t.tgrelid) m
                              WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger s WHERE s.tgrelid = m.member AND s.tgfoid = t.tgfoid AND s.tgtype & 1 = 0)
                              HAVING count(*) > 0)) AS problem
  FROM pg_catalog.pg_trigger t, phi.history_of(t.tgrelid) h
  WHERE t.tgfoid = 'phi.audit_change'::regproc AND t.tgparentid = 0 AND t.tgtype & 1 = 1;
REVOKE ALL ON phi.audited_tables FROM PUBLIC;
GRANT SELECT ON phi.audited_tables TO phi_auditor;
COMMENT ON VIEW phi.audited_tables IS
  'Tables of phi.audit(): the table with old versions of rows and since when it is kept, NULL without history; and what is wrong until phi.audit() is called again: a history that does not fit keeps rows from being changed, partitions and children that were added since are not recorded as the others';

CREATE FUNCTION phi.row_digest(record anyelement, key_id int) RETURNS bytea
  AS 'MODULE_PATHNAME', 'phi_row_digest' LANGUAGE C STABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.row_digest(anyelement, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.row_digest(anyelement, int) TO phi_auditor;
COMMENT ON FUNCTION phi.row_digest(anyelement, int) IS
  'Digest of a row of a table that is audited, as in phi.audit_log.old_digest and new_digest, by the key that digest_key names: SELECT phi.row_digest(p, 7) FROM patient p. Auditors open no clinic: where row security hides rows, one with BYPASSRLS sees them, as ciphertext. 32 bytes; ERROR 42809 for what is no such row, 42704 for what is no such key, 55000 when the key is destroyed';
