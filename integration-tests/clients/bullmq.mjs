// BullMQ's jobs through its workers: scripts, streams and blocking calls.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PASSWORD, PORT, check, main, until } from './suite.mjs';

const require = createRequire(process.env.CLIENTS_DIR + '/');
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');

const connection = { port: PORT, password: PASSWORD };
const queue = new Queue('work', { connection });
// Many jobs wait for their end at once.
queue.setMaxListeners(100);
const events = new QueueEvents('work', { connection });
const worker = new Worker(
  'work',
  async (job) => {
    if (job.name === 'fail' && job.attemptsMade < 2) throw new Error('on purpose');
    await job.updateProgress(50);
    return { square: job.data.n ** 2 };
  },
  { connection, concurrency: 4 },
);
worker.on('error', (error) => {
  throw error;
});
await events.waitUntilReady();

check('jobs run and tell their results', async () => {
  const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'square', data: { n } })));
  const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 20_000)));
  assert.deepEqual(results.map((result) => result.square), Array.from({ length: 50 }, (_, n) => n ** 2));
  assert.equal((await queue.getJobCounts()).completed, 50);
});

check('a job that fails is tried again', async () => {
  const job = await queue.add('fail', { n: 3 }, { attempts: 3, backoff: { type: 'fixed', delay: 20 } });
  assert.deepEqual(await job.waitUntilFinished(events, 20_000), { square: 9 });
  const last = await queue.add('fail', { n: 3 });
  await assert.rejects(last.waitUntilFinished(events, 20_000), /on purpose/);
  assert.equal((await queue.getFailed())[0].id, last.id);
});

check('jobs wait for their time and their turn', async () => {
  const delayed = await queue.add('later', { n: 2 }, { delay: 100 });
  assert.deepEqual(await delayed.waitUntilFinished(events, 20_000), { square: 4 });
  await worker.pause();
  const low = await queue.add('low', { n: 5 }, { priority: 10 });
  const high = await queue.add('high', { n: 6 }, { priority: 1 });
  const order = [];
  worker.on('completed', (job) => order.push(job.name));
  worker.concurrency = 1;
  worker.resume();
  await Promise.all([low, high].map((job) => job.waitUntilFinished(events, 20_000)));
  await until(() => order.length === 2, 'both are told');
  assert.deepEqual(order, ['high', 'low']);
});

check('a flow ends with its parent', async () => {
  const producer = new FlowProducer({ connection });
  const child = (n) => ({ name: 'child', queueName: 'work', data: { n } });
  const flow = await producer.add({ name: 'parent', queueName: 'work', data: { n: 7 }, children: [child(1), child(2)] });
  assert.deepEqual(await flow.job.waitUntilFinished(events, 20_000), { square: 49 });
  assert.equal(Object.keys(await flow.job.getChildrenValues()).length, 2);
  await producer.close();
});

await main(async () => {
  await worker.close(true);
  await events.close();
  await queue.close();
});
