// How messages look.

import { button, clean, copyText, h } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { t } from "./words.js";

/** One message on the page; `actions` are called for what a person does with it. */
export class MessageView {
  #body;
  #thought = null;
  #markdown = null;
  #note;
  #actions;
  #tools;

  constructor(message, actions) {
    this.message = message;
    this.#actions = actions;
    this.#body = h("div", { className: "body" });
    this.#note = h("span", { className: "note" });
    this.#tools = h("div", { className: "tools" });
    this.element = h("article", { className: `message ${message.role}` }, this.#body, this.#tools);
    if (message.role === "user") this.#body.append(clean(message.content));
    this.update();
  }

  /** Show what the message has by now; `running` while it grows. */
  update({ running = false } = {}) {
    const { message } = this;
    this.element.classList.toggle("running", running);
    this.element.dataset.state = running ? "running" : message.error ? "failed" : "done";
    if (message.role === "assistant") {
      this.#showThought(running);
      if (message.content && !this.#markdown) {
        const element = h("div");
        this.#body.append(element);
        this.#markdown = new MarkdownView(element);
      }
      this.#markdown?.update(clean(message.content));
    }
    const note = message.error ?? (message.state ? t(message.state) : "");
    this.#note.textContent = running ? "" : clean(note || message.figures || "");
    this.#note.classList.toggle("error", Boolean(message.error));
    this.#tools.replaceChildren(...(running ? [] : this.#buttons()), this.#note);
  }

  #showThought(running) {
    const { thought, content } = this.message;
    if (!thought) return;
    if (!this.#thought) {
      const summary = h("summary");
      const text = h("div", { className: "thought-text" });
      const details = h("details", { className: "thought", open: true }, summary, text);
      this.#thought = { details, summary, text, folded: false };
      this.#body.prepend(details);
    }
    const thinks = running && !content;
    this.#thought.summary.textContent = t(thinks ? "thinking" : "thought");
    this.#thought.text.textContent = clean(thought);
    if (!thinks && !this.#thought.folded) {
      this.#thought.folded = true;
      this.#thought.details.open = false;
    }
  }

  #buttons() {
    const { message } = this;
    const copy = button("copy", t("copy"), async () => {
      await copyText(message.content);
      this.#note.textContent = t("copied");
    });
    if (message.role === "user") return [copy, button("edit", t("edit"), () => this.#edit())];
    const buttons = [copy, button("again", t("again"), () => this.#actions.again(message))];
    if (message.state || message.error) buttons.push(button("go_on", t("go_on"), () => this.#actions.goOn(message)));
    return buttons;
  }

  /** Let the person write the message anew, in its place. */
  #edit() {
    const area = h("textarea", { value: this.message.content, rows: 3, ariaLabel: t("edit") });
    const leave = () => {
      form.replaceWith(this.#body);
      this.#tools.hidden = false;
    };
    const form = h(
      "form",
      { className: "edit" },
      area,
      h(
        "div",
        { className: "row end" },
        h("button", { type: "button", className: "quiet", onclick: leave }, t("cancel")),
        h("button", { type: "submit", className: "primary" }, t("save")),
      ),
    );
    const send = () => {
      if (!area.value.trim()) return;
      leave();
      this.#actions.edit(this.message, area.value);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      send();
    };
    area.onkeydown = (event) => {
      if (composes(event)) return;
      if (event.key === "Escape") leave();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    };
    this.#tools.hidden = true;
    this.#body.replaceWith(form);
    area.focus();
  }
}

/** Whether a key belongs to an input method that is composing; 229 is what some browsers say of the last one. */
export function composes(event) {
  return event.isComposing || event.keyCode === 229;
}

/** What stands where nothing was said yet. */
export function emptyView(examples, onchoose) {
  return h(
    "div",
    { className: "empty" },
    h("img", { src: "/page/icon.svg", alt: "", width: 56, height: 56 }),
    h("h2", {}, t("hello")),
    h("p", {}, t("hello_small")),
    h(
      "div",
      { className: "examples" },
      ...examples.map((text) => h("button", { type: "button", onclick: () => onchoose(text) }, text)),
    ),
  );
}
