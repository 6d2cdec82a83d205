CREATE FUNCTION phi.refuse_insert() RETURNS trigger
  AS 'MODULE_PATHNAME', 'phi_refuse_insert' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.refuse_insert() FROM PUBLIC;
COMMENT ON FUNCTION phi.refuse_insert() IS
  'Trigger of histories: ERROR 42501 for everybody; phi.audit()''s trigger writes below it';

CREATE FUNCTION phi.history_of(relation regclass, OUT history regclass, OUT since timestamptz, OUT problem text, OUT name name, OUT keys text)
  AS 'MODULE_PATHNAME', 'phi_history_of' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
REVOKE EXECUTE ON FUNCTION phi.history_of(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.history_of(regclass) TO PUBLIC;
COMMENT ON FUNCTION phi.history_of(regclass) IS
  'The table that keeps old versions of a table''s rows, since when, and why it does not fit any more; its name and the columns of the key, as the trigger has them; NULL when there is none';

CREATE FUNCTION phi.check_history(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wrong text;
BEGIN
  SELECT CASE
    WHEN EXISTS (SELECT FROM phi.table_tree(relation) m WHERE NOT m.is_partition AND m.member <> relation)
      THEN 'tables inherit from it'
    WHEN EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = relation) THEN 'it inherits from another table'
    WHEN EXISTS (SELECT FROM phi.table_tree(relation) m JOIN pg_class t ON t.oid = m.member JOIN pg_am a ON a.oid = t.relam WHERE a.amname <> 'heap')
      THEN 'its access method is not heap'
    WHEN NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisprimary) THEN 'it has no primary key'
    WHEN octet_length(c.relname) > 55 THEN 'its name is longer than 55 bytes'
    WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                 AND (a.attname IN ('phi_until', 'phi_record', 'phi_change') OR a.attname LIKE 'phi\_dropped\_%'))
      THEN 'a column has a name that its history needs'
    WHEN EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'd' AND t.typnotnull)
      THEN 'a column is of a domain that refuses nulls'
  END INTO wrong
  FROM pg_class c WHERE c.oid = relation;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('no history can be kept of table %s: %s', relation, wrong);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.check_history(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.check_history(regclass) IS 'ERROR 55000 when no history can be kept of a table; internal to phi.audit';

CREATE FUNCTION phi.history_column(relation regclass, number smallint) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
         || CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = relation AND a.attnum = number;
END;
REVOKE EXECUTE ON FUNCTION phi.history_column(regclass, smallint) FROM PUBLIC;
COMMENT ON FUNCTION phi.history_column(regclass, smallint) IS 'Definition of a table''s column in its history; internal to phi.audit';

/* Nobody but the owner has rights on it, whatever the default privileges are. */
CREATE FUNCTION phi.guard_history(history regclass, owner oid) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  grantee text;
BEGIN
  EXECUTE format('ALTER TABLE %s OWNER TO %s', history, owner::regrole);
  FOR grantee IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
                 FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = history AND a.grantee <> owner LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', history, grantee);
  END LOOP;
  PERFORM phi.guard_audit_table(history);
  PERFORM phi.guard_audit_rows(history);
  EXECUTE format('CREATE TRIGGER refuse_insert BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION phi.refuse_insert()', history);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_insert', history);
END $$;
REVOKE EXECUTE ON FUNCTION phi.guard_history(regclass, oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.guard_history(regclass, oid) IS 'Gives a new history to its owner and keeps everybody from writing it; internal to phi.audit';

CREATE FUNCTION phi.key_columns(relation regclass) RETURNS TABLE (name name, type oid, "position" bigint, equal text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT a.attname, a.atttypid, k.n, format('OPERATOR(%s.%s)', o.oprnamespace::regnamespace, o.oprname)
  FROM pg_index i, unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1], (i.indclass::oid[])[0:i.indnkeyatts - 1]) WITH ORDINALITY k(attnum, opclass, n)
  JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k.attnum
  JOIN pg_opclass c ON c.oid = k.opclass
  JOIN pg_amop m ON (m.amopfamily, m.amoplefttype, m.amoprighttype, m.amopstrategy) = (c.opcfamily, c.opcintype, c.opcintype, 3)
  JOIN pg_operator o ON o.oid = m.amopopr
  WHERE i.indrelid = relation AND i.indisprimary;
END;
REVOKE EXECUTE ON FUNCTION phi.key_columns(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.key_columns(regclass) TO PUBLIC;
COMMENT ON FUNCTION phi.key_columns(regclass) IS 'Columns of a table''s primary key in their order, and what compares each, as its definition says';

CREATE FUNCTION phi.make_history(relation regclass, name name) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c pg_class;
  history regclass;
BEGIN
  SELECT * INTO c FROM pg_class t WHERE t.oid = relation;
  EXECUTE format('CREATE TABLE %s.%I (%s, phi_until timestamptz NOT NULL, phi_record bigint NOT NULL, phi_change text NOT NULL)',
                 c.relnamespace::regnamespace, name,
                 (SELECT string_agg(phi.history_column(relation, a.attnum), ', ' ORDER BY a.attnum)
                  FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped));
  history := format('%s.%I', c.relnamespace::regnamespace, name)::regclass;
  EXECUTE format('COMMENT ON TABLE %s IS %L', history,
                 format('Old versions of the rows of %s: until when each was valid, the record in phi.audit_log and what ended it; INSERT: the key did not exist before, and encrypted values are left out. See phi.as_of()', relation));
  PERFORM phi.guard_history(history, c.relowner);
  /* Encrypted values are not put into an index, which would keep copies of them. */
  EXECUTE format('CREATE INDEX ON %s (%s)', history,
                 (SELECT string_agg(x.name, ', ' ORDER BY x.position)
                  FROM (SELECT quote_ident(k.name) AS name, k.position FROM phi.key_columns(relation) k
                        WHERE NOT phi.holds_encrypted(k.type)
                        UNION ALL SELECT 'phi_until', 1000) x));
END $$;
REVOKE EXECUTE ON FUNCTION phi.make_history(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION phi.make_history(regclass, name) IS 'Makes the table that keeps old versions of a table''s rows; internal to phi.audit';

/*
 * Columns that were added at the end are added, those that were dropped keep
 * what they have under another name. Anything else, such as another name or
 * type, is not told for certain by what is there now.
 */
CREATE FUNCTION phi.align_history(relation regclass, history regclass) RETURNS boolean
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  added smallint[];
  lost name[];
  number smallint;
  column_name name;
  owner oid;
  n int;
BEGIN
  WITH t AS (
    SELECT * FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
  ), h AS (
    SELECT * FROM pg_attribute a WHERE a.attrelid = history AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname NOT IN ('phi_until', 'phi_record', 'phi_change') AND a.attname NOT LIKE 'phi\_dropped\_%'
  )
  SELECT CASE WHEN bool_or((t.atttypid, t.atttypmod, t.attcollation) <> (h.atttypid, h.atttypmod, h.attcollation)) THEN NULL
              WHEN min(t.attnum) FILTER (WHERE h.attname IS NULL) < max(t.attnum) FILTER (WHERE h.attname IS NOT NULL) THEN NULL
              ELSE coalesce(array_agg(t.attnum ORDER BY t.attnum) FILTER (WHERE h.attname IS NULL), '{}') END,
         coalesce(array_agg(h.attname) FILTER (WHERE t.attname IS NULL), '{}')
  INTO added, lost FROM t FULL JOIN h USING (attname);
  IF added IS NULL OR added <> '{}' AND lost <> '{}' THEN
    RETURN false;
  END IF;
  /* As the owner: the checks of a domain are run. */
  SELECT c.relowner INTO owner FROM pg_class c WHERE c.oid = history;
  FOREACH number IN ARRAY added LOOP
    PERFORM phi.run_command(format('ALTER TABLE %s ADD COLUMN %s', history, phi.history_column(relation, number)), owner, true);
  END LOOP;
  FOREACH column_name IN ARRAY lost LOOP
    SELECT coalesce(max(substring(a.attname FROM '^phi_dropped_(\d+)$')::int), 0) + 1 INTO n FROM pg_attribute a WHERE a.attrelid = history;
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO phi_dropped_%s', history, column_name, n);
    EXECUTE format('COMMENT ON COLUMN %s.phi_dropped_%s IS %L', history, n, format('Column %I, which was dropped', column_name));
  END LOOP;
  RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION phi.align_history(regclass, regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.align_history(regclass, regclass) IS
  'Adds columns to a history, and renames those that its table has no more; false when that is not all; internal to phi.audit';

CREATE FUNCTION phi.isolate_history(relation regclass, history regclass) RETURNS void
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.isolate(history, a.attname)
  FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
       AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE p.polrelid = relation AND p.polname = 'phi_isolation' LIMIT 1;
END;
REVOKE EXECUTE ON FUNCTION phi.isolate_history(regclass, regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.isolate_history(regclass, regclass) IS
  'Isolates a history by the same column as its table; internal to phi.audit';

/* Nothing is lost: what does not fit is kept under another name. */
CREATE FUNCTION phi.set_aside(relation regclass, history regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c pg_class;
  aside name;
  n int := 1;
BEGIN
  SELECT * INTO c FROM pg_class t WHERE t.oid = history;
  LOOP
    aside := (SELECT left(t.relname, 40) FROM pg_class t WHERE t.oid = relation) || '_history_' || n;
    EXIT WHEN to_regclass(format('%s.%I', c.relnamespace::regnamespace, aside)) IS NULL;
    n := n + 1;
  END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', history, aside);
  RAISE NOTICE USING
    MESSAGE = format('the history of table %s begins anew', relation),
    DETAIL = format('What was kept before is in table %s, which phi.as_of() does not read.', format('%s.%I', c.relnamespace::regnamespace, aside)::regclass),
    HINT = 'The new one has none of its privileges.';
END $$;
REVOKE EXECUTE ON FUNCTION phi.set_aside(regclass, regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.set_aside(regclass, regclass) IS
  'Gives a history that its table has outgrown another name; internal to phi.audit';

CREATE FUNCTION phi.own_history(relation regclass, name name) RETURNS regclass
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  t pg_class;
  h pg_class;
BEGIN
  SELECT * INTO t FROM pg_class c WHERE c.oid = relation;
  SELECT * INTO h FROM pg_class c WHERE (c.relnamespace, c.relname) = (t.relnamespace, name);
  IF h.oid IS NOT NULL AND (h.relkind <> 'r' OR h.relowner <> t.relowner
     OR NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = h.oid AND g.tgfoid = 'phi.refuse_insert'::regproc)) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_table',
      MESSAGE = format('relation %s is no history of the same owner', h.oid::regclass),
      HINT = format('Rename it, or give it to %s if it is a history.', t.relowner::regrole);
  END IF;
  RETURN h.oid;
END $$;
REVOKE EXECUTE ON FUNCTION phi.own_history(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION phi.own_history(regclass, name) IS
  'The history of the name beside a table; NULL: there is none; ERROR 42P07 when it is something else; internal to phi.audit';

CREATE FUNCTION phi.prepare_history(relation regclass, OUT arguments text, OUT detail text)
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  table_name name;
  kept regclass;
  begun timestamptz;
  keys text := (SELECT string_agg(quote_ident(k.name), ',' ORDER BY k.position) FROM phi.key_columns(relation) k);
  old_keys text;
BEGIN
  PERFORM phi.check_history(relation);
    /* One that is in use, by whatever name the table has now. */
  SELECT coalesce(h.name, t.relname || '_history'), h.since, h.keys INTO table_name, begun, old_keys
  FROM pg_class t, phi.history_of(relation) h WHERE t.oid = relation;
  kept := phi.own_history(relation, table_name);
  IF kept IS NULL THEN
    begun := NULL;
  ELSIF coalesce(old_keys, keys) <> keys OR NOT phi.align_history(relation, kept) THEN
    PERFORM phi.set_aside(relation, kept);
    kept := NULL;
    begun := NULL;
  END IF;
  IF kept IS NULL THEN
    PERFORM phi.make_history(relation, table_name);
    kept := phi.own_history(relation, table_name);
  END IF;
  PERFORM phi.isolate_history(relation, kept);
  arguments := format('%L, %L, %L, %L', 'history', table_name,
                      to_char(coalesce(begun, clock_timestamp()) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', keys);
  detail := format('history on, in %s', kept);
END $$;
REVOKE EXECUTE ON FUNCTION phi.prepare_history(regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.prepare_history(regclass) IS
  'Makes or changes the history of a table, which is locked, and gives the arguments of its trigger; internal to phi.audit';

CREATE FUNCTION phi.as_of(row_type anyelement, at timestamptz) RETURNS SETOF anyelement
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  relation regclass := (SELECT t.typrelid FROM pg_type t WHERE t.oid = pg_typeof(row_type) AND t.typrelid <> 0);
  kept regclass;
  begun timestamptz;
  wrong text;
  columns text;
  keys text;
  same text;
BEGIN
  IF at IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed', MESSAGE = 'the time must not be null';
  END IF;
  SELECT h.history, h.since, h.problem INTO kept, begun, wrong FROM phi.history_of(relation) h;
  IF begun IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('no history is kept of %s', coalesce(relation::text, pg_typeof(row_type)::text)),
      HINT = 'Name a table by its row, as in phi.as_of(NULL::patient, ''2026-11-01''). Its owner begins a history with phi.audit(table, history => true).';
  ELSIF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the history of table %s does not fit it any more', relation), DETAIL = wrong,
      HINT = format('Its owner calls phi.audit(''%s'', history => true) again.', relation);
  ELSIF at < begun THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = format('the history of table %s begins at %s', relation, begun);
  END IF;
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
  FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped;
  SELECT string_agg(format('h.%I', k.name), ', ' ORDER BY k.position), string_agg(format('h.%I %s t.%1$I', k.name, k.equal), ' AND ')
  INTO keys, same FROM phi.key_columns(relation) k;
  /* Of changes at the same time the one that ended a version tells more. */
  RETURN QUERY EXECUTE format(
    'SELECT %1$s FROM (SELECT DISTINCT ON (%2$s) h.* FROM %3$s h WHERE h.phi_until > $1
                       ORDER BY %2$s, h.phi_until, h.phi_change = ''INSERT'') h WHERE h.phi_change <> ''INSERT''
     UNION ALL
     SELECT %1$s FROM %4$s t WHERE NOT EXISTS (SELECT FROM %3$s h WHERE %5$s AND h.phi_until > $1)',
    columns, keys, kept, relation, same) USING at;
END $$;
REVOKE EXECUTE ON FUNCTION phi.as_of(anyelement, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.as_of(anyelement, timestamptz) TO PUBLIC;
COMMENT ON FUNCTION phi.as_of(anyelement, timestamptz) IS
  'Rows of a table as they were at a time: SELECT * FROM phi.as_of(NULL::patient, ''2026-11-01''). Needs SELECT on the table and its history; row security and classes count as for the table itself. ERROR 55000 when no history is kept, 22023 for a time before it began';
