"""PgBouncer, a transaction at a time on one server connection: no clinic is left for the next."""
import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
import psycopg
import psycopg2
from common import HANAKO, fails, same

# The reset is what pg_phi asks for: whatever a client has SET is taken back after
# each transaction. The role's own clinic, if it has one, stays.
CONFIG = '''
[databases]
* = host={PGHOST} port={PGPORT} pool_size={size}
[pgbouncer]
unix_socket_dir = {directory}
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = scram-sha-256
auth_file = {directory}/users
logfile = {directory}/log
pool_mode = transaction
server_reset_query = RESET phi.clinic
server_reset_query_always = 1
ignore_startup_parameters = extra_float_digits
'''
INSERT = 'INSERT INTO patient (chart_no, name) VALUES (%s, %s)'


@contextlib.contextmanager
def pgbouncer(size):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        with open(f'{directory}/users', 'w') as users:
            users.write('"ehr" "clients"\n"ehr_hakodate" "clients"\n')
        with open(f'{directory}/ini', 'w') as ini:
            ini.write(CONFIG.format(directory=directory, port=port, size=size, **os.environ))
        process = subprocess.Popen(['/usr/sbin/pgbouncer', '--quiet', f'{directory}/ini'])
        try:
            deadline = time.monotonic() + 60
            while not os.path.exists(f'{directory}/.s.PGSQL.{port}'):
                assert process.poll() is None and time.monotonic() < deadline, 'pgbouncer does not start'
                time.sleep(0.05)
            yield {'host': directory, 'port': port, 'password': 'clients'}
        finally:
            process.kill()
            process.wait()


def run(connection, query, *parameters):
    cursor = connection.cursor()
    cursor.execute(query, parameters)
    return cursor.fetchall() if cursor.description else None


def state(connection):
    """The server process, its clinic, and how many patients it shows."""
    return run(connection, 'SELECT pg_backend_pid(), phi.current_clinic(), (SELECT count(*) FROM patient)')[0]


def check_one_connection(login):
    first, second = (psycopg2.connect(user='ehr', **login) for _ in range(2))
    first.autocommit = second.autocommit = True
    process, *sealed = state(first)
    same(sealed, [None, 0])

    def nothing_left():
        same(state(second), (process, None, 0))
        fails('42501', run, second, INSERT, 'X', 'no clinic')

    # In a transaction, committed.
    run(first, "BEGIN; SET LOCAL phi.clinic = 'hakodate'")
    run(first, INSERT, HANAKO[0], HANAKO[2])
    same(state(first), (process, 'hakodate', 1))
    run(first, 'COMMIT')
    nothing_left()

    # The same text with a literal, by another clinic; then the first again.
    for clinic, found in (('boston', []), ('hakodate', [(HANAKO[2],)])):
        run(second, 'BEGIN')
        run(second, "SELECT set_config('phi.clinic', %s, true)", clinic)
        same(run(second, f"SELECT name FROM patient WHERE name = '{HANAKO[2]}'"), found)
        run(second, 'COMMIT')
        nothing_left()

    # Failed and rolled back; and with plain SET, which would outlive its transaction.
    run(first, "BEGIN; SET LOCAL phi.clinic = 'hakodate'")
    fails('23505', run, first, INSERT, HANAKO[0], 'twice')
    run(first, 'ROLLBACK')
    nothing_left()
    run(first, "SET phi.clinic = 'hakodate'")
    nothing_left()
    run(first, "BEGIN; SET phi.clinic = 'hakodate'")
    same(state(first), (process, 'hakodate', 1))
    run(first, 'COMMIT')
    nothing_left()

    # A client that goes away in the middle takes the server's connection along.
    run(first, "BEGIN; SET LOCAL phi.clinic = 'hakodate'")
    first.close()
    process, *sealed = state(second)
    same(sealed, [None, 0])
    second.close()


def check_psycopg3(login):
    """Unchanged until it prepares: that needs PgBouncer 1.21, before that this line."""
    with psycopg.connect(user='ehr', prepare_threshold=None, **login) as connection:
        for _ in range(7):
            with connection.transaction():
                connection.execute("SET LOCAL phi.clinic = 'hakodate'")
                same(connection.execute('SELECT chart_no FROM patient WHERE name = %b', [HANAKO[2]]).fetchall(),
                     [(HANAKO[0],)])
    # Options of the connection do not pass it.
    try:
        psycopg.connect(user='ehr', options='-c phi.clinic=hakodate', **login)
        raise AssertionError('PgBouncer takes options')
    except psycopg.OperationalError as error:
        assert 'options' in str(error), error


def check_role(login):
    """A role with a clinic of its own has it after every reset."""
    with contextlib.closing(psycopg2.connect(user='ehr_hakodate', **login)) as connection:
        connection.autocommit = True
        for _ in range(3):
            same(state(connection)[1:], ('hakodate', 1))


def check_jdbc(login):
    """JDBC as from many instances of an application, with prepareThreshold=0."""
    subprocess.run(['java', '-Dfile.encoding=UTF-8', '-cp', '/usr/share/java/postgresql.jar', 'JdbcClient.java',
                    'pooled'], env={**os.environ, 'PGPORT': str(login['port'])}, check=True)


def work(login, clinic, number, wrong):
    """Many transactions of a clinic, each of which must find rows of its own only."""
    try:
        with contextlib.closing(psycopg2.connect(user='ehr', **login)) as connection:
            for n in range(100):
                run(connection, "SELECT set_config('phi.clinic', %s, true)", clinic)
                run(connection, INSERT, f'{number}-{n}', clinic)
                same(run(connection, 'SELECT DISTINCT clinic FROM patient WHERE name IN (%s, %s)', 'hakodate', 'boston'),
                     [(clinic,)])
                connection.commit()
                same(run(connection, 'SELECT phi.current_clinic()'), [(None,)])
                connection.rollback()
    except Exception as error:
        wrong.append(error)


with pgbouncer(size=1) as login:
    check_one_connection(login)
    check_psycopg3(login)
    check_role(login)
    check_jdbc(login)
with pgbouncer(size=2) as login:
    wrong = []
    threads = [threading.Thread(target=work, args=(login, clinic, number, wrong))
               for number in range(2) for clinic in ('hakodate', 'boston')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(wrong, [])

version = subprocess.run(['/usr/sbin/pgbouncer', '--version'], capture_output=True, text=True, check=True)
print(version.stdout.splitlines()[0])
