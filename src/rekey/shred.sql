CREATE FUNCTION phi.shred_request(job int) RETURNS int
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT max(q.request_id) FROM phi.request q
  WHERE q.job = shred_request.job AND q.approved_by IS NOT NULL AND q.expires_at > clock_timestamp();
END;
REVOKE EXECUTE ON FUNCTION phi.shred_request(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.shred_request(int) IS
  'The request whose approval a shred job goes on with; NULL when there is none, or it has expired; internal';

CREATE FUNCTION phi.start_shred(clinic text, confirm text) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  of_clinic int;
  found_job int;
BEGIN
  IF clinic IS NULL OR confirm IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'null_value_not_allowed',
      MESSAGE = 'the clinic and its confirmation must not be null';
  END IF;
  of_clinic := phi.clinic_id(clinic);
  IF confirm <> clinic THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'the confirmation is not the code of the clinic',
      DETAIL = 'All values of the clinic are about to become unreadable for good.',
      HINT = format('Give "%s" as second argument too.', clinic);
  END IF;
  PERFORM FROM phi.clinic c WHERE c.clinic_id = of_clinic FOR NO KEY UPDATE;
  SELECT j.job INTO found_job FROM phi.rekey_job j
  WHERE j.kind = 'shred' AND j.clinic_id = of_clinic AND j.state = 'running';
  /* One that was interrupted goes on with an approval that is still good. */
  IF FOUND AND (phi.is_led(found_job) OR phi.shred_request(found_job) IS NOT NULL
                OR NOT current_setting('phi.require_approval')::boolean) THEN
    RETURN found_job;
  END IF;
  IF NOT EXISTS (SELECT FROM phi.data_key k WHERE k.clinic_id = of_clinic AND k.state <> 'destroyed') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('clinic "%s" has no key left', clinic),
      HINT = 'The view phi.destruction_certificates says when they were destroyed and by whom.';
  END IF;
  IF NOT phi.cleared('shred_clinic', jsonb_build_object('clinic', clinic)) THEN
    RETURN NULL;
  END IF;
  IF found_job IS NULL THEN
    INSERT INTO phi.rekey_job (kind, clinic_id) VALUES ('shred', of_clinic) RETURNING job INTO found_job;
  END IF;
  /* The worker goes on with this approval. */
  UPDATE phi.request q SET job = found_job WHERE q.request_id = (SELECT a.request FROM phi.approver() a);
  PERFORM phi.launch_job(found_job);
  RETURN found_job;
END $$;
REVOKE EXECUTE ON FUNCTION phi.start_shred(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.start_shred(text, text) TO phi_custodian;
COMMENT ON FUNCTION phi.start_shred(text, text) IS
  'Starts the destruction of all keys of a clinic in the background and returns the job, the one at work if there is one; NULL when it waits for phi.approve(), as it does again for a job that failed or was interrupted and whose approval has expired; ERROR 22023 unless confirm is the clinic''s code, 55000 when it has no key left; for phi.shred_clinic';

CREATE FUNCTION phi.shred_close(job int) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  j phi.rekey_job;
BEGIN
  SELECT * INTO STRICT j FROM phi.rekey_job r WHERE r.job = shred_close.job AND r.kind = 'shred';
  PERFORM FROM phi.clinic c WHERE c.clinic_id = j.clinic_id FOR NO KEY UPDATE;
  PERFORM phi.move_keys(ARRAY(SELECT k.key_id FROM phi.data_key k WHERE k.clinic_id = j.clinic_id AND k.state = 'active'),
                        'retired', format('clinic shredded by %s', j.started_by));
END $$;
REVOKE EXECUTE ON FUNCTION phi.shred_close(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.shred_close(int) IS
  'First transaction of a shred job: retires the clinic''s keys, so that no value can be added; internal';

CREATE FUNCTION phi.shred_finish(job int) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  j phi.rekey_job;
  approved int := phi.shred_request(job);
  keys int[];
  certificates int[];
BEGIN
  SELECT * INTO STRICT j FROM phi.rekey_job r WHERE r.job = shred_finish.job AND r.kind = 'shred';
  /* As phi.require_destroyable: before any lock on phi.data_key. */
  LOCK TABLE phi.destruction_certificate IN SHARE ROW EXCLUSIVE MODE;
  IF approved IS NULL AND EXISTS (SELECT FROM phi.request q WHERE q.job = shred_finish.job) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = 'the approval to shred the clinic has expired',
      HINT = 'Call phi.shred_clinic() again; phi.approval_timeout says how long an approval is good.';
  END IF;
  UPDATE phi.request q SET executed_in = pg_current_xact_id(), executed_at = clock_timestamp()
  WHERE q.request_id = approved;
  /* A key that was made since then. */
  PERFORM phi.shred_close(job);
  SELECT array_agg(k.key_id) INTO keys FROM phi.data_key k
  WHERE k.clinic_id = j.clinic_id AND k.state <> 'destroyed';
  IF keys IS NULL THEN
    RETURN;
  END IF;
  certificates := phi.destroy_keys(keys, true, format('clinic shredded by %s', j.started_by), j);
  PERFORM phi.certify('clinic', j.clinic_id, NULL, sum(d.values_unreadable)::bigint,
                      format('%s keys destroyed, certificates %s to %s', count(*), min(d.certificate_id), max(d.certificate_id)),
                      format('clinic shredded by %s', j.started_by), j)
  FROM phi.destruction_certificate d WHERE d.certificate_id IN (SELECT unnest(certificates));
END $$;
REVOKE EXECUTE ON FUNCTION phi.shred_finish(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.shred_finish(int) IS
  'Second transaction of a shred job, once all that could write have ended: destroys every key of the clinic, with a certificate for each and one for the whole; ERROR 42501 when the approval that it began with has expired; internal';

CREATE FUNCTION phi.shred_result(job int) RETURNS text
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  j phi.rekey_job;
  c phi.destruction_certificate;
BEGIN
  SELECT * INTO j FROM phi.rekey_job r WHERE r.job = shred_result.job AND r.kind = 'shred';
  IF j.state IS DISTINCT FROM 'done' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'the clinic was not shredded',
      DETAIL = format('Job %s is %s.%s', job, coalesce(j.state, 'unknown'), ' ' || j.error),
      HINT = 'Remove the cause, then call phi.shred_clinic() again.';
  END IF;
  SELECT * INTO c FROM phi.destruction_certificate d
  WHERE d.what = 'clinic' AND d.clinic = (SELECT n.code FROM phi.clinic n WHERE n.clinic_id = j.clinic_id)
  ORDER BY d.certificate_id DESC LIMIT 1;
  RETURN format('%s: %s values became unreadable, certificate %s', c.proof, c.values_unreadable, c.certificate_id);
END $$;
REVOKE EXECUTE ON FUNCTION phi.shred_result(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.shred_result(int) TO phi_custodian;
COMMENT ON FUNCTION phi.shred_result(int) IS
  'What a shred job has done, in a line; ERROR 55000 when it did not end well; for phi.shred_clinic';

CREATE PROCEDURE phi.shred_clinic(clinic text, confirm text)
  LANGUAGE plpgsql AS $$
DECLARE
  job int;
  result text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL phi.require_top_level();
  job := phi.start_shred(clinic, confirm);
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF job IS NULL THEN
    RETURN;
  END IF;
  CALL phi.follow_job(job, false);
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  result := phi.shred_result(job);
  RAISE NOTICE '%', result;
END $$;
REVOKE EXECUTE ON PROCEDURE phi.shred_clinic(text, text) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE phi.shred_clinic(text, text) TO phi_custodian;
COMMENT ON PROCEDURE phi.shred_clinic(text, text) IS
  'End of contract: destroys all keys of a clinic, so that its values become unreadable wherever they are, and writes certificates that say how many; confirm is the clinic''s code again, otherwise ERROR 22023. Commits: ERROR 25001 in a transaction block. When it is stopped the work goes on in the background';
