/* An integer constant would fit bigint and numeric alike. */
CREATE FUNCTION phi.encrypt(value integer, class text DEFAULT 'general') RETURNS pg_catalog.encbigint
  AS 'MODULE_PATHNAME', 'phi_encrypt' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
REVOKE EXECUTE ON FUNCTION phi.encrypt(integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.encrypt(integer, text) TO PUBLIC;
COMMENT ON FUNCTION phi.encrypt(integer, text) IS 'As phi.encrypt(bigint, text)';

CREATE FUNCTION phi.renew(value anyelement, typmod integer) RETURNS anyelement
  AS 'MODULE_PATHNAME', 'phi_renew_any' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
REVOKE EXECUTE ON FUNCTION phi.renew(anyelement, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.renew(anyelement, integer) TO PUBLIC;
COMMENT ON FUNCTION phi.renew(anyelement, integer) IS
  'The value, encrypted again if its key is not active any more and it is of the session''s clinic; arrays and domains too. The planner puts it on what is stored; ERROR 42501 for a value of a compromised key whose class the session does not hold';

/* What reads the same whatever the type modifier. */
CREATE CAST (varchar AS pg_catalog.enctext)
  WITH FUNCTION pg_catalog.enctext(text, integer, boolean) AS ASSIGNMENT;

/* min() and max() of a date would be those of a timestamptz, which it fits too. */
CREATE FUNCTION pg_catalog.encdatesmaller(pg_catalog.encdate, pg_catalog.encdate) RETURNS pg_catalog.encdate
  AS 'MODULE_PATHNAME', 'phi_enc_smaller' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION pg_catalog.encdatelarger(pg_catalog.encdate, pg_catalog.encdate) RETURNS pg_catalog.encdate
  AS 'MODULE_PATHNAME', 'phi_enc_larger' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE AGGREGATE pg_catalog.min(pg_catalog.encdate) (
  SFUNC = pg_catalog.encdatesmaller, STYPE = pg_catalog.encdate,
  COMBINEFUNC = pg_catalog.encdatesmaller, SORTOP = OPERATOR(pg_catalog.<), PARALLEL = SAFE);
CREATE AGGREGATE pg_catalog.max(pg_catalog.encdate) (
  SFUNC = pg_catalog.encdatelarger, STYPE = pg_catalog.encdate,
  COMBINEFUNC = pg_catalog.encdatelarger, SORTOP = OPERATOR(pg_catalog.>), PARALLEL = SAFE);

/*
 * A date with an interval or a time is a timestamp, and its parts are those of a
 * date: the server would take it for a timestamptz, which is preferred.
 */
CREATE FUNCTION pg_catalog.encdate_pl_interval(pg_catalog.encdate, interval) RETURNS timestamp
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog.date($1) + $2;
CREATE FUNCTION pg_catalog.encdate_mi_interval(pg_catalog.encdate, interval) RETURNS timestamp
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog.date($1) - $2;
CREATE FUNCTION pg_catalog.interval_pl_encdate(interval, pg_catalog.encdate) RETURNS timestamp
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1 + pg_catalog.date($2);
CREATE FUNCTION pg_catalog.encdate_pl_time(pg_catalog.encdate, time) RETURNS timestamp
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog.date($1) + $2;
CREATE FUNCTION pg_catalog.time_pl_encdate(time, pg_catalog.encdate) RETURNS timestamp
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1 + pg_catalog.date($2);
CREATE OPERATOR pg_catalog.+ (
  FUNCTION = pg_catalog.encdate_pl_interval, LEFTARG = pg_catalog.encdate, RIGHTARG = interval,
  COMMUTATOR = OPERATOR(pg_catalog.+));
CREATE OPERATOR pg_catalog.+ (
  FUNCTION = pg_catalog.interval_pl_encdate, LEFTARG = interval, RIGHTARG = pg_catalog.encdate,
  COMMUTATOR = OPERATOR(pg_catalog.+));
CREATE OPERATOR pg_catalog.+ (
  FUNCTION = pg_catalog.encdate_pl_time, LEFTARG = pg_catalog.encdate, RIGHTARG = time,
  COMMUTATOR = OPERATOR(pg_catalog.+));
CREATE OPERATOR pg_catalog.+ (
  FUNCTION = pg_catalog.time_pl_encdate, LEFTARG = time, RIGHTARG = pg_catalog.encdate,
  COMMUTATOR = OPERATOR(pg_catalog.+));
CREATE OPERATOR pg_catalog.- (
  FUNCTION = pg_catalog.encdate_mi_interval, LEFTARG = pg_catalog.encdate, RIGHTARG = interval);
CREATE FUNCTION pg_catalog.extract(text, pg_catalog.encdate) RETURNS numeric
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog.extract($1, pg_catalog.date($2));
CREATE FUNCTION pg_catalog.date_part(text, pg_catalog.encdate) RETURNS float8
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog.date_part($1, pg_catalog.date($2));

CREATE VIEW phi.protected_columns AS
  WITH RECURSIVE ours (oid, typmod) AS (
    SELECT d.objid, -1
    FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_type'::regclass
      AND d.deptype = 'e' AND x.extname = 'pg_phi'
    UNION
    /* Arrays of them, and domains over them. */
    SELECT t.oid, t.typtypmod
    FROM pg_type t JOIN ours ON ours.oid = t.typelem AND t.typsubscript = 'array_subscript_handler'::regproc
                             OR ours.oid = t.typbasetype
  )
  SELECT a.attrelid::regclass AS relation, a.attname AS column,
         format_type(a.atttypid, NULL) AS type,
         CASE WHEN greatest(a.atttypmod, ours.typmod) < 0 THEN 'general'
              ELSE phi.class_name(greatest(a.atttypmod, ours.typmod)::smallint) END AS class,
         EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = a.attrelid AND p.polname = 'phi_isolation') AS isolated
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ours ON ours.oid = a.atttypid
  WHERE c.relkind IN ('r', 'p', 'm') AND NOT a.attisdropped;
REVOKE ALL ON phi.protected_columns FROM PUBLIC;
GRANT SELECT ON phi.protected_columns TO phi_custodian, phi_auditor;
COMMENT ON VIEW phi.protected_columns IS
  'Columns of encrypted types with their data class, and whether phi.isolate() guards their table';
