-- One database role for each clinic's application, a nurse, a key custodian, an auditor.
CREATE ROLE app_a LOGIN;
CREATE ROLE app_b LOGIN;
CREATE ROLE app_c LOGIN;
CREATE ROLE app_d LOGIN;
CREATE ROLE nurse_a LOGIN;
CREATE ROLE custodian LOGIN IN ROLE phi_custodian;
CREATE ROLE auditor LOGIN IN ROLE phi_auditor;
