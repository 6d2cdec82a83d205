CREATE FUNCTION phi.plan_comment(catalogue regclass, object oid, named text) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('COMMENT ON %s IS %L', named, d.description) FROM pg_description d
  WHERE d.classoid = catalogue AND d.objoid = object AND d.objsubid = 0;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_comment(regclass, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_comment(regclass, oid, text) IS
  'Statement that gives a recreated object its comment again; NULL when it has none; internal';

CREATE FUNCTION phi.extension_steps(catalogue regclass, object oid, named text) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('ALTER %s DEPENDS ON EXTENSION %I', named, x.extname)
  FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
  WHERE d.classid = catalogue AND d.objid = object AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x';
END;
REVOKE EXECUTE ON FUNCTION phi.extension_steps(regclass, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.extension_steps(regclass, oid, text) IS
  'Statements by which a recreated object is dropped with its extensions again; internal';

CREATE FUNCTION phi.columns_within(expression pg_node_tree) RETURNS smallint[]
  LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(array_agg(DISTINCT m[1]::smallint), '{}') FROM regexp_matches(expression::text, ':varattno (-?\d+)', 'g') m;
END;
REVOKE EXECUTE ON FUNCTION phi.columns_within(pg_node_tree) FROM PUBLIC;
COMMENT ON FUNCTION phi.columns_within(pg_node_tree) IS
  'Numbers of the columns in a stored expression about one table; 0 is the whole row; internal';

CREATE FUNCTION phi.relation_options(options text[]) RETURNS text
  LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT ' WITH (' || string_agg(format('%I=%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') || ')' FROM unnest(options) o;
END;
REVOKE EXECUTE ON FUNCTION phi.relation_options(text[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.relation_options(text[]) IS 'The WITH clause of such storage parameters; NULL when there are none; internal';

CREATE FUNCTION phi.index_column(index oid, n int, columns phi.planned_column[], method name, sealing boolean) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT concat_ws(' ', pg_get_indexdef(index, n, false),
    CASE WHEN n > i.indnkeyatts THEN NULL
         WHEN c.attnum IS NULL THEN concat_ws(' ',
           CASE WHEN i.indcollation[n - 1] <> coalesce(a.attcollation, 0) THEN 'COLLATE ' || i.indcollation[n - 1]::regcollation END,
           format('%I.%I', s.nspname, o.opcname) || coalesce(
             (SELECT '(' || string_agg(format('%I=%L', split_part(p, '=', 1), substr(p, strpos(p, '=') + 1)), ', ') || ')' FROM unnest(x.attoptions) p), ''))
         WHEN sealing AND method = 'btree' THEN format('pg_catalog.%I', c.encrypted || '_equality_ops') END,
    CASE WHEN n <= i.indnkeyatts AND method = 'btree' THEN
      CASE i.indoption[n - 1] WHEN 0 THEN NULL WHEN 1 THEN 'DESC NULLS LAST' WHEN 2 THEN 'NULLS FIRST' ELSE 'DESC' END END)
  FROM pg_index i JOIN pg_attribute x ON x.attrelid = i.indexrelid AND x.attnum = n
  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n - 1] AND a.attnum > 0
  LEFT JOIN (pg_opclass o JOIN pg_namespace s ON s.oid = o.opcnamespace) ON o.oid = i.indclass[n - 1]
  LEFT JOIN unnest(columns) c ON c.attnum = i.indkey[n - 1]
  WHERE i.indexrelid = index;
END;
REVOKE EXECUTE ON FUNCTION phi.index_column(oid, int, phi.planned_column[], name, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.index_column(oid, int, phi.planned_column[], name, boolean) IS
  'One column of an index''s definition, as it is when the columns are converted; internal';

/*
 * A search by a value needs no order, and a btree's pages would show it. So one
 * column is hashed; several, and unique ones, are compared by a keyed hash.
 */
CREATE FUNCTION phi.index_method(index oid, columns phi.planned_column[], sealing boolean) RETURNS name
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN sealing AND m.amname = 'btree' AND i.indnatts = 1 AND NOT i.indisunique
                   AND i.indkey[0] IN (SELECT c.attnum FROM unnest(columns) c) THEN 'hash' ELSE m.amname END
  FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_am m ON m.oid = r.relam
  WHERE i.indexrelid = index;
END;
REVOKE EXECUTE ON FUNCTION phi.index_method(oid, phi.planned_column[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.index_method(oid, phi.planned_column[], boolean) IS
  'Access method of an index when the columns are converted; internal';

CREATE FUNCTION phi.index_statement(index oid, columns phi.planned_column[], sealing boolean) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('CREATE %sINDEX %%s ON %%s USING %I ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, m) || replace(concat(
    '(', (SELECT string_agg(phi.index_column(index, n, columns, m, sealing), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) n), ')',
    (SELECT ' INCLUDE (' || string_agg(phi.index_column(index, n, columns, m, sealing), ', ' ORDER BY n) || ')'
     FROM generate_series(i.indnkeyatts + 1, i.indnatts) n),
    CASE WHEN i.indnullsnotdistinct THEN ' NULLS NOT DISTINCT' END,
    /* Of a btree's parameters a hash index knows one. */
    phi.relation_options(ARRAY(SELECT o FROM unnest(r.reloptions) o WHERE m <> 'hash' OR o LIKE 'fillfactor=%')),
    (SELECT format(' TABLESPACE %I', t.spcname) FROM pg_tablespace t WHERE t.oid = r.reltablespace),
    ' WHERE ' || pg_get_expr(i.indpred, i.indrelid)), '%', '%%')
  FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid, phi.index_method(index, columns, sealing) m
  WHERE i.indexrelid = index;
END;
REVOKE EXECUTE ON FUNCTION phi.index_statement(oid, phi.planned_column[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.index_statement(oid, phi.planned_column[], boolean) IS
  'CREATE INDEX for format(statement, index, table), as it is when the columns are converted; internal';

CREATE FUNCTION phi.told_index(told text) RETURNS text[]
  LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  /* A semicolon could begin another statement. */
  SELECT ARRAY[m[2], format('CREATE %sINDEX %%s ON %%s ', upper(m[1])) || replace(m[6], '%', '%%')]
  FROM regexp_match(rtrim(told, E'; \n\t'),
    '^\s*create\s+(unique\s+)?index\s+("(?:[^"]|"")+"|[^\s".;()]+)\s+on\s+(only\s+)?(("(?:[^"]|"")+"|[^\s".;()]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[^\s".;()]+))?)\s*((?:using|\()[^;]*)$', 'i') m
  WHERE m IS NOT NULL;
END;
REVOKE EXECUTE ON FUNCTION phi.told_index(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.told_index(text) IS
  'Quoted name of the index that a CREATE INDEX makes, and the statement for format(statement, index, table); NULL when it is something else; internal';
