"""What the Python clients share: the patients, and the checks of a DB-API driver."""
from datetime import date, datetime, timezone
from decimal import Decimal

# PGHOST, PGPORT and PGDATABASE lead to the cluster.
EHR = {'user': 'ehr', 'options': '-c phi.clinic=hakodate'}

COLUMNS = ('chart_no', 'insurance_no', 'name', 'birth_date', 'seen_at', 'weight',
           'visits', 'smoker', 'record', 'photo')
HANAKO = ('H-1', '0612', '佐藤 花子', date(1950, 2, 28),
          datetime(2026, 3, 1, 9, 30, tzinfo=timezone.utc), Decimal('52.40'),
          3_000_000_000, False, {'薬': ['アスピリン', None], 'n': 1.5}, b'\x89PNG\x00\xff')
TARO = ('H-2', '0613', '佐藤 太郎', date(2024, 2, 29),
        datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc), Decimal('-0.001'),
        -1, True, [], b'')
NOBODY = ('H-3', None, '高橋 一郎') + (None,) * 7
PATIENTS = [HANAKO, TARO, NOBODY]
ORDERED = [TARO[2], HANAKO[2], NOBODY[2]]

LIST = ', '.join(COLUMNS)
SELECT = f'SELECT {LIST} FROM patient'
INSERT = f"INSERT INTO patient ({LIST}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
UPSERT = ("INSERT INTO patient (chart_no, name) VALUES (%s, %s)"
          " ON CONFLICT (chart_no) DO UPDATE SET name = excluded.name RETURNING name")
NAMES = 'SELECT name FROM patient WHERE '


def same(found, expected):
    """Asserts that values are equal and of the very type expected, also within lists."""
    assert found == expected, f'{found!r} is not {expected!r}'
    assert type(found) is type(expected), f'{found!r} is not of {type(expected)}'
    if isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected):
            same(one, other)


def fails(sqlstate, call, *arguments):
    """Asserts that the server refuses a call; returns the driver's error."""
    try:
        call(*arguments)
    except Exception as error:
        cause = getattr(error, 'orig', None) or error.__cause__ or error
        found = getattr(cause, 'pgcode', None) or getattr(cause, 'sqlstate', None)
        assert found == sqlstate, f'{sqlstate} expected, not {found}: {error!r}'
        return error
    raise AssertionError(f'no error where {sqlstate} was expected')


class Driver:
    """The checks of a driver in the session of a clinic; `adapt` makes a row its parameters."""

    def __init__(self, connect, adapt):
        self.connect, self.adapt = connect, adapt
        self.connection = connect(**EHR)
        self.connection.autocommit = True

    def run(self, query, *parameters):
        cursor = self.connection.cursor()
        cursor.execute(query, parameters)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else cursor.rowcount

    def names(self, condition, *parameters):
        return [name for name, in self.run(NAMES + condition, *parameters)]

    def check_all(self):
        self.check_types()
        self.check_searches()
        self.check_changes()
        self.check_sessions()

    def check_types(self):
        self.connection.cursor().executemany(INSERT, [self.adapt(row) for row in PATIENTS])
        same([self.from_row(row) for row in self.run(SELECT + ' ORDER BY id')], PATIENTS)

    def from_row(self, row):
        """psycopg2 gives bytea as a memoryview, from plain columns too."""
        return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)

    def check_searches(self):
        same(self.names('name = %s', HANAKO[2]), [HANAKO[2]])
        same(self.names('birth_date = %s', TARO[3]), [TARO[2]])
        same(self.names('name = ANY(%s) ORDER BY name', [HANAKO[2], TARO[2]]), ORDERED[:2])
        same(self.names('name IN (%s, %s) ORDER BY id', HANAKO[2], 'no one'), [HANAKO[2]])
        same(self.names('name LIKE %s ORDER BY name', '佐藤%'), ORDERED[:2])
        same(self.names('birth_date BETWEEN %s AND %s', date(2000, 1, 1), TARO[3]), [TARO[2]])
        same(self.names('birth_date IS NULL'), [NOBODY[2]])
        same(self.names('true ORDER BY name'), ORDERED)
        same(self.run('SELECT min(birth_date), sum(weight), count(DISTINCT name) FROM patient'),
             [(HANAKO[3], Decimal('52.399'), 3)])
        self.run('SET enable_seqscan = off')
        for condition, value in (('name = %s', HANAKO[2]), ('birth_date = %s', HANAKO[3]),
                                 ('name = ANY(%s)', [HANAKO[2], TARO[2]])):
            plan = self.run('EXPLAIN (COSTS OFF) ' + NAMES + condition, value)
            assert any('Index Cond' in line for line, in plan), plan
        self.run('RESET enable_seqscan')

    def check_changes(self):
        same(self.run('UPDATE patient SET name = %s WHERE name = %s RETURNING name, birth_date',
                      '鈴木 花子', HANAKO[2]), [('鈴木 花子', HANAKO[3])])
        same(self.run(UPSERT, HANAKO[0], HANAKO[2]), [(HANAKO[2],)])
        fails('23505', self.run, 'INSERT INTO patient (chart_no, name) VALUES (%s, %s)',
              HANAKO[0], 'twice')
        fails('23P01', self.run, 'UPDATE patient SET insurance_no = %s WHERE name = %s',
              HANAKO[1], NOBODY[2])
        self.connection.autocommit = False
        same(self.run('DELETE FROM patient WHERE name = %s', TARO[2]), 1)
        self.connection.rollback()
        same(self.run('DELETE FROM patient WHERE name = %s', NOBODY[2]), 1)
        self.connection.commit()
        same(self.names('true ORDER BY name'), ORDERED[:2])
        self.connection.rollback()
        self.connection.autocommit = True

    def check_sessions(self):
        """Who has no clinic gets none of it; a role's own clinic; and SET."""
        ehr = self.connection
        self.run('RESET phi.clinic')
        self.connection = self.connect(user='ehr')
        self.connection.autocommit = True
        same(self.run(SELECT), [])
        fails('42501', self.run, "SELECT 'x'::enctext")
        self.run("SET phi.clinic = 'boston'")
        same(self.run(SELECT), [])
        self.run("SET phi.clinic = 'hakodate'")
        same(len(self.run(SELECT)), 2)
        self.connection.close()
        self.connection = self.connect(user='ehr_hakodate')
        self.connection.autocommit = True
        same(self.names('name = %s', HANAKO[2]), [HANAKO[2]])
        fails('42501', self.run, "SET phi.clinic = 'boston'")
        self.connection.close()
        self.connection = self.connect(user='dba')
        for name, birth_date in self.run('SELECT name, birth_date FROM patient'):
            assert name.startswith('phi1:') and birth_date.startswith('phi1:'), (name, birth_date)
        self.connection.close()
        self.connection = ehr
