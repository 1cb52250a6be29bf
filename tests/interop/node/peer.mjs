// One real BullMQ: node peer.mjs <package> <port> [prefix] [cluster]. Queues, jobs, flows, workers and listeners by request.
import { serve, say } from "./lines.mjs";
import { handler } from "./handlers.mjs";

const [packageName, port, prefix = "bull", kind = "single"] = process.argv.slice(2);
const { Queue, Job, FlowProducer, Worker, QueueEvents, UnrecoverableError } = await import(packageName);
const place = { host: "127.0.0.1", port: Number(port) };
const connection =
  kind === "cluster"
    ? new (await import("ioredis")).Cluster([place], { redisOptions: { maxRetriesPerRequest: null } })
    : { ...place, maxRetriesPerRequest: null };

const queues = new Map();
const closable = [];
let flows;

function opened(Kind, name, options = {}) {
  const made = new Kind(name, { connection, prefix, ...options });
  made.on("error", (error) => say({ notice: "error", queue: name, message: String(error.message) }));
  closable.push(made);
  return made;
}

function queue(name) {
  if (!queues.has(name)) queues.set(name, opened(Queue, name));
  return queues.get(name);
}

async function job(name, id) {
  const found = await Job.fromId(queue(name), id);
  if (!found) throw new Error(`no job ${id} in ${name}`);
  return found;
}

const EVENTS = [
  "added", "waiting", "active", "progress", "delayed", "completed", "failed", "stalled", "retries-exhausted", "paused",
  "resumed", "removed", "cleaned", "drained", "duplicated", "waiting-children",
];

const operations = {
  queue: async ({ queue: name, method, args = [] }) => await queue(name)[method](...args),
  job: async ({ queue: name, id, method, args = [] }) => await (await job(name, id))[method](...args),
  get: async ({ queue: name, id }) => (await Job.fromId(queue(name), id)) ?? null,
  logs: async ({ queue: name, id }) => await queue(name).getJobLogs(id),
  flow: async ({ flow }) => {
    if (!flows) {
      flows = new FlowProducer({ connection, prefix });
      closable.push(flows);
    }
    const node = await flows.add(flow);
    return { id: node.job.id, children: (node.children ?? []).map((child) => child.job.id) };
  },
  worker: async ({ queue: name, options = {} }) => {
    const running = new Worker(name, handler(say, UnrecoverableError), { connection, prefix, ...options });
    running.on("error", (error) => say({ notice: "error", queue: name, message: String(error.message) }));
    closable.push(running);
    await running.waitUntilReady();
  },
  listen: async ({ queue: name, from }) => {
    const events = opened(QueueEvents, name, from ? { lastEventId: from } : {});
    for (const event of EVENTS) {
      events.on(event, (fields) => say({ notice: "event", event, ...fields }));
    }
    await events.waitUntilReady();
  },
};

serve(operations, async () => {
  for (const item of closable.reverse()) await item.close().catch(() => undefined);
});
