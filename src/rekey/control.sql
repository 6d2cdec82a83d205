CREATE FUNCTION phi.find_job(job int) RETURNS phi.rekey_job
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found phi.rekey_job;
BEGIN
  SELECT * INTO found FROM phi.rekey_job j WHERE j.job = find_job.job FOR UPDATE;
  IF found.job IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object', MESSAGE = format('job %s does not exist', coalesce(job::text, 'null')),
      HINT = 'The view phi.rekey_progress lists the jobs.';
  END IF;
  RETURN found;
END $$;
REVOKE EXECUTE ON FUNCTION phi.find_job(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.find_job(int) IS 'A job''s row, locked; ERROR 42704 when there is none; internal';

CREATE FUNCTION phi.stop_job(job int, to_state text) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found phi.rekey_job := phi.find_job(job);
BEGIN
  IF found.state IN ('done', 'cancelled') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('job %s is %s already', job, found.state);
  ELSIF found.kind = 'shred' AND (to_state = 'paused' OR found.state = 'running') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('job %s shreds a clinic and cannot be stopped', job),
      DETAIL = 'One that has failed can be cancelled.';
  END IF;
  UPDATE phi.rekey_job j SET state = to_state,
    finished_at = CASE WHEN to_state = 'cancelled' THEN clock_timestamp() END
  WHERE j.job = stop_job.job;
  /* What they have begun is undone; the cursors know. */
  PERFORM pg_terminate_backend(pid, 5000) FROM phi.worker_pids(job) pid;
END $$;
REVOKE EXECUTE ON FUNCTION phi.stop_job(int, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.stop_job(int, text) IS 'Stops the workers of a rekey; ERROR 42704 no such job, 55000 it is over, or a shredding; internal';

CREATE FUNCTION phi.pause_rekey(job int) RETURNS void
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.stop_job(job, 'paused');
END;
REVOKE EXECUTE ON FUNCTION phi.pause_rekey(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.pause_rekey(int) TO phi_custodian;
COMMENT ON FUNCTION phi.pause_rekey(int) IS
  'Stops a rekey until phi.resume_rekey(); ERROR 42704 no such job, 55000 it is over';

CREATE FUNCTION phi.cancel_rekey(job int) RETURNS void
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.stop_job(job, 'cancelled');
END;
REVOKE EXECUTE ON FUNCTION phi.cancel_rekey(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.cancel_rekey(int) TO phi_custodian;
COMMENT ON FUNCTION phi.cancel_rekey(int) IS
  'Ends a rekey for good: what is encrypted again stays so; ERROR 42704 no such job, 55000 it is over';

CREATE FUNCTION phi.restart_rekey(job int, workers int, rows_per_second int) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found phi.rekey_job := phi.find_job(job);
BEGIN
  IF found.state IN ('done', 'cancelled') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('job %s is %s', job, found.state),
      HINT = 'Begin a new one with phi.rekey().';
  ELSIF found.kind = 'shred' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type', MESSAGE = format('job %s shreds a clinic', job),
      HINT = 'Call phi.shred_clinic() again.';
  END IF;
  /* One that was stopped, or has failed, may not be gone yet. */
  FOR i IN 1 .. 100 LOOP
    EXIT WHEN NOT phi.is_led(job) OR found.state = 'running';
    PERFORM pg_sleep(0.05);
  END LOOP;
  IF phi.is_led(job) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use', MESSAGE = format('job %s is at work', job),
      HINT = 'The view phi.rekey_progress shows how far it is.';
  END IF;
  UPDATE phi.rekey_job j SET state = 'running', error = NULL, resumed_at = clock_timestamp(),
    workers = coalesce(restart_rekey.workers, j.workers),
    rows_per_second = coalesce(restart_rekey.rows_per_second, j.rows_per_second)
  WHERE j.job = restart_rekey.job;
  PERFORM phi.launch_job(job);
END $$;
REVOKE EXECUTE ON FUNCTION phi.restart_rekey(int, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.restart_rekey(int, int, int) TO phi_custodian;
COMMENT ON FUNCTION phi.restart_rekey(int, int, int) IS
  'Has workers go on with a job when the transaction commits; see phi.resume_rekey()';

CREATE PROCEDURE phi.resume_rekey(job int, wait boolean DEFAULT false, workers int DEFAULT NULL, rows_per_second int DEFAULT NULL)
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  PERFORM phi.restart_rekey(job, workers, rows_per_second);
  COMMIT;
  CALL phi.follow_job(job, wait, NOT wait);
END $$;
REVOKE EXECUTE ON PROCEDURE phi.resume_rekey(int, boolean, int, int) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE phi.resume_rekey(int, boolean, int, int) TO phi_custodian;
COMMENT ON PROCEDURE phi.resume_rekey(int, boolean, int, int) IS
  'Goes on with a job that was paused, has failed, or was interrupted by a crash or restart, where it was; workers and rows_per_second may be changed. ERROR 42704 no such job, 55000 it is over, 55006 it is at work';
