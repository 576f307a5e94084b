// Conversations: in the server's library where that is allowed, else in this browser, one entry each, so that
// tabs do not overwrite each other's. What the browser has kept stays there.

import * as api from "./api.js";
import { clean } from "./dom.js";
import { lasting } from "./storage.js";

const PREFIX = "glmtui.chat.";
const STATES = { stopped: "stopped", length: "cut", partial: "stopped" }; // of the library, as the page shows them

let library = null; // id -> {id, title, updated}; null: there is none
const unsent = new Map(); // id -> what the library is still to be told
let sending = null;

/** Return an id for a conversation or a message, also where there is no TLS. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Make a conversation, which is not kept before something is said in it. */
export function create() {
  return { id: newId(), updated: Date.now(), messages: [] };
}

/** Look what the library has by now; return whether there is one. */
export async function connect() {
  const found = await api.conversations();
  library = found && new Map(found.map((each) => [each.id, { ...each, title: clean(each.title) }]));
  return library !== null;
}

/** Return all conversations that can be read, the newest first, by id, title and time. */
export function all() {
  const found = library ? [...library.values()] : [];
  for (const name of lasting.names()) {
    const chat = name.startsWith(PREFIX) ? local(name.slice(PREFIX.length)) : null;
    if (chat) found.push({ id: chat.id, title: titleOf(chat), updated: chat.updated });
  }
  return found.sort((one, other) => other.updated - one.updated);
}

/** Return a conversation; null if there is none, or what is there is none. Throws a ServerError. */
export async function load(id) {
  const kept = library?.get(id);
  if (!kept) return local(id);
  const messages = (await api.conversation(id)).map(({ id, role, text, thought, state, error }) => {
    const message = { id, role, content: text };
    if (thought) message.thought = thought;
    if (STATES[state]) message.state = STATES[state];
    if (error) message.error = error;
    return message;
  });
  return { id, updated: kept.updated, messages };
}

function local(id) {
  const chat = lasting.json(PREFIX + id);
  if (!Array.isArray(chat?.messages)) return null;
  const updated = Number.isFinite(chat.updated) ? chat.updated : 0;
  return { id, updated, messages: chat.messages.filter(sound).map(plainly) };
}

/** Whether it is a message: the browser's copy may have been damaged, or edited by hand. */
function sound(message) {
  return ["user", "assistant"].includes(message?.role) && typeof message.content === "string";
}

/** Return a message without what is none of its fields. */
function plainly(message) {
  const kept = ["role", "content", "thought", "error", "figures"].filter((name) => typeof message[name] === "string");
  const found = { id: /^\w{1,100}$/.test(message.id) ? message.id : newId() };
  for (const name of kept) found[name] = message[name];
  if (Object.values(STATES).includes(message.state)) found.state = message.state;
  return found;
}

/**
 * Keep a conversation, in which `growing` is an answer that still comes; an empty one is none.
 * Returns whether there was room. Throws a ServerError.
 */
export async function save(chat, growing = null) {
  if (!chat.messages.length) return true;
  if (!library || lasting.get(PREFIX + chat.id)) {
    const messages = chat.messages.map((each) => (each === growing ? { ...each, state: STATES.partial } : each));
    return lasting.set(PREFIX + chat.id, JSON.stringify({ ...chat, messages }));
  }
  library.set(chat.id, { id: chat.id, title: titleOf(chat), updated: chat.updated });
  unsent.set(chat.id, chat.messages.map((message) => written(message, message === growing)));
  sending ??= send().finally(() => {
    sending = null;
  });
  await sending;
  return true;
}

function written(message, growing) {
  const { id, role, content, thought, state, error } = message;
  const ended = error ? "failed" : { stopped: "stopped", cut: "length" }[state];
  return { id, role, text: content, thought, error, state: growing ? "partial" : ended };
}

async function send() {
  while (unsent.size) {
    const [id, messages] = unsent.entries().next().value;
    unsent.delete(id);
    try {
      await api.keep(id, messages);
    } catch (error) {
      if (!unsent.has(id)) unsent.set(id, messages); // goes with the next
      throw error;
    }
  }
}

/** Whether the library knows all that there is. */
export function settled() {
  return sending === null && !unsent.size;
}

/** Delete a conversation; the library keeps it in its trash. Throws a ServerError. */
export async function remove(id) {
  lasting.remove(PREFIX + id);
  unsent.delete(id);
  if (!library?.delete(id)) return;
  await sending?.catch(() => undefined);
  await api.remove(id);
}

/** Call `listener` when another tab changed something. */
export function onChange(listener) {
  addEventListener("storage", (event) => {
    if (event.key?.startsWith(PREFIX)) listener(event.key.slice(PREFIX.length));
  });
}

/** Return what to call a conversation: how its first message begins; empty while there is none. */
export function titleOf(chat) {
  const first = chat.messages.find((message) => message.role === "user")?.content ?? "";
  const line = first.trim().split("\n", 1)[0];
  const letters = Array.from(line);
  return clean(letters.length > 40 ? `${letters.slice(0, 40).join("")}…` : line);
}
