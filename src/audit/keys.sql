CREATE VIEW phi.audit_keys AS
  SELECT k.key_id, c.code AS clinic, phi.class_name(k.class) AS purpose, k.version, k.state, k.created_at,
         s.verifier, s.since
  FROM phi.data_key k LEFT JOIN phi.clinic c USING (clinic_id) LEFT JOIN phi.audit_signer s USING (key_id)
  WHERE k.class < -1;
REVOKE ALL ON phi.audit_keys FROM PUBLIC;
GRANT SELECT ON phi.audit_keys TO phi_custodian, phi_auditor;
COMMENT ON VIEW phi.audit_keys IS
  'Keys of the audit log: for digests of rows, by clinic (none: of sessions without one), and for signing, with the verifier key that checkpoints are checked with and the size from which on it signs';

CREATE FUNCTION phi.replace_audit_key(of_clinic int, of_class smallint) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  old int;
BEGIN
  /* One at a time: the second sees what the first made. */
  PERFORM FROM phi.audit_state FOR NO KEY UPDATE;
  SELECT k.key_id INTO old FROM phi.data_key k
  WHERE k.clinic_id = of_clinic AND k.class = of_class AND k.state = 'active';
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = 'there is no such key of the audit log yet',
      HINT = 'phi.audit() makes the keys for digests, the first checkpoint the one for signing.';
  END IF;
  PERFORM phi.move_key(old, 'retired', 'rotated');
  RETURN phi.add_key(of_clinic, of_class, (SELECT max(k.version) + 1 FROM phi.data_key k
                     WHERE k.clinic_id = of_clinic AND k.class = of_class), 'rotated');
END $$;
REVOKE EXECUTE ON FUNCTION phi.replace_audit_key(int, smallint) FROM PUBLIC;
COMMENT ON FUNCTION phi.replace_audit_key(int, smallint) IS 'A new version of a key of the audit log; ERROR 42704 when there is none; internal';

CREATE FUNCTION phi.rotate_signing_key() RETURNS int
  LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.replace_audit_key(0, -3::smallint);
END;
REVOKE EXECUTE ON FUNCTION phi.rotate_signing_key() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.rotate_signing_key() TO phi_custodian;
COMMENT ON FUNCTION phi.rotate_signing_key() IS
  'Gives the audit log a new key that signs checkpoints from the next one on, and returns its id; its verifier key is in phi.audit_keys then';

CREATE FUNCTION phi.rotate_digest_key(clinic text DEFAULT NULL) RETURNS int
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.replace_audit_key(CASE WHEN clinic IS NULL THEN 0 ELSE phi.clinic_id(clinic) END, -2::smallint);
END;
REVOKE EXECUTE ON FUNCTION phi.rotate_digest_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.rotate_digest_key(text) TO phi_custodian;
COMMENT ON FUNCTION phi.rotate_digest_key(text) IS
  'Gives a clinic, or with NULL the sessions without one, a new key for digests of rows, and returns its id; digests of before name the old one, which stays';
