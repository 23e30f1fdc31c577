// A node of level "node" by mqtt.js and PROTOCOL.md alone: node.js URL NAME NODE. It serves the object of docs/protocol/cases.
'use strict'
const crypto = require('crypto')
const mqtt = require('mqtt')

const [url, name, id] = process.argv.slice(2)
const root = 'rantai'
const epoch = crypto.randomBytes(4).toString('hex')
const DAY = 86400
const LARGEST = 1 << 20
const BINARY_TYPE = 'application/octet-stream'
const number = { type: 'number' }
const integer = { type: 'integer' }
const string = { type: 'string' }
const binary = { type: 'string', format: 'binary' }
let runs = 0

class Fault extends Error {
  constructor (code, message, data = {}) {
    super(message)
    this.error = { code, message, data: { retryable: false, ...data } }
  }
}

const methods = {
  add: { params: { a: number, b: number }, run: ({ a, b }) => a + b },
  whole: { params: { number: integer }, run: ({ number }) => number },
  say: { params: { text: string }, run: ({ text }) => text },
  echo: { params: { value: {} }, optional: true, run: ({ value }) => value ?? null },
  fail: { params: { kind: string }, run: ({ kind }) => { throw new Fault(-32000, 'as asked', { kind }) } },
  size: { params: { data: binary }, run: ({ data }) => data.length },
  blob: { params: { count: integer }, result: binary, run: ({ count }) => Buffer.alloc(count, 'x') },
  wait: { params: { ms: integer }, run: ({ ms }) => { runs++; return new Promise(resolve => setTimeout(() => resolve(null), ms)) } },
  runs: { params: {}, run: () => ({ runs }) },
  count: { params: { to: integer }, run: ({ to }) => [...Array(to).keys()] }
}

const builtIn = {
  'rpc.ping': () => 'pong',
  'rpc.info': entry,
  'rpc.discover': () => ({
    openrpc: '1.3.2',
    info: { title: name, version: '1.0.0' },
    methods: Object.entries(methods).map(([name, { params, optional, result }]) => ({
      name,
      params: Object.entries(params).map(([name, schema]) => ({ name, required: !optional, schema })),
      result: { name: 'result', schema: result ?? {} }
    }))
  })
}

function entry () {
  return { v: 1, object: name, node: id, epoch, mode: 'exclusive', settled: true, version: '1.0.0', methods: Object.keys(methods) }
}

function checked (name, schema, value) {
  const right = schema === binary
    ? Buffer.isBuffer(value)
    : schema.type === 'integer' ? Number.isInteger(value) : schema.type === undefined || typeof value === schema.type
  if (!right) throw new Fault(-32602, `${name}: expected ${schema.type}`, { path: name, expected: schema.type })
  return value
}

function args (method, given) {
  const { params, optional } = methods[method]
  const names = Object.keys(params)
  if (Array.isArray(given)) {
    if (given.length > names.length) throw new Fault(-32602, 'too many parameters', { path: '', expected: names })
    given = Object.fromEntries(given.map((value, at) => [names[at], value]))
  }
  for (const name of Object.keys(given)) {
    if (!names.includes(name)) throw new Fault(-32602, `no parameter ${name}`, { path: name, expected: names })
  }
  return Object.fromEntries(names.filter(name => !optional || name in given).map(name => {
    if (!(name in given)) throw new Fault(-32602, `${name} is missing`, { path: name, expected: params[name].type })
    return [name, checked(name, params[name], given[name])]
  }))
}

// What a request in plain form has as parameters.
function plain (method, payload, isBinary) {
  if (isBinary) return [payload]
  if (!payload.length) return []
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(payload)
  } catch {
    throw new Fault(-32700, 'not UTF-8')
  }
  let value
  try {
    value = JSON.parse(text)
  } catch {
    if (/^[ \t\r\n\ufeff]*[[{]/.test(text)) throw new Fault(-32700, 'not JSON')
    return [text]
  }
  if (value !== null && typeof value === 'object') return value
  const schemas = Object.values(methods[method]?.params ?? {})
  return [typeof value !== 'string' && schemas.length === 1 && schemas[0] === string ? text : value]
}

// Requests that were carried out, by reply topic and correlation.
const seen = new Map()

async function requested (topic, payload, { properties = {}, retain }) {
  if (retain) return
  const received = Date.now()
  const user = properties.userProperties ?? {}
  const [kind, ...levels] = topic.slice(root.length + 1).split('/')
  const [object, method, ...more] = kind === 'at' ? levels.slice(1) : levels
  const correlation = properties.correlationData
  const request = { replyTo: properties.responseTopic, silent: user.oneway === '1', correlation, rpc: method === undefined, id: null }
  let answer
  let left
  try {
    if (more.length) throw new Fault(-32600, 'too many levels in the topic')
    let called = { method, ttl: user.ttl_ms }
    if (request.rpc) called = rpc(payload, request, user)
    else called.params = plain(method, payload, properties.contentType === BINARY_TYPE)
    const ttl = String(called.ttl ?? 30000)
    if (!/^\d+$/.test(ttl)) throw new Fault(-32602, 'ttl_ms is a number of milliseconds', { path: 'ttl_ms', expected: 'milliseconds' })
    left = Math.min(Number(ttl), (properties.messageExpiryInterval ?? 3600) * 1000, 3600000)
    if (left <= 0 || !hasReplyTopic(request)) return
    if (object !== name) throw new Fault(-32003, `no object ${object} on this node`)
    answer = await once(request, called, payload)
  } catch (fault) {
    answer = { outcome: fault }
  }
  if (left === undefined || Date.now() <= received + left) reply(request, answer)
}

function rpc (payload, request, user) {
  let value
  try {
    value = JSON.parse(payload.toString())
  } catch {
    throw new Fault(-32700, 'not JSON')
  }
  if (value === null || typeof value !== 'object' || typeof value.method !== 'string') {
    throw new Fault(-32600, 'not a JSON-RPC request; batches are not taken')
  }
  request.id = value.id ?? null
  request.replyTo ??= value.reply_to
  request.silent ||= !('id' in value)
  return { method: value.method, params: value.params ?? [], ttl: user.ttl_ms ?? value.ttl_ms }
}

function hasReplyTopic ({ replyTo, correlation }) {
  const topic = replyTo ?? `${root}/reply/${name}`
  return typeof topic === 'string' && topic.startsWith(`${root}/reply/`) && !/[+#]/.test(topic) && topic.length <= 256 &&
    (correlation?.length ?? 0) <= 64
}

async function once (request, called, payload) {
  const key = request.correlation?.toString('hex') ?? (typeof request.id === 'string' ? Buffer.from(request.id).toString('hex') : '')
  if (key.length < 32) return { outcome: await call(called) }
  const identity = `${request.replyTo} ${key}`
  const same = `${called.method} ${payload.toString('hex')}`
  const before = seen.get(identity)
  if (before && before.same !== same) throw new Fault(-32014, 'another request had this correlation')
  if (before) return { outcome: await before.outcome, dup: true }
  const outcome = call(called).catch(fault => fault)
  seen.set(identity, { same, outcome })
  return { outcome: await outcome }
}

async function call ({ method, params }) {
  if (Object.hasOwn(builtIn, method)) return builtIn[method]()
  if (!Object.hasOwn(methods, method)) throw new Fault(-32601, `no method ${method}`, { did_you_mean: [] })
  return await methods[method].run(args(method, params))
}

function reply (request, { outcome, dup }) {
  if (request.silent || !hasReplyTopic(request)) return
  if (outcome instanceof Error && !(outcome instanceof Fault)) outcome = new Fault(-32603, String(outcome))
  const error = outcome instanceof Fault ? outcome.error : undefined
  const isBytes = Buffer.isBuffer(outcome)
  let payload = isBytes ? outcome : JSON.stringify(error ? { error } : outcome)
  if (request.rpc) payload = JSON.stringify({ jsonrpc: '2.0', id: request.id, ...(error ? { error } : { result: outcome }) })
  if (payload.length > LARGEST) {
    return reply(request, { outcome: new Fault(-32007, 'the result is too large', { limit: LARGEST }) })
  }
  const properties = { userProperties: { status: error ? String(error.code) : 'ok', node: id, ...(dup ? { dup: '1' } : {}) } }
  if (request.correlation) properties.correlationData = request.correlation
  if (isBytes) properties.contentType = BINARY_TYPE
  client.publish(request.replyTo ?? `${root}/reply/${name}`, payload, { qos: 1, properties })
}

const state = word => JSON.stringify({ v: 1, state: word, epoch })
const kept = { qos: 1, retain: true, properties: { messageExpiryInterval: DAY } }
const will = { topic: `${root}/node/${id}`, payload: state('lost'), qos: 1, retain: true, properties: { messageExpiryInterval: DAY } }
const client = mqtt.connect(url, { protocolVersion: 5, clientId: id, will, resubscribe: false, keepalive: 30 })
client.on('connect', () => {
  const live = { qos: 1, rh: 2 }
  const filters = { [`$share/${name}/${root}/call/${name}/#`]: live, [`${root}/at/${id}/#`]: live, [`${root}/all/${name}/#`]: live }
  client.subscribe(filters, error => {
    if (error) throw error
    client.publish(`${root}/name/${name}/${id}`, JSON.stringify(entry()), kept)
    client.publish(`${root}/node/${id}`, state('ready'), kept)
  })
})
client.on('message', requested)
