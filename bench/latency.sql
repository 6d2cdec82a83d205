\set id random(1, :n)
SELECT c1, c2, c3 FROM t WHERE id = :id;
UPDATE t SET c3 = 'of the foreground' WHERE id = :id;
