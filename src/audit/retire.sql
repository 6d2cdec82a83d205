CREATE TABLE phi.audit_retired (
  leaves      int8multirange PRIMARY KEY,
  from_at     timestamptz NOT NULL,
  to_at       timestamptz NOT NULL,
  records     bigint NOT NULL,
  root        bytea NOT NULL CHECK (length(root) = 32),
  note        text NOT NULL,
  retired_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  retired_by  name NOT NULL
);
GRANT SELECT ON phi.audit_retired TO phi_auditor;
COMMENT ON TABLE phi.audit_retired IS
  'Leaves whose records were exported and removed with phi.retire_audit(), the root of a tree of just these leaves, and the signed note of it';
SELECT pg_catalog.pg_extension_config_dump('phi.audit_retired', '');
SELECT phi.guard_audit_table('phi.audit_retired');
