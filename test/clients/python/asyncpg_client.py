"""asyncpg: all in binary, prepared by the server, parameters by the types that the server names."""
import asyncio
import io
import os
import asyncpg
from common import COLUMNS, HANAKO, INSERT, NAMES, NOBODY, ORDERED, PATIENTS, SELECT, TARO, UPSERT, same

# In an expression as bare as `birth_date = $1` the server names the column's own type, and
# asyncpg sends a type that it does not know as text. This is how it makes text of one.
TEXT_OF = {'encdate': str, 'enctimestamptz': str, 'encnumeric': str, 'encbigint': str,
           'encboolean': str, 'encbytea': lambda value: '\\x' + value.hex()}


def numbered(query):
    """The query with $1, $2, … for each %s."""
    first, *others = query.split('%s')
    return first + ''.join(f'${n}{part}' for n, part in enumerate(others, 1))


async def connect(user, **settings):
    return await asyncpg.connect(user=user, host=os.environ['PGHOST'], server_settings=settings)


async def refused(sqlstate, call):
    try:
        await call
    except asyncpg.PostgresError as error:
        same(error.sqlstate, sqlstate)
    else:
        raise AssertionError(f'no error where {sqlstate} was expected')


async def check(connection):
    for name, encoder in TEXT_OF.items():
        await connection.set_type_codec(name, schema='pg_catalog', encoder=encoder, decoder=str)
    await connection.set_type_codec('jsonb', schema='pg_catalog', encoder=str, decoder=str)

    async def names(condition, *values):
        return [row['name'] for row in await connection.fetch(numbered(NAMES + condition), *values)]

    # jsonb is text to asyncpg, of plain columns too.
    patients = [row[:8] + (None,) + row[9:] for row in PATIENTS]
    await connection.executemany(numbered(INSERT), patients)
    same([tuple(row) for row in await connection.fetch(SELECT + ' ORDER BY id')], patients)
    for _ in range(7):
        same(await names('name = %s', HANAKO[2]), [HANAKO[2]])
        same(await names('birth_date = %s', TARO[3]), [TARO[2]])
    same(await names('birth_date = %s::date', TARO[3]), [TARO[2]])
    same(await names('name = ANY(%s::text[]) ORDER BY name', [HANAKO[2], TARO[2]]), ORDERED[:2])
    same(await names('name IN (%s, %s) ORDER BY name', HANAKO[2], TARO[2]), ORDERED[:2])
    same(await names('name LIKE %s ORDER BY name', '佐藤%'), ORDERED[:2])
    same(await names('weight = %s AND visits = %s AND smoker = %s AND photo = %s', *HANAKO[5:8], HANAKO[9]), [HANAKO[2]])
    await connection.execute('SET enable_seqscan = off')
    for condition, value in (('name = $1', HANAKO[2]), ('birth_date = $1', HANAKO[3])):
        plan = await connection.fetch(f'EXPLAIN {NAMES} {condition}', value)
        assert any('Index Cond' in line for line, in plan), plan
    await connection.execute('RESET enable_seqscan')

    same(await connection.fetchval(numbered(UPSERT), 'H-1', '鈴木'), '鈴木')
    await refused('23505', connection.execute('INSERT INTO patient (chart_no, name) VALUES ($1, $2)', 'H-1', 'twice'))
    await refused('23P01', connection.execute('UPDATE patient SET insurance_no = $1 WHERE name = $2', '0612', NOBODY[2]))
    transaction = connection.transaction()
    await transaction.start()
    same(await connection.execute('DELETE FROM patient WHERE name = $1', TARO[2]), 'DELETE 1')
    await transaction.rollback()
    same(await names('true ORDER BY name'), [TARO[2], '鈴木', NOBODY[2]])
    # COPY goes by the columns' own types, so what it sends is text.
    same(await connection.copy_to_table('patient_load', source=io.BytesIO('C-1\t患\t1950-02-28\n'.encode())), 'COPY 1')
    same(tuple(await connection.fetchrow('SELECT * FROM patient_load')), ('C-1', '患', HANAKO[3]))


async def main():
    connection = await connect('ehr', **{'phi.clinic': 'hakodate'})
    await check(connection)
    await connection.close()
    # One pool for all clinics; what is SET within a pool, the pool itself resets.
    async with asyncpg.create_pool(user='ehr', host=os.environ['PGHOST'], min_size=1, max_size=1) as pool:
        for clinic, count in (('hakodate', 3), ('boston', 0)):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT set_config('phi.clinic', $1, true)", clinic)
                same(len(await connection.fetch(SELECT)), count)
            async with pool.acquire() as connection:
                await connection.execute(f"SET phi.clinic = '{clinic}'")
            same(await pool.fetchval('SELECT phi.current_clinic()'), None)
            await refused('42501', pool.execute('INSERT INTO patient (chart_no, name) VALUES ($1, $2)', 'X', 'no clinic'))
    connection = await connect('dba')
    for name, in await connection.fetch('SELECT name FROM patient'):
        assert name.startswith('phi1:'), name
    await connection.close()


asyncio.run(main())
print('asyncpg', asyncpg.__version__)
