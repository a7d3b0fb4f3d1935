'use strict';
// Runs one row of the group processes on a pool of Node's.
//
// usage: node processes.js MODULES piscina|workerpool WORK
//        node processes.js MODULES versions
//
// MODULES is the folder of the packages, WORK is JSON: see the package remote, which measures by
// the same rules. It prints how many calls took how many nanoseconds, and other figures, as JSON.

const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const { createRequire } = require('module');

const modules = process.argv[2];
const get = createRequire(modules + '/');
const script = path.join(__dirname, 'tasks.js');
const WARM_UP = 100e6;

const now = () => Number(process.hrtime.bigint());
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const at = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
};
const sum = (values) => values.reduce((a, b) => a + b, 0);
const expect = (got, want) => {
  if (got !== want) throw new Error(`a call has result ${got}, want ${want}`);
};

// The pools: each has run, which answers a promise, and close.
const pools = {
  piscina: (workers) => {
    const { Piscina } = get('piscina');
    const pool = new Piscina({ filename: script, minThreads: workers, maxThreads: workers });
    return {
      // piscina gives a worker's task file one export to run by name.
      run: (name, arg) => pool.run(arg, { name }),
      close: () => pool.destroy(),
    };
  },
  workerpool: (workers) => {
    const pool = get('workerpool').pool(script, {
      workerType: 'process',
      minWorkers: workers,
      maxWorkers: workers,
      // Otherwise payloads travel as JSON.
      forkOpts: { serialization: 'advanced', env: { ...process.env, BENCH_NODE_MODULES: modules } },
    });
    return { run: (name, arg) => pool.exec(name, [arg]), close: () => pool.terminate() };
  },
};

// meet returns when each worker runs a call at the same time as all others.
async function meet(pool, n) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'meet'));
  const came = [];
  let all;
  const there = new Promise((resolve) => (all = resolve));
  const server = net.createServer((c) => {
    came.push(c);
    if (came.length === n) all();
  });
  const address = path.join(dir, 's');
  await new Promise((resolve) => server.listen(address, resolve));
  const results = Array.from({ length: n }, () => pool.run('attend', address));
  await there;
  for (const c of came) c.destroy();
  await Promise.all(results);
  server.close();
  fs.rmSync(dir, { recursive: true });
}

async function ready(work, open) {
  const pool = open(work.workers);
  await meet(pool, work.workers);
  return pool;
}

const shapes = {
  one: async (work, open) => {
    const pool = await ready(work, open);
    for (const start = now(); now() - start < Math.min(WARM_UP, work.least); ) await pool.run('next', 1);
    const took = [];
    for (const start = now(); took.length < work.calls || now() - start < work.least; ) {
      if (work.each) await sleep(work.each / 1e6);
      const begin = now();
      const got = await pool.run('next', took.length);
      took.push(now() - begin);
      expect(got, took.length);
    }
    await pool.close();
    return [took.length, sum(took), { 'median µs': at(took, 0.5) / 1e3, 'p99 µs': at(took, 0.99) / 1e3 }];
  },

  fan: async (work, open) => {
    const pool = await ready(work, open);
    const body = work.body || 'next';
    const args = Array.from({ length: work.calls }, (_, i) => (body === 'spin' ? work.each : i + 1));
    const run = (args) => Promise.all(args.map((n) => pool.run(body, n)));
    await run(args.slice(0, Math.max(1, args.length / 10)));
    let calls = 0;
    let nanos = 0;
    let out;
    const start = now();
    do {
      out = await run(args);
      calls += args.length;
      nanos = now() - start;
    } while (nanos < work.least);
    args.forEach((n, i) => expect(out[i], n + 1));
    await pool.close();
    return [calls, nanos, {}];
  },

  echo: async (work, open) => {
    const pool = await ready(work, open);
    const payloads = Array.from({ length: work.flying }, (_, i) => new Uint8Array(work.bytes).fill(i + 1));
    for (const p of payloads) expect(Buffer.compare(await pool.run('echo', p), p), 0);
    let sent = 0;
    const start = now();
    const lane = async (p) => {
      while (sent < work.calls || now() - start < work.least) {
        sent++;
        const got = await pool.run('echo', p);
        expect(got.length, p.length);
        expect(got[got.length - 1], p[p.length - 1]);
      }
    };
    await Promise.all(payloads.map(lane));
    const nanos = now() - start;
    await pool.close();
    return [sent, nanos, {}];
  },

  start: async (work, open) => {
    const took = [];
    while (took.length < work.calls) {
      const begin = now();
      const pool = open(work.workers);
      const got = await pool.run('next', 1);
      took.push(now() - begin);
      await pool.close();
      expect(got, 2);
    }
    return [took.length, sum(took), { 'first ms': at(took, 0.5) / 1e6 }];
  },

  startall: async (work, open) => {
    const first = [];
    const took = [];
    while (took.length < work.calls) {
      let begin = now();
      let pool = open(work.workers);
      const results = Array.from({ length: work.workers }, (_, i) => pool.run('next', i));
      await Promise.race(results);
      first.push(now() - begin);
      await Promise.all(results);
      await pool.close();

      begin = now();
      pool = open(work.workers);
      await meet(pool, work.workers);
      took.push(now() - begin);
      await pool.close();
    }
    return [took.length, sum(took), { 'first ms': at(first, 0.5) / 1e6, 'all ms': at(took, 0.5) / 1e6 }];
  },
};

// versions returns those of what is installed.
function versions() {
  const found = { node: process.versions.node };
  for (const name of ['piscina', 'workerpool']) {
    try {
      found[name] = JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'))).version;
    } catch (err) {
      if (err.code !== 'ENOENT') throw err;
    }
  }
  return found;
}

async function main([kind, text]) {
  if (kind === 'versions') {
    console.log(JSON.stringify(versions()));
    return;
  }
  const work = JSON.parse(text);
  const [calls, nanos, figures] = await shapes[work.shape](work, pools[kind]);
  console.log(JSON.stringify({ calls, nanos: Math.round(nanos), figures }));
}

main(process.argv.slice(3)).catch((err) => {
  console.error(err);
  process.exit(1);
});
