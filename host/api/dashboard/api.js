// Talks to the service: JSON, files, and events of jobs. The token lives in the tab's session only.

const KEY = "chamnet-token";
const MOST_BREAKS = 20;

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (secret) => (secret ? sessionStorage.setItem(KEY, secret) : sessionStorage.removeItem(KEY)),
};

// What the service refuses, as a problem document (RFC 9457).
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the service answered ${status}`);
    this.status = status;
    this.title = body.title ?? "Error";
    this.body = body;
  }

  get asksForToken() {
    return this.status === 401 || this.status === 403;
  }
}

async function send(path, options = {}, secret = token.get()) {
  const headers = { ...options.headers, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "the service cannot be reached; is 'chamnet serve' running?" });
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export async function get(path, query = {}) {
  return (await send(address(path, query))).json();
}

export function address(path, query = {}) {
  const told = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(told).toString();
  return text ? `${path}?${text}` : path;
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await send(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) })).json();
}

export async function upload(path, query, file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await send(address(path, query), { method: "POST", headers, body: file })).json();
}

// Whether the service knows a token; raises Problem with the reason where it does not.
export async function tryToken(secret) {
  await send("/v1/health", {}, secret);
}

// A link that saves a file; with a token it is fetched, since a plain link could not send one.
export async function saveFile(event, path, name) {
  if (!token.get()) return;
  event.preventDefault();
  const url = URL.createObjectURL(await (await send(path)).blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Follows a job to its end: `tell(job)` at each change. After a break it asks how the job stands, and listens again.
export async function follow(uid, tell, signal) {
  let seen = "";
  for (let breaks = 1; breaks <= MOST_BREAKS; breaks += 1) {
    try {
      for await (const job of changes(uid, seen, signal)) {
        seen = String(job.revision);
        breaks = 1;
        tell(job);
        if (hasEnded(job)) return;
      }
    } catch (error) {
      if (!(error instanceof Problem || error instanceof TypeError) || (error.status >= 400 && error.status < 500))
        throw error;
    }
    await new Promise((later) => setTimeout(later, 400 * breaks));
    const job = await get(`/v1/jobs/${uid}`).catch(() => null);
    if (signal.aborted) throw new DOMException("the view was left", "AbortError");
    if (job) tell(job);
    if (job && hasEnded(job)) return;
  }
  throw new Problem(0, { title: "No answer", detail: "the service has stopped telling how the job stands; reload" });
}

async function* changes(uid, seen, signal) {
  const headers = seen ? { "Last-Event-ID": seen } : {};
  const answer = await send(`/v1/jobs/${uid}/events`, { headers, signal });
  if (answer.status === 204) return;
  for await (const event of events(answer.body)) yield JSON.parse(event.data);
}

export const hasEnded = (job) => ["done", "failed", "cancelled"].includes(job.state);

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    yield* blocks.map(parseEvent).filter((event) => event.data);
  }
}

function parseEvent(block) {
  const event = { data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([a-z]*): ?(.*)$/.exec(line) ?? [];
    if (name in event) event[name] += value;
  }
  return event;
}
