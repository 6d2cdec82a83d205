<?php
// PHP's PDO: statements that the server prepares, and queries put together by PDO.

const COLUMNS = 'chart_no, insurance_no, name, birth_date, seen_at, weight, visits, smoker, record, photo';
const HANAKO = ['H-1', '0612', '佐藤 花子', '1950-02-28', '2026-03-01 09:30:00+00', '52.40', 3000000000, false,
    '{"n": 1.5, "薬": ["アスピリン", null]}', "\x89P\0\xff"];
const TARO = ['H-2', '0613', '佐藤 太郎', '2024-02-29', '1999-12-31 23:59:59.999999+00', '-0.001', -1, true, '[]', ''];
const NOBODY = ['H-3', null, '高橋 一郎', null, null, null, null, null, null, null];
const SHORT = 'INSERT INTO patient (chart_no, name, birth_date) VALUES (?, ?, ?)';

function same($found, $expected): void
{
    if ($found !== $expected)
        throw new Exception(var_export($found, true) . ' is not ' . var_export($expected, true));
}

function fails(string $sqlstate, callable $work): void
{
    try {
        $work();
    } catch (PDOException $error) {
        same($error->getCode(), $sqlstate);
        return;
    }
    throw new Exception("no error where $sqlstate was expected");
}

function connect(string $user, string $more = '', bool $emulate = false): PDO
{
    return new PDO('pgsql:host=' . getenv('PGHOST') . ';port=' . getenv('PGPORT') . ';dbname=' . getenv('PGDATABASE')
        . $more, $user, null, [PDO::ATTR_EMULATE_PREPARES => $emulate, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function run(PDO $db, string $query, array $values = []): PDOStatement
{
    $statement = $db->prepare($query);
    foreach ($values as $i => $value)
        $statement->bindValue($i + 1, $value, is_bool($value) ? PDO::PARAM_BOOL : (is_int($value) ? PDO::PARAM_INT
            : ($i === 9 && $value !== null ? PDO::PARAM_LOB : PDO::PARAM_STR)));
    $statement->execute();
    return $statement;
}

function names(PDO $db, string $condition, ...$values): array
{
    return run($db, "SELECT name FROM patient WHERE $condition", $values)->fetchAll(PDO::FETCH_COLUMN);
}

/** PDO gives bytea as a stream, of plain columns too. */
function row(PDOStatement $statement): array
{
    return array_map(fn($value) => is_resource($value) ? stream_get_contents($value) : $value,
        $statement->fetch(PDO::FETCH_NUM));
}

function check(PDO $db): void
{
    foreach ([HANAKO, TARO, NOBODY] as $patient) {
        run($db, 'INSERT INTO patient (' . COLUMNS . ') VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', $patient);
        $select = run($db, 'SELECT ' . COLUMNS . ' FROM patient WHERE name = ?', [$patient[2]]);
        same($select->getColumnMeta(3)['native_type'], 'date');
        same(row($select), $patient);
    }
    same(names($db, 'name IN (?, ?) ORDER BY name', HANAKO[2], TARO[2]), [TARO[2], HANAKO[2]]);
    same(names($db, 'name LIKE ? ORDER BY name', '佐藤%'), [TARO[2], HANAKO[2]]);
    same(names($db, 'birth_date = ? AND weight = ? AND visits = ? AND smoker = ?', HANAKO[3], '52.4', HANAKO[6], false),
        [HANAKO[2]]);
    same(names($db, "record ->> 'n' = ? AND birth_date IS NOT NULL", '1.5'), [HANAKO[2]]);
    same(names($db, 'true ORDER BY name'), [TARO[2], HANAKO[2], NOBODY[2]]);
    $db->exec('SET enable_seqscan = off');
    foreach (['name = ?' => HANAKO[2], 'birth_date = ?' => HANAKO[3]] as $condition => $value) {
        $plan = run($db, "EXPLAIN SELECT id FROM patient WHERE $condition", [$value])->fetchAll(PDO::FETCH_COLUMN);
        same(str_contains(implode("\n", $plan), 'Index Cond'), true);
    }
    $db->exec('RESET enable_seqscan');

    $update = 'UPDATE patient SET name = ?, birth_date = ? WHERE name = ?';
    same(run($db, $update, ['鈴木', TARO[3], HANAKO[2]])->rowCount(), 1);
    $upsert = SHORT . ' ON CONFLICT (chart_no) DO UPDATE SET name = excluded.name RETURNING name, birth_date';
    same(run($db, $upsert, ['H-1', HANAKO[2], null])->fetch(PDO::FETCH_NUM), [HANAKO[2], TARO[3]]);
    fails('23505', fn() => run($db, SHORT, ['H-1', 'twice', null]));
    fails('23P01', fn() => run($db, 'UPDATE patient SET insurance_no = ? WHERE name = ?', ['0612', NOBODY[2]]));
    $db->beginTransaction();
    $insert = $db->prepare(SHORT);
    for ($i = 0; $i < 300; $i++)
        $insert->execute(["B-$i", '患者', TARO[3]]);
    $db->commit();
    same(run($db, 'DELETE FROM patient WHERE name = ?', ['患者'])->rowCount(), 300);
    $db->beginTransaction();
    $db->exec('DELETE FROM patient');
    $db->rollBack();
    same($db->pgsqlCopyFromArray('patient_load', ["C-1\t患者\t1950-02-28\n", "C-2\t\\N\t\\N\n"]), true);
    same($db->pgsqlCopyToArray('patient_load'), ["C-1\t患者\t1950-02-28\n", "C-2\t\\N\t\\N\n"]);
    same(names($db, 'true ORDER BY name'), [TARO[2], HANAKO[2], NOBODY[2]]);
}

foreach ([true, false] as $emulate) {
    $db = connect('ehr', ";options='-c phi.clinic=hakodate'", $emulate);
    $db->exec('DELETE FROM patient');
    $db->exec('DELETE FROM patient_load');
    check($db);
}

$sealed = connect('ehr');
same(names($sealed, 'true'), []);
fails('42501', fn() => run($sealed, SHORT, ['X', 'no clinic', null]));
$sealed->exec("SET phi.clinic = 'hakodate'");
same(names($sealed, 'name = ?', HANAKO[2]), [HANAKO[2]]);
$role = connect('ehr_hakodate');
same(names($role, 'name = ?', HANAKO[2]), [HANAKO[2]]);
fails('42501', fn() => $role->exec("SET phi.clinic = 'boston'"));
foreach (names(connect('dba'), 'true') as $name)
    same(substr($name, 0, 5), 'phi1:');

echo 'PDO_PGSQL, PHP ', PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, '.', PHP_RELEASE_VERSION, "\n";
