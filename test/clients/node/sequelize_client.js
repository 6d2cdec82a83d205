// Sequelize: a model as for plain columns, on a table that SQL has made.
'use strict'
const { DataTypes, Op, Sequelize, col, fn } = require('sequelize')
const { COLUMNS, HANAKO, NOBODY, ORDERED, PATIENTS, TARO, byIndex, ehr, fails, login, main, same } = require('./common.js')

const connect = (user, more = {}) => {
  const { host, port, database } = login(user)
  return new Sequelize(database, user, null, { dialect: 'postgres', host, port, logging: false, ...more })
}

const model = db => db.define('patient', {
  id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true },
  chart_no: { type: DataTypes.STRING, unique: true },
  insurance_no: DataTypes.STRING,
  name: { type: DataTypes.STRING, allowNull: false },
  birth_date: DataTypes.DATEONLY,
  seen_at: DataTypes.DATE,
  weight: DataTypes.DECIMAL,
  visits: DataTypes.BIGINT,
  smoker: DataTypes.BOOLEAN,
  record: DataTypes.JSONB,
  photo: DataTypes.BLOB
}, { tableName: 'patient', timestamps: false })

async function checkSearches (Patient, db) {
  const names = async where => (await Patient.findAll({ where, order: ['name'] })).map(patient => patient.name)
  same((await Patient.findOne({ where: { name: HANAKO.name, birth_date: HANAKO.birth_date }, attributes: COLUMNS }))
    .get({ plain: true }), HANAKO)
  same(await names({}), ORDERED)
  same(await names({ name: [HANAKO.name, TARO.name] }), ORDERED.slice(0, 2))
  same(await names({ name: { [Op.startsWith]: '佐藤' } }), ORDERED.slice(0, 2))
  same(await names({ name: { [Op.iLike]: '%一郎' } }), [NOBODY.name])
  same(await names({ birth_date: { [Op.between]: ['2000-01-01', TARO.birth_date] } }), [TARO.name])
  same(await names({ weight: { [Op.gt]: 0 }, visits: 3000000000, smoker: false, seen_at: HANAKO.seen_at }), [HANAKO.name])
  same(await names({ photo: HANAKO.photo }), [HANAKO.name])
  same(await names({ 'record.n': 1.5 }), [HANAKO.name])
  same(await names({ birth_date: null }), [NOBODY.name])
  same(await Patient.count({ where: { name: HANAKO.name }, distinct: true, col: 'name' }), 1)
  same([await Patient.min('birth_date'), await Patient.sum('visits')], [HANAKO.birth_date, 2999999999])
  same((await Patient.findAll({ attributes: ['name', [fn('count', col('id')), 'n']], group: 'name', order: ['name'] }))
    .map(row => row.get('n')), ['1', '1', '1'])
  await db.transaction(async transaction => {
    await db.query('SET LOCAL enable_seqscan = off', { transaction })
    byIndex(await db.query('EXPLAIN SELECT id FROM patient WHERE name = $1', { bind: [HANAKO.name], transaction }))
  })
}

async function checkChanges (Patient, db) {
  const hanako = await Patient.findOne({ where: { name: HANAKO.name } })
  await hanako.update({ name: '鈴木', birth_date: TARO.birth_date })
  await hanako.reload()
  same([hanako.name, hanako.birth_date], ['鈴木', TARO.birth_date])
  same((await Patient.upsert({ chart_no: 'H-1', name: HANAKO.name }, { conflictFields: ['chart_no'] }))[0].name, HANAKO.name)
  same((await Patient.findOrCreate({ where: { chart_no: 'H-1' }, defaults: { name: 'twice' } }))[1], false)
  same((await Patient.findOrCreate({ where: { chart_no: 'H-4' }, defaults: { name: NOBODY.name } }))[1], true)
  await fails('23505', Patient.create({ chart_no: 'H-1', name: 'twice' }))
  await fails('23P01', Patient.create({ chart_no: 'X', insurance_no: HANAKO.insurance_no, name: 'twice' }))
  const many = Array.from({ length: 300 }, (_, i) => ({ chart_no: 'B-' + i, name: '患者', birth_date: TARO.birth_date }))
  await Patient.bulkCreate(many)
  await Patient.bulkCreate(many.map(patient => ({ ...patient, name: '患者様' })),
    { updateOnDuplicate: ['name'], conflictAttributes: ['chart_no'] })
  same(await Patient.destroy({ where: { name: '患者様' } }), 300)
  await db.transaction(async transaction => {
    await Patient.destroy({ where: { name: HANAKO.name }, transaction })
    throw new Error('rolled back')
  }).catch(error => same(error.message, 'rolled back'))
  same(await Patient.destroy({ where: { name: NOBODY.name } }), 2)
  same(await Patient.count(), 2)
}

main('sequelize', async () => {
  const db = connect('ehr', { dialectOptions: ehr })
  const Patient = model(db)
  for (const patient of PATIENTS) await Patient.create(patient)
  await checkSearches(Patient, db)
  await checkChanges(Patient, db)
  // The names of the columns' own types are all that it sees in the catalogue.
  same((await db.getQueryInterface().describeTable('patient')).birth_date.type, 'ENCDATE')
  await db.close()

  // One pool for all clinics: each transaction says whose it is.
  const shared = connect('ehr', { pool: { max: 1 } })
  const SharedPatient = model(shared)
  for (const [clinic, count] of [['hakodate', 2], ['boston', 0]]) {
    await shared.transaction(async transaction => {
      await shared.query("SELECT set_config('phi.clinic', $1, true)", { bind: [clinic], transaction })
      same(await SharedPatient.count({ transaction }), count)
    })
    same(await SharedPatient.count(), 0)
  }
  await shared.close()
})
