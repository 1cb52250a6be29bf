import { Api } from "/static/api.js";
import { JobList, isFinished } from "/static/jobs.js";

// A browser opens six connections to one host; four streams leave room for everything else. The rest is polled.
const MOST_STREAMS = 4;
const POLL_MS = 1500;
const IDLE_POLL_MS = 2500;

const byId = (id) => document.getElementById(id);
const api = new Api();
const streams = new Map();
const jobs = new JobList(byId("jobs"), byId("job-template"), {
  onDownload: (job) => download(job.id, job.report?.title).catch((error) => say(error.message)),
  onCancel: (job) => api.json(`/api/jobs/${job.id}/cancel`, { method: "POST" }).then(refresh, (error) => say(error.message)),
  announce: (text) => { byId("announcer").textContent = text; },
});

function say(text) {
  byId("connection").textContent = text;
  byId("connection").hidden = text === "";
}

function showJob(job) {
  const known = jobs.jobs.some((other) => other.id === job.id);
  jobs.update(job);
  if (!known) {
    const loaded = { value: false };
    jobs.onOpenLog(job.id, () => loadLogs(job.id, loaded));
    jobs.logs(job.id, []);
  }
}

async function loadLogs(id, loaded) {
  if (loaded.value) return;
  const { logs } = await api.json(`/api/documents/${id}/log`);
  loaded.value = isFinished(jobs.jobs.find((job) => job.id === id)?.state);
  jobs.logs(id, logs);
}

function showCounts() {
  const all = jobs.jobs;
  const count = (...states) => String(all.filter((job) => states.includes(job.state)).length);
  byId("count-running").textContent = count("active");
  byId("count-waiting").textContent = count("waiting", "prioritized", "delayed");
  byId("count-done").textContent = count("completed");
  byId("count-failed").textContent = count("failed");
  byId("empty").hidden = all.length > 0;
}

async function refresh() {
  const { documents } = await api.json("/api/documents");
  documents.forEach(showJob);
  showCounts();
  startStreams();
}

function startStreams() {
  for (const job of jobs.jobs) {
    if (streams.size >= MOST_STREAMS) return;
    if (isFinished(job.state) || streams.has(job.id)) continue;
    const stop = new AbortController();
    streams.set(job.id, stop);
    api.follow(`/api/jobs/${job.id}/events`, stop.signal, (message) => take(job.id, message)).finally(() => {
      streams.delete(job.id);
      refresh().catch(() => {});
    });
  }
}

// True ends the stream: the job is finished, and the list tells the rest.
function take(id, { event, data }) {
  let finished = false;
  switch (event) {
    case "snapshot":
    case "resync":
      jobs.progress(id, data.job.state, data.job.progress, data.job.progressMessage);
      finished = isFinished(data.job.state);
      break;
    case "progress":
      jobs.progress(id, "active", data.progress, data.progressMessage);
      break;
    case "state":
      jobs.progress(id, data.status);
      finished = isFinished(data.status);
      break;
    case "log":
      jobs.log(id, data.line);
      break;
    case "removed":
      finished = true;
      break;
  }
  showCounts();
  return finished;
}

async function poll() {
  for (;;) {
    try {
      await refresh();
      say("");
    } catch (error) {
      say(error.status ? error.message : "The server does not answer. Trying again…");
    }
    const busy = jobs.jobs.some((job) => !isFinished(job.state));
    await new Promise((done) => setTimeout(done, busy ? POLL_MS : IDLE_POLL_MS));
  }
}

async function submit(url) {
  const form = byId("form");
  const body = { url, depth: Number(form.depth.value), max_pages: Number(form.max_pages.value) };
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  await api.json("/api/generate-docs", options);
  await refresh();
}

async function onSubmit(event) {
  event.preventDefault();
  const field = byId("url");
  byId("form-error").textContent = "";
  field.removeAttribute("aria-invalid");
  byId("submit").disabled = true;
  try {
    await submit(field.value.trim());
    field.value = "";
  } catch (error) {
    byId("form-error").textContent = error.message;
    field.setAttribute("aria-invalid", "true");
  } finally {
    byId("submit").disabled = false;
    field.focus();
  }
}

function showSamples(sites) {
  for (const site of sites) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = site.title;
    button.addEventListener("click", () => { byId("url").value = site.url; byId("submit").focus(); });
    const item = document.createElement("li");
    item.append(button);
    byId("samples").querySelector("ul").append(item);
  }
  byId("samples").hidden = sites.length === 0;
}

async function download(id, title) {
  const text = await api.text(`/api/documents/${id}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
  link.download = `${(title ?? id).toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-")}.md`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function read(id) {
  byId("workshop").hidden = byId("counts").hidden = true;
  byId("reader").hidden = false;
  byId("download").addEventListener("click", () => download(id, document.title));
  try {
    const html = await api.text(`/api/documents/${id}?format=html`);
    const parsed = new DOMParser().parseFromString(html, "text/html");
    byId("document").replaceChildren(...parsed.querySelector("article").childNodes);
    document.title = parsed.title;
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) target.scrollIntoView();
    else byId("document").focus({ preventScroll: true });
  } catch (error) {
    byId("reader-error").textContent = error.message;
    byId("download").hidden = true;
  }
}

async function start() {
  const { sites } = await api.signIn();
  const found = location.pathname.match(/^\/documents\/([\w-]+)$/);
  if (found) return read(found[1]);
  showSamples(sites ?? []);
  byId("form").addEventListener("submit", onSubmit);
  return poll();
}

start().catch((error) => say(error.message));
