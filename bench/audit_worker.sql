-- How fast records are sequenced, and the log is verified.
\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
SELECT phi.advance_audit() \g /dev/null
\c - bench
SET client_min_messages = warning;
SET phi.clinic = 'a';
UPDATE patient_audit SET phone = '1';
\c - postgres
SET client_min_messages = warning;
SELECT size AS before FROM phi.audit_state \gset
SELECT clock_timestamp() AS started \gset
SELECT phi.advance_audit() \g /dev/null
SELECT E'\n' || format('%-58s %10s', 'the worker', 'records/s'), E'\n' || format('  %-56s %10s', 'sequencing, checkpoint included (one process)',
  round((size - :before) / extract(epoch FROM clock_timestamp() - :'started'))) FROM phi.audit_state;
SELECT clock_timestamp() AS started \gset
SELECT count(*) AS faults FROM phi.verify_audit() \gset
SELECT format('  %-56s %10s', 'phi.verify_audit() (' || :faults || ' faults)', round(size / extract(epoch FROM clock_timestamp() - :'started'))) FROM phi.audit_state;
