// node-postgres: parameters apart from the query, statements prepared by name.
'use strict'
const { Pool } = require('pg')
const copy = require('pg-copy-streams')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { COLUMNS, HANAKO, NOBODY, ORDERED, PATIENTS, TARO, byIndex, connect, ehr, fails, login, main, same } =
  require('./common.js')

const SELECT = `SELECT ${COLUMNS} FROM patient WHERE `
const INSERT = `INSERT INTO patient (${COLUMNS}) VALUES (${COLUMNS.map((_, i) => '$' + (i + 1))})`
const SHORT = 'INSERT INTO patient (chart_no, name, birth_date) VALUES ($1, $2, $3)'

async function checkSearches (client) {
  const names = async (condition, ...values) =>
    (await client.query('SELECT name FROM patient WHERE ' + condition, values)).rows.map(row => row.name)
  same(await names('name = $1', HANAKO.name), [HANAKO.name])
  same(await names('name IN ($1, $2) ORDER BY name', HANAKO.name, TARO.name), ORDERED.slice(0, 2))
  same(await names('name = ANY($1) ORDER BY name', [HANAKO.name, TARO.name]), ORDERED.slice(0, 2))
  same(await names('name LIKE $1 ORDER BY name', '佐藤%'), ORDERED.slice(0, 2))
  same(await names('birth_date = $1', TARO.birth_date), [TARO.name])
  same(await names('seen_at = $1 AND weight = $2 AND visits > $3 AND smoker = $4',
    HANAKO.seen_at, 52.4, 0, false), [HANAKO.name])
  same(await names("record @> $1 AND record ->> 'n' = $2", { n: 1.5 }, '1.5'), [HANAKO.name])
  same(await names('photo = $1', HANAKO.photo), [HANAKO.name])
  same(await names('true ORDER BY name'), ORDERED)
  await client.query('SET enable_seqscan = off')
  for (const [condition, value] of [['name = $1', HANAKO.name], ['name = ANY($1)', [HANAKO.name]],
    ['birth_date = $1', HANAKO.birth_date]]) {
    byIndex((await client.query('EXPLAIN SELECT id FROM patient WHERE ' + condition, [value])).rows)
  }
  await client.query('RESET enable_seqscan')
}

async function checkChanges (client) {
  same((await client.query('UPDATE patient SET name = $1 WHERE name = $2 RETURNING name, birth_date',
    ['鈴木', HANAKO.name])).rows, [{ name: '鈴木', birth_date: HANAKO.birth_date }])
  same((await client.query(SHORT + ' ON CONFLICT (chart_no) DO UPDATE SET name = excluded.name RETURNING name',
    ['H-1', HANAKO.name, null])).rows, [{ name: HANAKO.name }])
  await fails('23505', client.query(SHORT, ['H-1', 'twice', null]))
  await fails('23P01', client.query('UPDATE patient SET insurance_no = $1 WHERE name = $2',
    [HANAKO.insurance_no, NOBODY.name]))
  await client.query('BEGIN')
  same((await client.query('DELETE FROM patient WHERE name = $1', [TARO.name])).rowCount, 1)
  await client.query('ROLLBACK')
  same((await client.query('DELETE FROM patient WHERE name = $1', [NOBODY.name])).rowCount, 1)
}

async function checkBulk (client) {
  const charts = Array.from({ length: 500 }, (_, i) => 'B-' + i)
  await client.query(`INSERT INTO patient (chart_no, name, birth_date)
    SELECT * FROM unnest($1::text[], $2::text[], $3::date[])`,
  [charts, charts.map(chart => '患者 ' + chart), charts.map(() => TARO.birth_date)])
  same((await client.query({ text: "DELETE FROM patient WHERE name LIKE '患者%' RETURNING birth_date", rowMode: 'array' }))
    .rows.flat(), charts.map(() => TARO.birth_date))
  const rows = 'C-1\t患者\t1950-02-28\nC-2\t\\N\t\\N\n'
  await pipeline(Readable.from([rows]), client.query(copy.from('COPY patient_load FROM STDIN')))
  let copied = ''
  for await (const chunk of client.query(copy.to('COPY patient_load TO STDOUT'))) copied += chunk
  same(copied, rows)
}

async function checkSessions () {
  // One pool for all clinics: each transaction says whose it is.
  const pool = new Pool(login('ehr', { max: 1 }))
  for (const [clinic, count] of [['hakodate', 2], ['boston', 0], ['', 0]]) {
    const client = await pool.connect()
    await client.query('BEGIN')
    await client.query("SELECT set_config('phi.clinic', $1, true)", [clinic])
    same((await client.query('SELECT name FROM patient')).rowCount, count)
    await client.query('COMMIT')
    client.release()
    same((await pool.query('SELECT name FROM patient')).rowCount, 0)
  }
  await fails('42501', pool.query(SHORT, ['X', 'no clinic', null]))
  await pool.end()
  const role = await connect('ehr_hakodate')
  same((await role.query('SELECT name FROM patient')).rowCount, 2)
  await fails('42501', role.query("SET phi.clinic = 'boston'"))
  await role.end()
  const dba = await connect('dba')
  same((await dba.query('SELECT left(name::text, 5) AS name FROM patient').catch(error => error.code)), '42501')
  for (const { name, birth_date: born } of (await dba.query('SELECT name, birth_date FROM patient')).rows) {
    same([name.slice(0, 5), born.slice(0, 5)], ['phi1:', 'phi1:'])
  }
  await dba.end()
}

main('pg', async () => {
  const client = await connect('ehr', ehr)
  // Prepared by name: past the five plans of its own.
  for (const patient of PATIENTS) await client.query({ name: 'insert', text: INSERT, values: Object.values(patient) })
  same((await client.query(SELECT + 'true ORDER BY id')).rows.map(row => ({ ...row })), PATIENTS)
  for (let run = 0; run < 7; run++) {
    const found = await client.query({ name: 'by name', text: SELECT + 'name = $1', values: [HANAKO.name] })
    same(found.rows.map(row => ({ ...row })), [HANAKO])
  }
  same((await client.query({ text: SELECT + 'name = $1', values: [HANAKO.name], binary: true })).fields
    .map(field => field.dataTypeID), [25, 25, 25, 1082, 1184, 1700, 20, 16, 3802, 17])
  await checkSearches(client)
  await checkChanges(client)
  await checkBulk(client)
  await client.end()
  await checkSessions()
})
