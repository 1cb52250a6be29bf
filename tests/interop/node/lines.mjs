// JSON lines: one request per line on stdin, answers and notices on stdout. The process ends with its stdin.
import readline from "node:readline";

export function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

// What a Job looks like on the line; other objects pass as they are.
export function shown(value) {
  if (Array.isArray(value)) return value.map(shown);
  if (value && typeof value === "object" && typeof value.asJSON === "function") {
    const { id, name, data, opts, progress, returnvalue, failedReason, stacktrace } = value;
    const { timestamp, delay, priority, attemptsMade, attemptsStarted, stalledCounter, finishedOn, processedOn, processedBy } = value;
    return {
      id, name, data, opts, progress, returnvalue, failedReason, stacktrace, timestamp, delay, priority, attemptsMade,
      attemptsStarted, stalledCounter, finishedOn, processedOn, processedBy, parentKey: value.parentKey,
    };
  }
  return value;
}

export function serve(operations, close) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { number, op, ...request } = JSON.parse(line);
    try {
      if (!operations[op]) throw new Error(`unknown operation ${op}`);
      const result = await operations[op](request);
      say({ number, result: shown(result) ?? null });
    } catch (error) {
      say({ number, error: String(error.message ?? error), code: error.code ?? null });
    }
  });
  lines.on("close", async () => {
    await close();
    process.exit(0);
  });
  say({ ready: true });
}
