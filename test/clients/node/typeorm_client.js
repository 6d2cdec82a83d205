// TypeORM: an entity as for plain columns, on a table that SQL has made.
'use strict'
const { DataSource, EntitySchema, In, IsNull, Like, ILike, Between, MoreThan } = require('typeorm')
const { HANAKO, NOBODY, ORDERED, PATIENTS, TARO, byIndex, ehr, fails, login, main, same } = require('./common.js')

const Patient = new EntitySchema({
  name: 'Patient',
  tableName: 'patient',
  columns: {
    id: { type: 'bigint', primary: true, generated: 'increment' },
    chart_no: { type: 'text', unique: true },
    insurance_no: { type: 'text', nullable: true },
    name: { type: 'text' },
    birth_date: { type: 'date', nullable: true },
    seen_at: { type: 'timestamptz', nullable: true },
    weight: { type: 'numeric', nullable: true },
    visits: { type: 'bigint', nullable: true },
    smoker: { type: 'boolean', nullable: true },
    record: { type: 'jsonb', nullable: true },
    photo: { type: 'bytea', nullable: true }
  }
})

const connect = (user, extra = {}) => {
  const { host, port, database } = login(user)
  return new DataSource({ type: 'postgres', host, port, database, username: user, entities: [Patient], extra }).initialize()
}

async function checkSearches (db, patients) {
  const names = async where => (await patients.find({ where, order: { name: 'ASC' } })).map(patient => patient.name)
  const { id, ...found } = await patients.findOneBy({ name: HANAKO.name, birth_date: HANAKO.birth_date })
  same([typeof id, found], ['string', HANAKO])
  same(await names({}), ORDERED)
  same(await names({ name: In([HANAKO.name, TARO.name]) }), ORDERED.slice(0, 2))
  same(await names({ name: Like('佐藤%') }), ORDERED.slice(0, 2))
  same(await names({ name: ILike('%一郎'), birth_date: IsNull() }), [NOBODY.name])
  same(await names({ birth_date: Between('2000-01-01', TARO.birth_date) }), [TARO.name])
  same(await names({ weight: MoreThan(0), visits: HANAKO.visits, smoker: false, seen_at: HANAKO.seen_at }), [HANAKO.name])
  same(await names({ photo: HANAKO.photo }), [HANAKO.name])
  same(await patients.sum('visits'), 2999999999)
  same(await patients.createQueryBuilder('p').select('p.name', 'name').addSelect('count(*)::int', 'n')
    .groupBy('p.name').having('p.name = :name', { name: HANAKO.name }).getRawMany(), [{ name: HANAKO.name, n: 1 }])
  await db.transaction(async manager => {
    await manager.query('SET LOCAL enable_seqscan = off')
    byIndex(await manager.query('EXPLAIN SELECT id FROM patient WHERE name = $1', [HANAKO.name]))
  })
}

async function checkChanges (db, patients) {
  const hanako = await patients.findOneBy({ name: HANAKO.name })
  await patients.save(Object.assign(hanako, { name: '鈴木', birth_date: TARO.birth_date }))
  same((await patients.findOneBy({ name: '鈴木' })).birth_date, TARO.birth_date)
  await patients.upsert([{ chart_no: 'H-1', name: HANAKO.name }], ['chart_no'])
  same((await patients.findOneBy({ chart_no: 'H-1' })).name, HANAKO.name)
  await fails('23505', patients.insert({ chart_no: 'H-1', name: 'twice' }))
  await fails('23P01', patients.insert({ chart_no: 'X', insurance_no: HANAKO.insurance_no, name: 'twice' }))
  await patients.insert(Array.from({ length: 300 }, (_, i) =>
    ({ chart_no: 'B-' + i, name: '患者', birth_date: TARO.birth_date })))
  same((await patients.update({ name: '患者' }, { name: '患者様' })).affected, 300)
  same((await patients.delete({ name: '患者様' })).affected, 300)
  await db.transaction(async manager => {
    await manager.delete('Patient', { name: HANAKO.name })
    throw new Error('rolled back')
  }).catch(error => same(error.message, 'rolled back'))
  await patients.remove(await patients.findBy({ name: NOBODY.name }))
  same(await patients.count(), 2)
}

main('typeorm', async () => {
  const db = await connect('ehr', ehr)
  const patients = db.getRepository('Patient')
  await patients.save(PATIENTS.map(patient => ({ ...patient })))
  await checkSearches(db, patients)
  await checkChanges(db, patients)
  await db.destroy()

  // One pool for all clinics: each transaction says whose it is.
  const shared = await connect('ehr', { max: 1 })
  for (const [clinic, count] of [['hakodate', 2], ['boston', 0]]) {
    await shared.transaction(async manager => {
      await manager.query("SELECT set_config('phi.clinic', $1, true)", [clinic])
      same(await manager.count('Patient'), count)
    })
    same(await shared.getRepository('Patient').count(), 0)
  }
  await shared.destroy()
})
