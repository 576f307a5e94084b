// The server: its model, and answers as they come.

import { ofTab } from "./storage.js";

const KEY = "glmtui.key";

/** What the server said instead of an answer, or that it said nothing. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Take a key out of the address (#key=…), so that it stands in no history. */
export function takeKey() {
  const given = /(?:^#|&)key=([^&]*)/.exec(location.hash)?.[1];
  if (given === undefined) return;
  try {
    setKey(decodeURIComponent(given));
  } catch {
    // it is none, and will be asked for
  }
  history.replaceState(null, "", location.pathname);
}

/** Remember a key as long as the tab is open. */
export function setKey(key) {
  ofTab.set(KEY, key);
}

async function request(path, options = {}) {
  const key = ofTab.get(KEY);
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new ServerError(body.error?.message ?? response.statusText, response.status);
  }
  return response;
}

/** Return the model that is loaded, or null while none is. */
export async function model() {
  const { data } = await (await request("/v1/models")).json();
  return data[0] ?? null;
}

/** Return what the server's library lists, or null where it keeps none. */
export async function conversations() {
  const found = await (await request("/conversations")).json();
  return found.kept ? found.conversations : null;
}

/** Return the messages of a conversation in the library. */
export async function conversation(id) {
  return (await (await request(`/conversations/${encodeURIComponent(id)}`)).json()).messages;
}

/** Keep a conversation's messages in the library. */
export async function keep(id, messages) {
  await request(`/conversations/${encodeURIComponent(id)}`, { method: "POST", body: JSON.stringify({ messages }) });
}

/** Move a conversation of the library to its trash. */
export async function remove(id) {
  await request(`/conversations/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/**
 * Ask for an answer; call `onPiece(delta)` for what comes. Returns {reason, usage}.
 * Throws a ServerError; one without a message where the connection broke.
 */
export async function answer(body, signal, onPiece) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    signal,
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  const result = { reason: "", usage: null };
  for await (const data of events(response)) {
    if (data === "[DONE]") return result;
    const { choices, usage, error } = JSON.parse(data);
    if (error) throw new ServerError(error.message, 500);
    if (usage) result.usage = usage;
    const [choice] = choices;
    if (choice?.finish_reason) result.reason = choice.finish_reason;
    if (choice?.delta) onPiece(choice.delta);
  }
  throw new ServerError("");
}

/** Begin the app in this tab; yield what its screen shows, as long as it runs. */
export async function* terminal(size) {
  const response = await request("/terminal", { method: "POST", body: JSON.stringify(size) });
  for await (const line of parts(response, "\n")) yield JSON.parse(line);
}

/** Tell the app in this tab what was typed, or how large its screen is. */
export async function tellTerminal(id, told) {
  await request(`/terminal/${encodeURIComponent(id)}`, { method: "POST", body: JSON.stringify(told) });
}

/** Yield the data of server-sent events. */
async function* events(response) {
  for await (const event of parts(response, "\n\n")) {
    if (event.startsWith("data: ")) yield event.slice(6);
  }
}

/** Yield what comes, parted by `end`; what is not ended does not count. */
async function* parts(response, end) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      const found = buffer.split(end);
      buffer = found.pop();
      yield* found;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("");
  } finally {
    reader.cancel().catch(() => undefined); // it may have ended
  }
}
