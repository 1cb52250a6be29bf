// Bull Board without a web server: node board.mjs <package> <port> <queue>. Each request is one of its API's routes.
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { serve } from "./lines.mjs";

const [packageName, port, queueName] = process.argv.slice(2);
const { Queue } = await import(packageName);
const queue = new Queue(queueName, { connection: { host: "127.0.0.1", port: Number(port) } });

const routes = [];
let boardQueues;
const serverAdapter = {
  setQueues(queues) {
    boardQueues = queues;
    return this;
  },
  setApiRoutes(given) {
    routes.push(...given);
    return this;
  },
  setViewsPath() { return this; },
  setStaticPath() { return this; },
  setEntryRoute() { return this; },
  setErrorHandler() { return this; },
  setUIConfig() { return this; },
};
createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter });

function matched(pattern, path) {
  const names = pattern.split("/");
  const parts = path.split("/");
  if (names.length !== parts.length) return null;
  const params = {};
  for (const [place, name] of names.entries()) {
    if (name.startsWith(":")) params[name.slice(1)] = decodeURIComponent(parts[place]);
    else if (name !== parts[place]) return null;
  }
  return params;
}

serve(
  {
    request: async ({ method, path, query = {}, body = {} }) => {
      for (const route of routes) {
        const params = [].concat(route.method).includes(method)
          ? [].concat(route.route).map((pattern) => matched(pattern, path)).find(Boolean)
          : null;
        if (params) {
          const answer = await route.handler({ queues: boardQueues, params, query, body, headers: {} });
          return { status: answer.status ?? 200, body: answer.body ?? null };
        }
      }
      throw new Error(`no route ${method} ${path}`);
    },
  },
  async () => await queue.close(),
);
