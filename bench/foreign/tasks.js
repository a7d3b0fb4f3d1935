'use strict';
// What calls do, in piscina's threads and in workerpool's processes.

const net = require('net');
const { createRequire } = require('module');

const tasks = {
  next: (n) => n + 1,
  spin: (n) => {
    for (const end = process.hrtime.bigint() + BigInt(n); process.hrtime.bigint() < end; );
    return n + 1;
  },
  echo: (payload) => payload,
  // Comes to a meeting and returns when it is over.
  attend: (address) =>
    new Promise((resolve, reject) => {
      const s = net.connect(address);
      s.on('error', reject);
      s.on('close', () => resolve(0));
      s.resume();
    }),
};

module.exports = tasks;

if (process.send) {
  createRequire(process.env.BENCH_NODE_MODULES + '/')('workerpool').worker(tasks);
}
