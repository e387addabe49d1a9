// ioredis against a server on a port.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { ALL_BYTES, PASSWORD, PORT, SCRIPTS, check, main, raises, until } from './suite.mjs';

const require = createRequire(process.env.CLIENTS_DIR + '/');
const { Redis } = require('ioredis');

const open = [];

function connect(options = {}) {
  const client = new Redis({ port: PORT, password: PASSWORD, maxRetriesPerRequest: 0, ...options });
  open.push(client);
  return client;
}

const redis = connect();

check('connections and passwords', async () => {
  assert.equal(await redis.ping(), 'PONG');
  const stranger = connect({ password: undefined, enableReadyCheck: false, retryStrategy: null });
  await raises(stranger.get('x'), /NOAUTH/);
  await raises(redis.call('AUTH', 'wrong'), /WRONGPASS/);
  const named = connect({ connectionName: 'suite', db: 5 });
  assert.match(await named.client('INFO'), /name=suite .*db=5 /);
  assert.match(await redis.info('server'), /redis_version:7\./);
});

check('pipelines', async () => {
  await redis.flushdb();
  const pipeline = redis.pipeline();
  for (let i = 0; i < 2000; i++) pipeline.set(`k${i}`, i).incrby(`k${i}`, 5);
  const answers = await pipeline.exec();
  assert.equal(answers.length, 4000);
  assert.deepEqual(answers[3999], [null, 2004]);
  const mixed = await redis.pipeline().get('k1').lpush('k1', 'x').get('k2').exec();
  assert.match(mixed[1][0].message, /WRONGTYPE/);
  assert.deepEqual(mixed[2], [null, '7']);
});

check('transactions with watch', async () => {
  await redis.set('balance', '10');
  const watcher = connect();
  await watcher.watch('balance');
  await redis.set('balance', '99');
  assert.equal(await watcher.multi().set('balance', 1).exec(), null);
  assert.deepEqual(await watcher.multi().incr('balance').get('balance').exec(), [
    [null, 100],
    [null, '100'],
  ]);
  await raises(redis.multi().set('a', 1).call('NOSUCH').exec(), /EXECABORT/);
});

check('publish and subscribe', async () => {
  const subscriber = connect();
  const got = [];
  subscriber.on('messageBuffer', (channel, message) => got.push([channel, message]));
  subscriber.on('pmessage', (pattern, channel, message) => got.push([pattern, channel, message]));
  assert.equal(await subscriber.subscribe('news', 'binary'), 2);
  await subscriber.psubscribe('n?ws*');
  assert.equal(await redis.publish('news', 'hello'), 2);
  assert.equal(await redis.publish('binary', ALL_BYTES), 1);
  await until(() => got.length === 3, 'three messages');
  assert.deepEqual(got[2], [Buffer.from('binary'), ALL_BYTES]);
  assert.equal(await subscriber.unsubscribe('news', 'binary'), 1);
  assert.equal(await subscriber.punsubscribe('n?ws*'), 0);
  assert.equal(await subscriber.ping(), 'PONG');
});

check('blocking calls', async () => {
  const waiter = connect();
  await redis.del('queue', 'other');
  const taken = waiter.blpop('queue', 'other', 20);
  await until(async () => /blocked_clients:1/.test(await redis.info('clients')), 'BLPOP waits');
  await redis.rpush('other', 'x', 'y');
  assert.deepEqual(await taken, ['other', 'x']);
  assert.equal(await waiter.blpop('queue', 0.05), null);
  assert.equal(await waiter.blmove('other', 'queue', 'LEFT', 'RIGHT', 1), 'y');
});

check('iterators', async () => {
  await redis.flushdb();
  const pipeline = redis.pipeline();
  for (let i = 0; i < 3000; i++) pipeline.set(`key:${i}`, i).hset('hash', `f${i}`, i).zadd('zset', i, `m${i}`);
  await pipeline.exec();
  const all = async (stream) => {
    const found = [];
    for await (const batch of stream) found.push(...batch);
    return found;
  };
  assert.equal(new Set(await all(redis.scanStream({ match: 'key:*', count: 100 }))).size, 3000);
  assert.equal((await all(redis.hscanStream('hash', { count: 100 }))).length, 6000);
  assert.equal((await all(redis.zscanStream('zset', { count: 100 }))).length, 6000);
  assert.deepEqual(await all(redis.scanStream({ type: 'zset' })), ['zset']);
});

check('streams and groups', async () => {
  await redis.del('stream');
  const ids = [];
  for (let i = 0; i < 10; i++) ids.push(await redis.xadd('stream', '*', 'n', i));
  await redis.xgroup('CREATE', 'stream', 'group', '0');
  const read = async (name, count) => {
    const [[, entries]] = await redis.xreadgroup('GROUP', 'group', name, 'COUNT', count, 'STREAMS', 'stream', '>');
    return entries.map(([id]) => id);
  };
  assert.deepEqual(await read('one', 4), ids.slice(0, 4));
  assert.deepEqual(await read('two', 3), ids.slice(4, 7));
  assert.equal(await redis.xack('stream', 'group', ...ids.slice(0, 2)), 2);
  assert.equal((await redis.xpending('stream', 'group'))[0], 5);
  const claimed = await redis.xautoclaim('stream', 'group', 'three', 0, '0');
  assert.deepEqual(claimed[1].map(([id]) => id), ids.slice(2, 7));
  const waiter = connect();
  const next = waiter.xread('BLOCK', 20_000, 'STREAMS', 'stream', '$');
  await until(async () => /blocked_clients:1/.test(await redis.info('clients')), 'XREAD waits');
  const id = await redis.xadd('stream', '*', 'k', ALL_BYTES);
  assert.equal((await next)[0][1][0][0], id);
});

check('large and binary values', async () => {
  const big = Buffer.alloc(16 << 20, ALL_BYTES);
  await redis.set('big', big);
  assert((await redis.getBuffer('big')).equals(big));
  await redis.set(ALL_BYTES, ALL_BYTES);
  assert.deepEqual(await redis.getBuffer(ALL_BYTES), ALL_BYTES);
  await redis.hset('binary', ALL_BYTES, '');
  assert.deepEqual(await redis.hgetallBuffer('binary').then((h) => Object.keys(h).length), 1);
  await redis.del('big');
});

check('scripts', async () => {
  if (!SCRIPTS) return 'the server has no scripts';
  redis.defineCommand('keep', { numberOfKeys: 1, lua: "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])" });
  await redis.script('FLUSH');
  assert.deepEqual(await redis.keepBuffer('s', ALL_BYTES), ALL_BYTES);
  // The pipeline first asks what the server knows, then EVALSHA.
  const answers = await redis.pipeline().keep('s', 'a').keep('s', 'b').exec();
  assert.deepEqual(answers, [[null, 'a'], [null, 'b']]);
  await raises(redis.eval("return redis.error_reply('MINE x')", 0), /MINE/);
});

await main(() => Promise.all(open.map((client) => client.disconnect())));
