-- Opening a clinic.
\set SHOW_CONTEXT never
SELECT phi.current_clinic();
SET phi.clinic = 'a';
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'b';
SET phi.clinic = 'c';
SET phi.clinic = 'a';
SELECT * FROM phi.session();
-- For one transaction, as a pool of connections needs it.
RESET phi.clinic;
BEGIN;
SET LOCAL phi.clinic = 'a';
SELECT phi.current_clinic();
COMMIT;
SELECT phi.current_clinic();
-- A savepoint.
BEGIN;
SET LOCAL phi.clinic = 'a';
SAVEPOINT s;
SET LOCAL phi.clinic = '';
SELECT phi.current_clinic();
ROLLBACK TO s;
SELECT phi.current_clinic();
ROLLBACK;
SET phi.clinic = 'a';
DISCARD ALL;
SELECT phi.current_clinic(), session_user = current_user AS is_superuser_again;
-- Another session user does not find it open.
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
SET SESSION AUTHORIZATION app_b;
SELECT * FROM phi.session();
-- Nobody who keeps keys opens a clinic.
RESET SESSION AUTHORIZATION;
SELECT phi.grant_clinic('custodian', 'a');
SET SESSION AUTHORIZATION custodian;
SET phi.clinic = 'a';
RESET SESSION AUTHORIZATION;
SELECT phi.revoke_clinic('custodian', 'a');
SELECT phi.revoke_clinic('custodian', 'a');
-- At login, by a setting of the role; one that is refused is a warning.
ALTER ROLE app_a SET phi.clinic = 'a';
ALTER ROLE app_b SET phi.clinic = 'a';
\c - app_a
SELECT * FROM phi.session();
\c - app_b
SELECT * FROM phi.session();
\c - postgres
ALTER ROLE app_a RESET phi.clinic;
ALTER ROLE app_b RESET phi.clinic;
