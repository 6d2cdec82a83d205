-- The hospital's table. Only the types differ from an unprotected one; each
-- names the class of data that a role must hold to read the column.
CREATE TABLE patient (
  id           bigint PRIMARY KEY,
  clinic       text NOT NULL,
  family       enctext(identity) NOT NULL,
  given        enctext(identity) NOT NULL,
  family_kana  enctext(identity),
  given_kana   enctext(identity),
  gender       text,
  birth_date   encdate(identity),
  insurance_no enctext(insurance),
  phone        enctext(identity),
  address      enctext(identity),
  diagnosis    enctext(clinical),
  note         enctext(clinical),
  allergies    encjsonb(clinical)
);
CREATE INDEX patient_family ON patient USING hash (family);
GRANT SELECT, INSERT, UPDATE, DELETE ON patient
  TO app_a, app_b, app_c, app_d, nurse_a;
SELECT phi.isolate('patient', 'clinic');
