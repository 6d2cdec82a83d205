// knex: the query builder, with node-postgres beneath.
'use strict'
const knex = require('knex')
const { COLUMNS, HANAKO, NOBODY, ORDERED, PATIENTS, TARO, byIndex, ehr, fails, login, main, same } =
  require('./common.js')

main('knex', async () => {
  const db = knex({ client: 'pg', connection: login('ehr', ehr) })
  const patient = () => db('patient')
  const names = query => query.orderBy('name').pluck('name')

  same((await patient().insert(PATIENTS).returning(COLUMNS)).map(row => ({ ...row })), PATIENTS)
  same({ ...await patient().select(COLUMNS).where({ name: HANAKO.name, birth_date: HANAKO.birth_date }).first() },
    HANAKO)
  same(await names(patient()), ORDERED)
  same(await names(patient().whereIn('name', [HANAKO.name, TARO.name])), ORDERED.slice(0, 2))
  same(await names(patient().whereLike('name', '佐藤%')), ORDERED.slice(0, 2))
  same(await names(patient().whereILike('name', '%一郎')), [NOBODY.name])
  same(await names(patient().whereBetween('birth_date', ['2000-01-01', TARO.birth_date])), [TARO.name])
  same(await names(patient().whereNull('weight').orWhere('weight', '<', 0)), [TARO.name, NOBODY.name])
  same(await names(patient().whereJsonPath('record', '$.beds', '=', 4)), [TARO.name])
  same(await patient().min('birth_date').max('name').sum('visits').first().then(row => ({ ...row })),
    { min: HANAKO.birth_date, max: NOBODY.name, sum: '2999999999' })
  await db.transaction(async trx => {
    await trx.raw('SET LOCAL enable_seqscan = off')
    byIndex((await trx.raw('EXPLAIN SELECT * FROM patient WHERE name = ?', [HANAKO.name])).rows)
  })

  same((await patient().where('name', HANAKO.name).update({ birth_date: TARO.birth_date }, ['birth_date']))[0].birth_date,
    TARO.birth_date)
  await patient().insert({ chart_no: 'H-1', name: '鈴木' }).onConflict('chart_no').merge(['name'])
  await patient().insert({ chart_no: 'H-1', name: 'twice' }).onConflict('chart_no').ignore()
  same((await patient().where('chart_no', 'H-1').first()).name, '鈴木')
  await fails('23505', patient().insert({ chart_no: 'H-1', name: 'twice' }))
  await fails('23P01', patient().insert({ chart_no: 'X', insurance_no: HANAKO.insurance_no, name: 'twice' }))
  await db.batchInsert('patient', Array.from({ length: 300 }, (_, i) => ({ chart_no: 'B-' + i, name: '患者' })), 100)
  same(await patient().where('name', '患者').delete(), 300)
  await db.transaction(async trx => {
    same(await trx('patient').where({ name: TARO.name }).delete(), 1)
    throw new Error('rolled back')
  }).catch(error => same(error.message, 'rolled back'))
  same(await names(patient()), [TARO.name, '鈴木', NOBODY.name])
  await db.destroy()

  // One pool for all clinics: each transaction says whose it is.
  const shared = knex({ client: 'pg', connection: login('ehr'), pool: { min: 1, max: 1 } })
  for (const [clinic, count] of [['hakodate', 3], ['boston', 0]]) {
    await shared.transaction(async trx => {
      await trx.raw("SELECT set_config('phi.clinic', ?, true)", [clinic])
      same((await trx('patient')).length, count)
    })
    same(await shared('patient'), [])
  }
  await shared.destroy()
})
