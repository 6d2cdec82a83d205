"""psycopg 3: parameters apart from the query, prepared by the server, in text and binary."""
import psycopg
from psycopg.types.json import Jsonb
from common import Driver, HANAKO, INSERT, NAMES, NOBODY, PATIENTS, SELECT, TARO, same


def adapt(row):
    return tuple(Jsonb(value) if isinstance(value, (dict, list)) else value for value in row)


driver = Driver(psycopg.connect, adapt)
driver.check_all()
connection, run = driver.connection, driver.run
same([psycopg.adapters.types[column.type_code].name for column in connection.execute(SELECT).description],
     ['text', 'text', 'text', 'date', 'timestamptz', 'numeric', 'int8', 'bool', 'jsonb', 'bytea'])

# Binary both ways: %b sends binary, binary=True asks for it. Prepared at once.
run('DELETE FROM patient')
for row in PATIENTS:
    connection.execute(INSERT.replace('%s', '%b'), adapt(row), prepare=True)
same(connection.execute(SELECT + ' ORDER BY id', binary=True, prepare=True).fetchall(), PATIENTS)
for condition, value in (('name = %b', HANAKO[2]), ('name = ANY(%b)', [HANAKO[2]]),
                         ('birth_date = %b', HANAKO[3]), ('weight = %b', HANAKO[5]),
                         ('visits = %b', HANAKO[6]), ('photo = %b', HANAKO[9])):
    for _ in range(7):
        same(connection.execute(NAMES + condition, [value], binary=True, prepare=True).fetchall(),
             [(HANAKO[2],)])

# Many rows at once; several statements in one round trip; COPY in text and binary.
connection.cursor().executemany(
    'INSERT INTO patient (chart_no, name, birth_date) VALUES (%s, %s, %s)',
    [(f'V-{n}', f'患者 {n}', TARO[3]) for n in range(500)])
same(run('SELECT count(*) FROM patient WHERE birth_date = %s', TARO[3]), [(501,)])
with connection.pipeline():
    first = connection.execute('UPDATE patient SET name = %s WHERE chart_no = %s', ['鈴木', 'V-1'])
    second = connection.execute(NAMES + 'chart_no = %s', ['V-1'])
same((first.rowcount, second.fetchall()), (1, [('鈴木',)]))
load = [('C-1', '患者', HANAKO[3]), ('C-2', None, None)]
for copy_format in ('text', 'binary'):
    run('DELETE FROM patient_load')
    with connection.cursor().copy(f'COPY patient_load FROM STDIN (FORMAT {copy_format})') as copy:
        if copy_format == 'binary':
            copy.set_types(['text', 'text', 'date'])
        for row in load:
            copy.write_row(row)
    same(run('SELECT * FROM patient_load'), load)
    with connection.cursor().copy(f'COPY patient_load TO STDOUT (FORMAT {copy_format})') as copy:
        copy.set_types(['text', 'text', 'date'])
        same(list(copy.rows()), load)

# A cursor of the server, in a transaction, with a savepoint that is rolled back.
with connection.transaction():
    with connection.cursor(name='reader', binary=True) as reader:
        reader.execute('SELECT birth_date FROM patient WHERE name LIKE %s ORDER BY name', ['佐藤%'])
        same(reader.fetchall(), [(TARO[3],), (HANAKO[3],)])
    with connection.transaction(force_rollback=True):
        run('DELETE FROM patient')
same(driver.names('name = %s', NOBODY[2]), [NOBODY[2]])

print('psycopg 3', psycopg.__version__)
