/* An integer constant would fit bigint and numeric alike. */
CREATE FUNCTION phi.encrypt(value integer, class text DEFAULT 'general') RETURNS pg_catalog.encbigint
  AS 'MODULE_PATHNAME', 'phi_encrypt' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
REVOKE EXECUTE ON FUNCTION phi.encrypt(integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.encrypt(integer, text) TO PUBLIC;
COMMENT ON FUNCTION phi.encrypt(integer, text) IS 'As phi.encrypt(bigint, text)';

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

CREATE VIEW phi.protected_columns AS
  SELECT a.attrelid::regclass AS relation, a.attname AS column,
         format_type(a.atttypid, NULL) AS type,
         CASE WHEN a.atttypmod < 0 THEN 'general' ELSE phi.class_name(a.atttypmod::smallint) END AS class,
         EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = a.attrelid AND p.polname = 'phi_isolation') AS isolated
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE c.relkind IN ('r', 'p', 'm') AND NOT a.attisdropped AND a.atttypid IN (
    SELECT d.objid FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_type'::regclass
      AND d.deptype = 'e' AND x.extname = 'pg_phi');
REVOKE ALL ON phi.protected_columns FROM PUBLIC;
GRANT SELECT ON phi.protected_columns TO phi_custodian, phi_auditor;
COMMENT ON VIEW phi.protected_columns IS
  'Columns of encrypted types with their data class, and whether phi.isolate() guards their table';
