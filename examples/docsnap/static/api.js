// The HTTP side: token, JSON calls, and server-sent events read from fetch, since EventSource cannot send a token.

const PAUSES = [500, 1000, 2000, 4000, 5000];

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Api {
  #token = null;

  async signIn() {
    const answer = await fetch("/demo/token", { method: "POST" });
    if (!answer.ok) throw new ApiError(answer.status, "This server hands out no demo tokens. Start it with: toril demo");
    const body = await answer.json();
    this.#token = body.token;
    return body;
  }

  async request(path, options = {}) {
    for (let first = true; ; first = false) {
      if (this.#token === null) await this.signIn();
      const headers = { ...options.headers, Authorization: `Bearer ${this.#token}` };
      const answer = await fetch(path, { ...options, headers });
      if (answer.status !== 401 || !first) return answer;
      this.#token = null;
    }
  }

  async json(path, options = {}) {
    const answer = await this.request(path, options);
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new ApiError(answer.status, explain(body) || `The server answered ${answer.status}.`);
    return body;
  }

  async text(path) {
    const answer = await this.request(path);
    if (answer.ok) return answer.text();
    const body = await answer.json().catch(() => ({}));
    throw new ApiError(answer.status, explain(body) || `The server answered ${answer.status}.`);
  }

  // Calls onEvent({id, event, data}) until it returns true. A broken connection is resumed after the last seen id.
  async follow(path, signal, onEvent) {
    let last = null;
    let failures = 0;
    while (!signal.aborted) {
      try {
        const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
        const answer = await this.request(path, { headers, signal });
        if (answer.status === 204) return;
        if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) return;
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        for await (const message of messages(answer.body)) {
          failures = 0;
          if (message.id !== null) last = message.id;
          if (onEvent(message)) return;
        }
      } catch (error) {
        if (signal.aborted) return;
      }
      const pause = PAUSES[Math.min(failures++, PAUSES.length - 1)];
      await new Promise((done) => setTimeout(done, pause * (0.7 + Math.random() * 0.3)));
    }
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const message = parse(block);
        if (message !== null) yield message;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const message = { id: null, event: "message", data: "" };
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = line.match(/^([^:]*):? ?(.*)$/);
    if (name === "data") data.push(value);
    else if (name === "event") message.event = value;
    else if (name === "id") message.id = value;
  }
  if (data.length === 0) return null;
  try {
    message.data = JSON.parse(data.join("\n"));
  } catch {
    message.data = data.join("\n");
  }
  return message;
}

// Refusals come as {error: {message}}, {message} or FastAPI's {detail}; people want the sentence.
function explain(body) {
  if (typeof body?.error?.message === "string") return body.error.message;
  if (typeof body?.message === "string") return body.message;
  if (typeof body?.error === "string") return body.error;
  if (typeof body?.detail === "string") return body.detail;
  if (Array.isArray(body?.detail)) {
    return body.detail.map((one) => `${(one.loc ?? []).at(-1)}: ${one.msg}`).join(" · ");
  }
  return "";
}
