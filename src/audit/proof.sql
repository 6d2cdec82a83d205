/* audit/proof.c */
CREATE FUNCTION phi.inclusion_proof(id bigint, checkpoint_size bigint DEFAULT NULL,
    OUT leaf bigint, OUT size bigint, OUT leaf_hash bytea, OUT proof bytea[], OUT checkpoint text)
  AS 'MODULE_PATHNAME', 'phi_inclusion_proof' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE
  SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION phi.inclusion_proof(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.inclusion_proof(bigint, bigint) TO phi_auditor;
COMMENT ON FUNCTION phi.inclusion_proof(bigint, bigint) IS
  'Proof (RFC 6962, section 2.1.1) that a record is in the log that the newest checkpoint, or the one of a size, signs: its leaf, counted from 0, and leaf hash, the hashes of the path, and the checkpoint. ERROR 42704 for a record without a leaf and for a size without a checkpoint, 55000 for a record that the checkpoint does not cover, XX001 when the leaves do not lead to the root';

CREATE FUNCTION phi.consistency_proof(a bigint, b bigint) RETURNS bytea[]
  AS 'MODULE_PATHNAME', 'phi_consistency_proof' LANGUAGE C STABLE STRICT PARALLEL SAFE
  SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION phi.consistency_proof(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.consistency_proof(bigint, bigint) TO phi_auditor;
COMMENT ON FUNCTION phi.consistency_proof(bigint, bigint) IS
  'Proof (RFC 6962, section 2.1.2) that the log of size b begins with the one of size a, in leaves. ERROR 22023 when a is negative or larger than b, 42704 when the log is smaller than b, XX001 when the leaves do not lead to the roots of checkpoints of these sizes';

CREATE FUNCTION phi.check_inclusion(leaf bigint, size bigint, leaf_hash bytea, proof bytea[], root bytea) RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_check_inclusion' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.check_inclusion(bigint, bigint, bytea, bytea[], bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.check_inclusion(bigint, bigint, bytea, bytea[], bytea) TO phi_auditor;
COMMENT ON FUNCTION phi.check_inclusion(bigint, bigint, bytea, bytea[], bytea) IS
  'Whether a proof leads from a leaf hash to the root of a log; of any log, also one of another database';

CREATE FUNCTION phi.check_consistency(a bigint, b bigint, proof bytea[], root_a bytea, root_b bytea) RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_check_consistency' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.check_consistency(bigint, bigint, bytea[], bytea, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.check_consistency(bigint, bigint, bytea[], bytea, bytea) TO phi_auditor;
COMMENT ON FUNCTION phi.check_consistency(bigint, bigint, bytea[], bytea, bytea) IS
  'Whether a proof shows that the log of size b begins with that of size a; of any log, also one of another database';
