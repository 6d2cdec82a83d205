-- Each clinic gets keys of its own; a grant says which role may open which.
SELECT phi.create_clinic('hakodate',  'Hakodate Clinic');
SELECT phi.create_clinic('boston',    'Boston Clinic');
SELECT phi.create_clinic('sapporo',   'Sapporo Clinic');
SELECT phi.create_clinic('worcester', 'Worcester Clinic');
SELECT phi.grant_clinic('app_a', 'hakodate');
SELECT phi.grant_clinic('app_b', 'boston');
SELECT phi.grant_clinic('app_c', 'sapporo');
SELECT phi.grant_clinic('app_d', 'worcester');
SELECT phi.grant_clinic('nurse_a', 'hakodate', ARRAY['identity']);
