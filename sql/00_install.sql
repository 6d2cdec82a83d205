-- Installing, and the clinics and roles of the scripts that follow.
\set SHOW_CONTEXT never
CREATE EXTENSION pg_phi;
\dx pg_phi

-- Two clinics, with an application each; a nurse, a custodian, an auditor.
CREATE ROLE app_a LOGIN;
CREATE ROLE app_b LOGIN;
CREATE ROLE nurse LOGIN;
CREATE ROLE custodian LOGIN IN ROLE phi_custodian;
CREATE ROLE auditor LOGIN IN ROLE phi_auditor;
SET SESSION AUTHORIZATION custodian;
SELECT phi.create_clinic('a', 'Hakodate Clinic') > 0 AS made;
SELECT phi.create_clinic('b', 'Otaru Clinic') > 0 AS made;
SELECT phi.create_clinic('a', 'Another');
SELECT phi.create_clinic(' ', 'Blank');
-- Who opens a clinic is not the custodian's to say.
SELECT phi.grant_clinic('app_a', 'a');
RESET SESSION AUTHORIZATION;
SELECT phi.grant_clinic('app_a', 'a');
SELECT phi.grant_clinic('app_b', 'b');
SELECT phi.grant_clinic('nurse', 'a', '{identity}');
SELECT phi.grant_clinic('nurse', 'c');
SELECT phi.grant_clinic('nurse', 'a', '{identity,nonsense}');
SELECT clinic, grantee, classes FROM phi.grants ORDER BY grantee::text;
SELECT action, clinic, grantee, classes, actor = current_user AS by_me, self FROM phi.grant_events ORDER BY event_id;

-- The table of the scripts that follow.
CREATE TABLE patient (
  clinic  text NOT NULL DEFAULT phi.current_clinic(),
  id      int,
  name    enctext(identity),
  born    encdate(identity),
  note    enctext(clinical)
);
\d patient
CREATE INDEX ON patient USING hash (name);
CREATE INDEX ON patient (clinic);
GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO app_a, app_b, nurse;
CREATE TABLE refused (v enctext(secret));
CREATE TABLE refused (v enctext(identity, clinical));
CREATE INDEX ON patient (name);
SELECT * FROM phi.protected_columns ORDER BY 2;
