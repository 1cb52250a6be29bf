// A BullMQ worker that takes jobs of the demo's queue beside Toril's own worker: same jobs, same progress, same results.
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UnrecoverableError, Worker } from "bullmq";

const folder = process.env.DOCSNAP_DATA ?? join(import.meta.dirname, "..", "..", "docsnap-data");
const demo = JSON.parse(await readFile(join(folder, "demo.json"), "utf8"));
const url = process.env.REDIS_URL ?? `redis://127.0.0.1:${(await readFile(join(folder, "redis", "port"), "utf8")).trim()}`;
// The demo's own site and nothing else: a job's URL comes from a user, and could name a machine of this network.
const allowed = `127.0.0.1:${demo.site_port}`;

const entities = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: " " };

function plain(html) {
  return html
    .replace(/<[^>]+>/g, "")
    .replace(/&(\w+|#39);/g, (whole, name) => entities[name] ?? whole)
    .replace(/[ \t]+/g, " ")
    .trim();
}

function markdown(html) {
  const body = /<main[^>]*>([\s\S]*?)<\/main>/i.exec(html)?.[1] ?? html;
  const blocks = body.matchAll(/<(h[1-6]|p|li|pre|td)[^>]*>([\s\S]*?)<\/\1>/gi);
  return [...blocks]
    .map(([, tag, inner]) => {
      const text = tag === "pre" ? `\`\`\`\n${plain(inner)}\n\`\`\`` : plain(inner);
      if (!text) return "";
      if (tag[0] === "h") return `${"#".repeat(Number(tag[1]) + 1)} ${text}`;
      return tag === "li" ? `- ${text}` : text;
    })
    .filter(Boolean)
    .join("\n\n");
}

async function crawl(job) {
  const { url: first, depth = 2, max_pages: most = 20 } = job.data;
  const start = new URL(first);
  if (start.host !== allowed) throw new UnrecoverableError(`${start.host} is not the demo's site, ${allowed}`);
  const inside = start.pathname.replace(/[^/]*$/, "");
  const found = new Map([[start.href, 0]]);
  const pages = [];
  for (const [address, level] of found) {
    const response = await fetch(address);
    if (!response.ok) {
      await job.log(`${address}: ${response.status}`);
      continue;
    }
    const html = await response.text();
    pages.push({ title: plain(/<title[^>]*>([\s\S]*?)<\/title>/i.exec(html)?.[1] ?? address), text: markdown(html) });
    for (const [, href] of html.matchAll(/<a\s[^>]*href="([^"#]+)/gi)) {
      const next = new URL(href, address);
      next.hash = "";
      const wanted = next.host === start.host && next.pathname.startsWith(inside) && level < depth;
      if (wanted && !found.has(next.href) && found.size < most) found.set(next.href, level + 1);
    }
    await job.log(`read ${address}`);
    await job.updateProgress({ progress: Math.round((95 * pages.length) / found.size), message: `${pages.length} pages` });
  }
  if (!pages.length) throw new Error(`no page of ${first} could be read`);
  const text = pages.map((page) => `# ${page.title}\n\n${page.text}\n`).join("\n");
  const documents = join(folder, "documents");
  await mkdir(documents, { recursive: true });
  const draft = join(documents, `.${job.id}-${randomUUID()}.draft`);
  await writeFile(draft, text);
  await rename(draft, join(documents, `${job.id}.md`));
  return {
    url: first,
    title: pages[0].title,
    pages: pages.length,
    skipped: found.size - pages.length,
    words: text.split(/\s+/).length,
    bytes: Buffer.byteLength(text),
    path: `${job.id}.md`,
  };
}

const worker = new Worker("docs", crawl, { connection: { url, maxRetriesPerRequest: null }, concurrency: 5 });
worker.on("active", (job) => console.log(`${job.id}: ${job.data.url}`));
worker.on("completed", (job, report) => console.log(`${job.id}: done, ${report.pages} pages`));
worker.on("failed", (job, error) => console.log(`${job?.id}: ${error.message}`));
worker.on("error", (error) => console.error(error.message));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => worker.close().then(() => process.exit(0)));
await worker.waitUntilReady();
console.log(`Takes jobs of the queue docs on ${new URL(url).host}. Ctrl-C ends it.`);
