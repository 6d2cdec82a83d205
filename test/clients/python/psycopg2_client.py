"""psycopg2: the parameters are written into the query's text by the client."""
import io
import psycopg2
from psycopg2.extras import Json, execute_batch, execute_values
from common import Driver, HANAKO, TARO, same


def adapt(row):
    return tuple(Json(value) if isinstance(value, (dict, list)) else value for value in row)


driver = Driver(psycopg2.connect, adapt)
driver.check_all()
run, cursor = driver.run, driver.connection.cursor()

same(driver.names('name IN %s ORDER BY id', (HANAKO[2], TARO[2])), [HANAKO[2], TARO[2]])

# Many rows at once, and by COPY.
execute_values(cursor, 'INSERT INTO patient (chart_no, name, birth_date) VALUES %s',
               [(f'V-{n}', f'患者 {n}', TARO[3]) for n in range(500)])
execute_batch(cursor, 'UPDATE patient SET birth_date = %s WHERE chart_no = %s',
              [(HANAKO[3], f'V-{n}') for n in range(500)])
same(run("SELECT count(*) FROM patient WHERE birth_date = %s AND name LIKE '患者%%'", HANAKO[3]), [(500,)])
cursor.copy_expert('COPY patient_load FROM STDIN', io.StringIO('C-1\t患者\t1950-02-28\nC-2\t\\N\t\\N\n'))
copied = io.StringIO()
cursor.copy_expert('COPY patient_load TO STDOUT', copied)
same(copied.getvalue(), 'C-1\t患者\t1950-02-28\nC-2\t\\N\t\\N\n')

# A statement that the server prepared, past the five plans of its own; a cursor of the server.
run('PREPARE by_name(text) AS SELECT name, birth_date FROM patient WHERE name = $1')
for _ in range(7):
    same(run('EXECUTE by_name(%s)', HANAKO[2]), [(HANAKO[2], HANAKO[3])])
driver.connection.autocommit = False
with driver.connection.cursor(name='reader') as reader:
    reader.execute("SELECT birth_date FROM patient ORDER BY name LIMIT 2")
    same(reader.fetchall(), [(TARO[3],), (HANAKO[3],)])

print('psycopg2', psycopg2.__version__.split()[0])
