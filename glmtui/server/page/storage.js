// What the browser keeps for the page. It may have no room, or forbid it altogether: then things last as long as
// the page does. What it gives back may be anything.

class Area {
  #storage;
  #own = new Map(); // what it does not take

  constructor(name) {
    try {
      this.#storage = globalThis[name];
    } catch {
      this.#storage = null; // this browser keeps nothing for pages
    }
  }

  /** Return the text of that name, or null. */
  get(name) {
    return this.#own.get(name) ?? this.#storage?.getItem(name) ?? null;
  }

  /** Return what is written as JSON under that name; null where there is none, or it is no JSON. */
  json(name) {
    try {
      return JSON.parse(this.get(name));
    } catch {
      return null;
    }
  }

  /** Keep a text; return whether it outlives the page. */
  set(name, text) {
    try {
      this.#storage.setItem(name, text);
      this.#own.delete(name);
      return true;
    } catch {
      this.#own.set(name, text);
      return false;
    }
  }

  /** Forget a text. */
  remove(name) {
    this.#own.delete(name);
    this.#storage?.removeItem(name);
  }

  /** Return all names. */
  names() {
    const found = new Set(this.#own.keys());
    for (let i = 0; i < (this.#storage?.length ?? 0); i += 1) found.add(this.#storage.key(i));
    return [...found];
  }
}

/** As long as the browser keeps it. */
export const lasting = new Area("localStorage");
/** As long as the tab is open. */
export const ofTab = new Area("sessionStorage");
