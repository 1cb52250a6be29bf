// The list of jobs: one card each, newest first, kept up to date in place.

const WORDS = {
  waiting: "waiting",
  prioritized: "waiting",
  delayed: "trying again soon",
  active: "running",
  completed: "done",
  failed: "failed",
};

export const isFinished = (state) => state === "completed" || state === "failed";

export class JobList {
  #cards = new Map();

  constructor(list, template, { onDownload, onCancel, announce }) {
    this.list = list;
    this.template = template;
    this.onDownload = onDownload;
    this.onCancel = onCancel;
    this.announce = announce;
  }

  get jobs() {
    return [...this.#cards.values()].map((card) => card.job);
  }

  update(job) {
    let card = this.#cards.get(job.id);
    if (card === undefined) {
      card = this.#create(job);
      this.#cards.set(job.id, card);
      this.#place(card);
    }
    const before = card.job.state;
    Object.assign(card.job, job);
    this.#show(card);
    if (before && before !== card.job.state && isFinished(card.job.state)) {
      this.announce(`${card.title.textContent}: ${WORDS[card.job.state]}`);
    }
  }

  // What a stream tells while the job is on its way; its end comes with the list, which has the report.
  progress(id, state, percent, message) {
    const card = this.#cards.get(id);
    if (card === undefined || isFinished(card.job.state) || isFinished(state)) return;
    card.job.state = state;
    if (percent !== undefined) card.job.progress = percent;
    if (message) card.job.message = message;
    this.#show(card);
  }

  logs(id, lines) {
    const card = this.#cards.get(id);
    if (card === undefined) return;
    card.logText.textContent = lines.join("\n");
    this.#countLog(card, lines.length);
  }

  log(id, line) {
    const card = this.#cards.get(id);
    if (card === undefined) return;
    const atEnd = card.logText.scrollTop + card.logText.clientHeight >= card.logText.scrollHeight - 8;
    card.logText.append(card.logLines === 0 ? line : `\n${line}`);
    this.#countLog(card, card.logLines + 1);
    if (atEnd) card.logText.scrollTop = card.logText.scrollHeight;
  }

  onOpenLog(id, action) {
    this.#cards.get(id)?.log.addEventListener("toggle", (event) => event.target.open && action());
  }

  #countLog(card, count) {
    card.logLines = count;
    const words = count === 1 ? "(1 line)" : `(${count} lines)`;
    card.logCount.textContent = count === 0 ? "" : words;
    card.log.hidden = false;
  }

  #create(job) {
    const element = this.template.content.firstElementChild.cloneNode(true);
    const find = (selector) => element.querySelector(selector);
    const card = {
      job: { id: job.id, createdAt: job.createdAt },
      element,
      title: find(".job-title"),
      url: find(".job-url"),
      badge: find(".badge"),
      bar: find(".bar"),
      fill: find(".bar > div"),
      message: find(".job-message"),
      read: find(".read"),
      download: find(".download"),
      cancel: find(".cancel"),
      log: find(".log"),
      logText: find(".log pre"),
      logCount: find(".log-count"),
      logLines: 0,
    };
    element.dataset.id = job.id;
    card.download.addEventListener("click", () => this.onDownload(card.job));
    card.cancel.addEventListener("click", () => { card.cancel.disabled = true; this.onCancel(card.job); });
    return card;
  }

  #place(card) {
    const after = [...this.list.children].find((other) => {
      const job = this.#cards.get(other.dataset.id).job;
      return card.job.createdAt > job.createdAt || (card.job.createdAt === job.createdAt && card.job.id > job.id);
    });
    this.list.insertBefore(card.element, after ?? null);
  }

  #show(card) {
    const { job } = card;
    const percent = job.state === "completed" ? 100 : Math.round(job.progress ?? 0);
    card.element.dataset.state = job.state;
    card.title.textContent = job.report?.title ?? readable(job.url);
    card.url.textContent = job.url;
    card.badge.textContent = WORDS[job.state] ?? job.state;
    card.bar.setAttribute("aria-label", `Progress of ${job.url}`);
    card.bar.setAttribute("aria-valuenow", String(percent));
    card.bar.setAttribute("aria-valuetext", `${percent} %, ${WORDS[job.state] ?? job.state}`);
    card.fill.style.width = `${percent}%`;
    card.message.textContent = sentence(job, percent);
    const done = job.state === "completed";
    card.read.hidden = card.download.hidden = !done;
    card.cancel.hidden = isFinished(job.state);
    card.cancel.setAttribute("aria-label", `Cancel ${card.title.textContent}`);
    card.read.href = `/documents/${encodeURIComponent(job.id)}`;
    card.read.setAttribute("aria-label", `Read ${card.title.textContent}`);
    card.download.setAttribute("aria-label", `Download ${card.title.textContent} as Markdown`);
  }
}

function sentence(job, percent) {
  if (job.state === "completed" && job.report) {
    const { pages, words, skipped } = job.report;
    const left = skipped ? ` · ${skipped} left out` : "";
    return `${count(pages, "page")} · ${count(words, "word")}${left}`;
  }
  if (job.state === "failed") return job.error || "failed without a reason";
  if (job.state === "delayed") return job.error ? `trying again soon: ${job.error}` : "trying again soon";
  if (job.state === "active") return `${percent} % · ${job.message || "starting"}`;
  return "in line";
}

function readable(url) {
  try {
    const { host, pathname } = new URL(url);
    return decodeURIComponent(pathname.split("/").filter(Boolean).at(-1) ?? host);
  } catch {
    return url;
  }
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
