// Conversations, kept in this browser: one entry each, so that tabs do not overwrite each other's.

const PREFIX = "glmtui.chat.";

/** Make a conversation, which is not kept before something is said in it. */
export function create() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`, updated: Date.now(), messages: [] };
}

/** Return all conversations that can be read, the newest first. */
export function all() {
  const found = [];
  for (let i = 0; i < localStorage.length; i += 1) {
    const name = localStorage.key(i);
    const chat = name.startsWith(PREFIX) ? load(name.slice(PREFIX.length)) : null;
    if (chat) found.push(chat);
  }
  return found.sort((one, other) => other.updated - one.updated);
}

/** Return a conversation; null if there is none, or what is there is none. */
export function load(id) {
  try {
    const chat = JSON.parse(localStorage.getItem(PREFIX + id));
    return Array.isArray(chat?.messages) ? chat : null;
  } catch {
    return null;
  }
}

/** Keep a conversation; return whether there was room. */
export function save(chat) {
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

/** Delete a conversation. */
export function remove(id) {
  localStorage.removeItem(PREFIX + id);
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
  return letters.length > 40 ? `${letters.slice(0, 40).join("")}…` : line;
}
