/*
 * The procedures commit, so they may not be SECURITY DEFINER nor have settings:
 * they run as who calls them.
 */
CREATE PROCEDURE phi.protect(relation regclass, clinic_column name, columns jsonb, replacements jsonb DEFAULT '{}', isolate boolean DEFAULT true,
                             dry_run boolean DEFAULT false, lock_timeout interval DEFAULT '500ms', INOUT job int DEFAULT NULL)
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  job := phi.start_protect('protect', relation, clinic_column, columns, replacements, isolate, dry_run, lock_timeout);
  COMMIT;
  IF job IS NOT NULL THEN
    CALL phi.follow_protect(job);
  END IF;
END $$;
REVOKE EXECUTE ON PROCEDURE phi.protect(regclass, name, jsonb, jsonb, boolean, boolean, interval, int) FROM PUBLIC;
COMMENT ON PROCEDURE phi.protect(regclass, name, jsonb, jsonb, boolean, boolean, interval, int) IS
  'Encrypts columns of a table that is in use, each row under the keys of the clinic that its clinic_column names. columns: {"name": "identity", "notes": {"class": "clinical", "type": "encjsonb"}}; replacements: statements for what cannot stay as it is, by name; isolate: phi.isolate() at the end; dry_run: only tells, as NOTICEs, what phi.protect_plan() lists; lock_timeout: how long to wait for the table''s lock at once, and others at most for the swap''s beginning. Returns the job''s number: phi.protect_progress. ERROR 55000 while there are problems, 42501 for who does not own the table, 25001 in a transaction block';

CREATE PROCEDURE phi.unprotect(relation regclass, columns name[], replacements jsonb DEFAULT '{}', dry_run boolean DEFAULT false,
                               lock_timeout interval DEFAULT '500ms', INOUT job int DEFAULT NULL)
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  job := phi.start_protect('unprotect', relation, NULL, to_jsonb(columns), replacements, false, dry_run, lock_timeout);
  COMMIT;
  IF job IS NOT NULL THEN
    CALL phi.follow_protect(job);
  END IF;
END $$;
REVOKE EXECUTE ON PROCEDURE phi.unprotect(regclass, name[], jsonb, boolean, interval, int) FROM PUBLIC;
COMMENT ON PROCEDURE phi.unprotect(regclass, name[], jsonb, boolean, interval, int) IS
  'Makes encrypted columns of a table plain again, as phi.protect() encrypts them. The first call asks for a custodian''s phi.approve(), always; called again after that it begins. Row security stays: phi.unisolate()';

CREATE FUNCTION phi.restart_protect(job int, to_state text) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  work phi.protect_job := phi.find_protect(job);
BEGIN
  IF to_state NOT IN ('running', 'cancelling') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a job can be set running or cancelling';
  ELSIF work.state IN ('done', 'cancelled') OR to_state = 'running' AND work.state = 'cancelling' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('job %s is %s', job, CASE work.state WHEN 'cancelling' THEN 'being cancelled' ELSE work.state || ' already' END);
  ELSIF to_state = 'cancelling' AND work.swapped_at IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('job %s has converted the table already', job),
      HINT = format('CALL phi.resume_protect(%s) ends it.', job);
  ELSIF NOT phi.hold_protect(job) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use', MESSAGE = format('job %s is at work in another session', job),
      HINT = 'The view phi.protect_progress shows how far it is; cancel the CALL there to stop it.';
  END IF;
  UPDATE phi.protect_job j SET state = to_state, error = NULL, unknown = 0, base_at = NULL, snapshots = NULL, waits_for = NULL
  WHERE j.job = restart_protect.job;
END $$;
REVOKE EXECUTE ON FUNCTION phi.restart_protect(int, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.restart_protect(int, text) IS
  'Sets a job of phi.protect() that nobody is at work with running, or cancelling; see phi.resume_protect()';

CREATE PROCEDURE phi.resume_protect(job int)
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  PERFORM phi.restart_protect(job, 'running');
  COMMIT;
  CALL phi.follow_protect(job);
END $$;
REVOKE EXECUTE ON PROCEDURE phi.resume_protect(int) FROM PUBLIC;
COMMENT ON PROCEDURE phi.resume_protect(int) IS
  'Goes on with a job of phi.protect() or phi.unprotect() that has failed, or was interrupted, where it was. ERROR 42704 no such job, 55000 it is over, 55006 it is at work';

CREATE PROCEDURE phi.cancel_protect(job int)
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  PERFORM phi.restart_protect(job, 'cancelling');
  COMMIT;
  CALL phi.follow_protect(job);
END $$;
REVOKE EXECUTE ON PROCEDURE phi.cancel_protect(int) FROM PUBLIC;
COMMENT ON PROCEDURE phi.cancel_protect(int) IS
  'Ends a job of phi.protect() or phi.unprotect() before it has changed the table, and removes all it has made. ERROR 42704 no such job, 55000 it is over or has changed the table, 55006 it is at work';
