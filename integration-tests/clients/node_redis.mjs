// node-redis against a server on a port, in both protocols.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { ALL_BYTES, PASSWORD, PORT, SCRIPTS, check, main, raises, until } from './suite.mjs';

const require = createRequire(process.env.CLIENTS_DIR + '/');
const { RESP_TYPES, createClient, defineScript } = require('redis');

const open = [];

async function connect(options = {}) {
  const { port = PORT, ...rest } = options;
  const client = createClient({ socket: { port, reconnectStrategy: false }, password: PASSWORD, ...rest });
  client.on('error', () => {});
  await client.connect();
  open.push(client);
  return client;
}

const keep = defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])",
  parseCommand: (parser, key, value) => {
    parser.pushKey(key);
    parser.push(value);
  },
  transformReply: (reply) => reply,
});

const both = [await connect({ RESP: 2, scripts: { keep } }), await connect({ RESP: 3, scripts: { keep } })];
const buffers = (client) => client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

check('connections and passwords', async () => {
  for (const client of both) assert.equal(await client.ping(), 'PONG');
  await raises(connect({ password: 'wrong' }), /WRONGPASS/);
  const stranger = await connect({ password: undefined, RESP: 2 }).catch((error) => error);
  if (!(stranger instanceof Error)) await raises(stranger.get('x'), /NOAUTH/);
  else assert.match(stranger.message, /NOAUTH/);
  const named = await connect({ name: 'suite', database: 5, RESP: 3 });
  const info = await named.clientInfo();
  assert.equal(info.name, 'suite');
  assert.equal(info.db, 5);
  assert.equal((await named.hello()).proto, 3);
});

check('pipelines', async () => {
  for (const client of both) {
    await client.flushDb();
    const answers = await Promise.all(Array.from({ length: 3000 }, (_, i) => client.incrBy(`k${i % 100}`, i)));
    assert.equal(answers[99], 99);
    await client.set('text', 'x');
    const mixed = await Promise.allSettled([client.get('k1'), client.lPush('text', 'y'), client.get('text')]);
    assert.deepEqual(mixed.map((one) => one.status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.match(mixed[1].reason.message, /WRONGTYPE/);
  }
});

check('transactions with watch', async () => {
  for (const client of both) {
    await client.set('balance', '10');
    const watcher = await client.duplicate().connect();
    open.push(watcher);
    await watcher.watch('balance');
    await client.set('balance', '99');
    await raises(watcher.multi().set('balance', '1').exec(), /watched/i);
    assert.deepEqual(await watcher.multi().incr('balance').get('balance').exec(), [100, '100']);
  }
});

check('publish and subscribe', async () => {
  for (const client of both) {
    const subscriber = await client.duplicate().connect();
    open.push(subscriber);
    const got = [];
    await subscriber.subscribe('news', (message, channel) => got.push([channel, message]));
    await subscriber.pSubscribe('n?ws*', (message, channel) => got.push([channel, message]));
    await subscriber.subscribe('binary', (message) => got.push(message), true);
    assert.equal(await client.publish('news', 'hello'), 2);
    assert.equal(await client.publish('binary', ALL_BYTES), 1);
    await until(() => got.length === 3, 'three messages');
    assert.deepEqual(got[2], ALL_BYTES);
    await subscriber.unsubscribe('news');
    await subscriber.unsubscribe('binary', undefined, true);
    await subscriber.pUnsubscribe('n?ws*');
  }
});

check('blocking calls', async () => {
  for (const client of both) {
    const waiter = await client.duplicate().connect();
    open.push(waiter);
    await client.del(['queue', 'scores']);
    const taken = waiter.blPop('queue', 20);
    await until(async () => /blocked_clients:1/.test(await client.info('clients')), 'BLPOP waits');
    await client.rPush('queue', ['x', 'y']);
    assert.deepEqual({ ...(await taken) }, { key: 'queue', element: 'x' });
    const lowest = waiter.bzPopMin('scores', 20);
    await until(async () => /blocked_clients:1/.test(await client.info('clients')), 'BZPOPMIN waits');
    await client.zAdd('scores', { score: 1.5, value: 'm' });
    assert.deepEqual({ ...(await lowest) }, { key: 'scores', value: 'm', score: 1.5 });
    assert.equal(await waiter.blPop('scoreless', 0.05), null);
  }
});

check('iterators', async () => {
  for (const client of both) {
    await client.flushDb();
    await client.mSet(Array.from({ length: 3000 }, (_, i) => [`key:${i}`, `${i}`]));
    await client.hSet('hash', Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`f${i}`, `${i}`])));
    const keys = new Set();
    for await (const batch of client.scanIterator({ MATCH: 'key:*', COUNT: 100 })) for (const key of batch) keys.add(key);
    assert.equal(keys.size, 3000);
    const fields = new Set();
    for await (const batch of client.hScanIterator('hash', { COUNT: 100 })) for (const { field } of batch) fields.add(field);
    assert.equal(fields.size, 3000);
  }
});

check('streams and groups', async () => {
  // Of RESP3's replies to XREADGROUP it makes nothing yet.
  for (const client of both.slice(0, 1)) {
    await client.del('stream');
    const ids = [];
    for (let i = 0; i < 10; i++) ids.push(await client.xAdd('stream', '*', { n: `${i}` }));
    await client.xGroupCreate('stream', 'group', '0');
    const read = async (name, COUNT) => {
      const reply = await client.xReadGroup('group', name, { key: 'stream', id: '>' }, { COUNT });
      return reply[0].messages.map(({ id }) => id);
    };
    assert.deepEqual(await read('one', 4), ids.slice(0, 4));
    assert.deepEqual(await read('two', 3), ids.slice(4, 7));
    assert.equal(await client.xAck('stream', 'group', ids.slice(0, 2)), 2);
    assert.equal((await client.xPending('stream', 'group')).pending, 5);
    const claimed = await client.xAutoClaim('stream', 'group', 'three', 0, '0');
    assert.deepEqual(claimed.messages.map(({ id }) => id), ids.slice(2, 7));
    assert.equal((await client.xInfoStream('stream')).length, 10);
  }
});

check('large and binary values', async () => {
  for (const client of both) {
    const big = Buffer.alloc(16 << 20, ALL_BYTES);
    await client.set('big', big);
    assert((await buffers(client).get('big')).equals(big));
    await client.set(ALL_BYTES, ALL_BYTES);
    assert.deepEqual(await buffers(client).get(ALL_BYTES), ALL_BYTES);
    await client.del('big');
  }
});

check('client-side cache', async () => {
  const [other] = both;
  const cache = new (require('redis').BasicClientSideCache)({ ttl: 0, maxEntries: 100 });
  const cached = await connect({ RESP: 3, clientSideCache: cache });
  await other.set('cached', 'old');
  assert.equal(await cached.get('cached'), 'old');
  assert.equal(await cached.get('cached'), 'old');
  assert.equal(cache.stats().hitCount, 1);
  await other.set('cached', 'new');
  await until(async () => (await cached.get('cached')) === 'new', 'the cache hears of the change');
});

check('scripts', async () => {
  if (!SCRIPTS) return 'the server has no scripts';
  for (const client of both) {
    await client.scriptFlush();
    // EVALSHA fails, then EVAL.
    assert.equal(await client.keep('s', 'a'), 'a');
    assert.equal(await client.keep('s', 'b'), 'b');
    assert.deepEqual(await client.eval("return {1, 'two', {3}}"), [1, 'two', [3]]);
    await raises(client.eval("return redis.error_reply('MINE x')"), /MINE/);
  }
});

await main(() => open.forEach((client) => client.isOpen && client.destroy()));
