// One side of Node's bullmq in a process of its own, the same as child.py for Python:
// node bullmq.mjs ROLE URL COUNT [TASK]. The last line on stdout is a JSON object of figures.
import { appendFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// The package is installed in a folder that is not above this file.
const { Queue, Worker } = createRequire(process.env.BENCH_NODE + "/")("bullmq");

const NAME = "bench";
const NAP_MS = 10;
const CHUNK = 1000;
const options = { attempts: 3, backoff: { type: "exponential", delay: 1000 } };

const [role, url, counted, task = "noop"] = process.argv.slice(2);
const count = Number(counted);
const address = new URL(url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const now = () => Number(process.hrtime.bigint());

async function single(queue) {
  await queue.add(task, { number: 0 }, options);
  const begun = now();
  for (let number = 0; number < count; number++) await queue.add(task, { number }, options);
  return { single_per_s: count / ((now() - begun) / 1e9) };
}

async function bulk(queue) {
  const begun = now();
  for (let start = 0; start < count; start += CHUNK) {
    const jobs = [];
    for (let number = start; number < Math.min(start + CHUNK, count); number++) {
      const opts = process.env.BENCH_IDS ? { ...options, jobId: `job-${String(number).padStart(16, "0")}` } : options;
      jobs.push({ name: task, data: { number }, opts });
    }
    await queue.addBulk(jobs);
  }
  return { bulk_per_s: count / ((now() - begun) / 1e9) };
}

async function send(queue) {
  await queue.add(task, { number: now() }, options);
  while (!existsSync(process.env.BENCH_WAITS)) await sleep(10);
  await sleep(300);
  for (let sent = 0; sent < count; sent++) {
    await queue.add(task, { number: now() }, options);
    await sleep(20 * (0.5 + Math.random()));
  }
  return {};
}

async function run({ name, data }) {
  if (name === "nap") await sleep(NAP_MS);
  else if (name === "stamp") appendFileSync(process.env.BENCH_WAITS, `${(now() - data.number) / 1e6}\n`);
  return data.number;
}

if (role === "work") {
  new Worker(NAME, run, { connection, concurrency: count }).on("error", console.error);
} else {
  const queue = new Queue(NAME, { connection });
  await queue.waitUntilReady();
  console.log(JSON.stringify(await { single, bulk, send }[role](queue)));
  await queue.close();
  process.exit(0);
}
