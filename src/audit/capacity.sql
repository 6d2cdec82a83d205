CREATE VIEW phi.audit_capacity AS
  WITH volume AS (
    SELECT sum(pg_catalog.pg_total_relation_size(t.relid))::bigint AS bytes
    FROM (SELECT p.relid FROM pg_catalog.pg_partition_tree('phi.audit_log') p
          UNION ALL VALUES ('phi.audit_leaf'::regclass), ('phi.audit_node'), ('phi.audit_checkpoint'), ('phi.audit_retired')) t
  ), stored AS (
    SELECT s.size - (SELECT coalesce(sum(r.records), 0) FROM phi.audit_retired r) AS records FROM phi.audit_state s
  ), newest AS (
    SELECT c.size, c.at FROM phi.audit_checkpoint c ORDER BY c.size DESC LIMIT 1
  ), oldest AS (
    /* Of the last seven days; checkpoints tell how many records there were when. */
    SELECT c.size, c.at FROM phi.audit_checkpoint c WHERE c.at >= now() - interval '7 days' ORDER BY c.size LIMIT 1
  ), rate AS (
    SELECT (n.size - o.size) / (extract(epoch FROM now() - o.at) / 86400) AS records_per_day
    FROM newest n, oldest o WHERE now() - o.at >= interval '1 hour'
  ), known AS (
    SELECT v.bytes, s.records::bigint AS records, (r.records_per_day * v.bytes / nullif(s.records, 0))::bigint AS bytes_per_day,
           nullif(pg_catalog.pg_size_bytes(pg_catalog.current_setting('phi.audit_volume_limit')), 0) AS volume_limit
    FROM volume v LEFT JOIN stored s ON true LEFT JOIN rate r ON true
  )
  SELECT k.bytes, k.records, k.bytes_per_day, k.volume_limit,
         round(100.0 * k.bytes / k.volume_limit, 1) AS percent_used,
         round(greatest(k.volume_limit - k.bytes, 0) / nullif(k.bytes_per_day, 0)::numeric, 1) AS days_left
  FROM known k;
REVOKE ALL ON phi.audit_capacity FROM PUBLIC;
GRANT SELECT ON phi.audit_capacity TO phi_custodian, phi_auditor;
COMMENT ON VIEW phi.audit_capacity IS
  'Bytes of the audit log with its tree and indexes, records in it, its growth per day (bytes; over up to seven days, NULL before the first hour is over), phi.audit_volume_limit (bytes; NULL: none), how much of it is used (percent) and for how many days the rest will do at this growth';

CREATE FUNCTION phi.check_audit_capacity(alert boolean) RETURNS boolean
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c phi.audit_capacity;
BEGIN
  SELECT * INTO c FROM phi.audit_capacity;
  IF (c.percent_used >= 80 OR c.days_left < 14) IS NOT TRUE THEN
    RETURN false;
  END IF;
  IF alert THEN
    RAISE WARNING USING
      ERRCODE = 'disk_full',
      MESSAGE = format('the audit trail of database "%s" nears phi.audit_volume_limit', current_database()),
      DETAIL = format('It has %s of %s (%s %%), and grows by %s a day.', pg_size_pretty(c.bytes), pg_size_pretty(c.volume_limit),
                      c.percent_used, coalesce(pg_size_pretty(c.bytes_per_day), 'an unknown amount')),
      HINT = 'Export old months and remove them with phi.retire_audit(), or make room and raise phi.audit_volume_limit.';
    PERFORM pg_notify('phi_alert', jsonb_build_object('alert', 'audit_volume', 'database', current_database(), 'bytes', c.bytes,
      'limit', c.volume_limit, 'percent_used', c.percent_used, 'bytes_per_day', c.bytes_per_day, 'days_left', c.days_left)::text);
  END IF;
  RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION phi.check_audit_capacity(boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.check_audit_capacity(boolean) IS
  'Whether phi.audit_volume_limit is near: 80 percent are used, or the rest will do for less than 14 days; then warns in the log and notifies phi_alert, if it is to alert; internal to the worker';
