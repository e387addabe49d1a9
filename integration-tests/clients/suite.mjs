// Small checks that run one after the other, each named; what RedRock's tests start.

import assert from 'node:assert/strict';

export const PORT = Number(process.env.PORT);
export const PASSWORD = process.env.PASSWORD;
// Whether the server has scripts, and client-side caching.
export const SCRIPTS = process.env.SCRIPTS === '1';

// Every byte value.
export const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

const checks = [];

// Registers a check; it may return why it is left out.
export function check(name, body) {
  checks.push([name, body]);
}

// The error that a promise fails with.
export async function raises(promise, pattern) {
  await assert.rejects(promise, pattern);
}

// Waits until a condition holds.
export async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    assert(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// Runs all checks; the first that fails ends the run.
export async function main(finish) {
  for (const [name, body] of checks) {
    const began = Date.now();
    const leftOut = await body();
    const word = leftOut ? `left out: ${leftOut}` : `${Date.now() - began} ms`;
    console.log(`ok ${name} ${word}`);
  }
  await finish();
  process.exit(0);
}
