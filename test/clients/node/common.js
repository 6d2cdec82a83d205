// What the clients of Node.js share: the patients, and how to compare.
'use strict'
const assert = require('node:assert/strict')
const { Client, types } = require('pg')

// node-postgres gives dates as midnight in the client's zone, and bigint and
// numeric as strings, of plain columns too. Only the date is told otherwise here.
types.setTypeParser(types.builtins.DATE, String)

exports.HANAKO = {
  chart_no: 'H-1', insurance_no: '0612', name: '佐藤 花子', birth_date: '1950-02-28',
  seen_at: new Date('2026-03-01T09:30:00Z'), weight: '52.40', visits: '3000000000', smoker: false,
  record: { 薬: ['アスピリン', null], n: 1.5 }, photo: Buffer.from([0x89, 0x50, 0, 0xff])
}
exports.TARO = {
  chart_no: 'H-2', insurance_no: '0613', name: '佐藤 太郎', birth_date: '2024-02-29',
  seen_at: new Date('1999-12-31T23:59:59.999Z'), weight: '-0.001', visits: '-1', smoker: true,
  record: { beds: 4 }, photo: Buffer.alloc(0)
}
exports.NOBODY = {
  chart_no: 'H-3', insurance_no: null, name: '高橋 一郎', birth_date: null, seen_at: null, weight: null,
  visits: null, smoker: null, record: null, photo: null
}
exports.PATIENTS = [exports.HANAKO, exports.TARO, exports.NOBODY]
exports.COLUMNS = Object.keys(exports.HANAKO)
exports.ORDERED = [exports.TARO.name, exports.HANAKO.name, exports.NOBODY.name]

exports.same = assert.deepEqual

/** Checks that the server refuses what the promise stands for. */
exports.fails = (sqlstate, promise) => assert.rejects(promise,
  error => (error.code ?? error.original?.code ?? error.driverError?.code) === sqlstate)

/** Checks that a plan, an array of rows or of lines, searches by index. */
exports.byIndex = plan => assert.match(JSON.stringify(plan), /Index Cond/)

/** The settings of a connection: PGHOST, PGPORT and PGDATABASE lead to the cluster. */
exports.login = (user, more = {}) => ({
  host: process.env.PGHOST, port: Number(process.env.PGPORT), database: process.env.PGDATABASE, user, ...more
})
exports.ehr = { options: '-c phi.clinic=hakodate' }

exports.connect = async (user, more) => {
  const client = new Client(exports.login(user, more))
  await client.connect()
  return client
}

/** Runs a client's test, and prints its name and version in the end. */
exports.main = (name, work) => work().then(
  () => console.log(name, require('./package.json').dependencies[name]),
  error => { console.error(error); process.exit(1) })
