// The page: one open conversation, the answer that comes, the list, and the options.

import * as api from "./api.js";
import { $, button, clean, h, icon } from "./dom.js";
import { lasting, ofTab } from "./storage.js";
import * as store from "./store.js";
import { MessageView, composes, emptyView } from "./view.js";
import { switchLanguage, t, translatePage } from "./words.js";

const SLIDERS = ["temperature", "top_p", "max_length"];
const THEMES = ["auto", "light", "dark"];
const SAVE_EVERY = 1000; // milliseconds while an answer comes
const RETRY = 2000;

let chat = store.create();
let views = new Map(); // by message
const answers = new Map(); // conversation's id -> {chat, message, controller}: an answer that comes, open or not
let model = null;

// --- the open conversation ---

async function open(id) {
  try {
    chat = (answers.get(id)?.chat ?? (await store.load(id))) ?? store.create();
  } catch (error) {
    return say(error.message || t("unreachable"));
  }
  ofTab.set("glmtui.open", chat.id);
  closeSidebar();
  show();
  $("composer").focus();
}

/** Return the answer that comes in the open conversation. */
function coming() {
  return answers.get(chat.id);
}

function show() {
  views = new Map();
  const shown = chat.messages.map((message) => {
    const view = new MessageView(message, { again, goOn, edit });
    view.update({ running: coming()?.message === message });
    views.set(message, view);
    return view.element;
  });
  const empty = emptyView(t("examples"), (text) => send(text));
  $("messages").replaceChildren(...(shown.length ? shown : [empty]));
  $("title").textContent = store.titleOf(chat) || t("untitled");
  $("clear").disabled = !shown.length;
  showList();
  showState();
  toEnd();
}

async function keep(which = chat) {
  which.updated = Date.now();
  try {
    if (!(await store.save(which, answers.get(which.id)?.message))) say(t("full"));
  } catch (error) {
    say(`${t("not_kept")} ${error.message}`.trim());
  }
}

async function drop(id) {
  const answer = answers.get(id);
  if (answer) {
    answer.controller.abort();
    answer.chat.messages.length = 0; // nothing of it comes back with the end of the answer
  }
  try {
    await store.remove(id);
  } catch (error) {
    say(error.message || t("unreachable"));
  }
}

function send(text) {
  if (!text.trim() || coming() || !model) return;
  chat.messages.push({ id: store.newId(), role: "user", content: text });
  ask();
}

function edit(message, text) {
  if (coming()) return;
  chat.messages.splice(chat.messages.indexOf(message), Infinity, { id: store.newId(), role: "user", content: text });
  ask();
}

function again(message) {
  if (coming()) return;
  chat.messages.splice(chat.messages.indexOf(message));
  ask();
}

function goOn(message) {
  if (coming()) return;
  chat.messages.splice(chat.messages.indexOf(message) + 1);
  ask(message);
}

/** Ask for the answer to what was said, or for how the answer `begun` goes on. */
async function ask(begun = null) {
  const message = begun ?? { id: store.newId(), role: "assistant", content: "" };
  const asked = begun ? chat.messages : [...chat.messages];
  delete message.error;
  delete message.state;
  delete message.figures;
  if (!begun) chat.messages.push(message);
  const body = { model: model.id, messages: asked.filter((each) => each.content || each.thought).map(plain), truncation: "auto", ...options() };
  if ($("system").value.trim() && model.supports_system) {
    body.messages.unshift({ role: "system", content: $("system").value.trim() });
  }
  $("announce").textContent = "";
  const answer = { chat, message, controller: new AbortController(), began: 0, saved: Date.now(), frame: 0 };
  answers.set(chat.id, answer);
  keep();
  show();
  try {
    const result = await api.answer(body, answer.controller.signal, (delta) => grow(answer, delta));
    if (result.reason === "length") message.state = "cut";
    else if (!message.content && !message.thought) message.error = t("nothing");
    const count = result.usage?.completion_tokens;
    const seconds = (Date.now() - answer.began) / 1000;
    if (count) message.figures = t("tokens")(count, count > 1 && seconds > 0.2 ? (count / seconds).toFixed(1) : "");
    $("announce").textContent = t("complete"); // for screen readers
  } catch (error) {
    if (error.name === "AbortError") message.state = "stopped";
    else await failed(error, message);
  } finally {
    answers.delete(answer.chat.id);
    cancelAnimationFrame(answer.frame);
    keep(answer.chat);
    views.get(message)?.update();
    showList();
    showState();
    if (answer.chat.id === chat.id) follow();
  }
}

function plain({ role, content, thought }) {
  return thought && !content ? { role, content, reasoning_content: thought } : { role, content };
}

/** Take in a piece of the answer; it is drawn with the next frame, however many come. */
function grow(answer, delta) {
  const { message } = answer;
  answer.began ||= Date.now();
  if (delta.content) message.content += delta.content;
  if (delta.reasoning_content) message.thought = (message.thought ?? "") + delta.reasoning_content;
  if (Date.now() - answer.saved > SAVE_EVERY) {
    answer.saved = Date.now();
    keep(answer.chat);
  }
  answer.frame ||= requestAnimationFrame(() => {
    answer.frame = 0;
    if (coming() !== answer) return;
    showState();
    views.get(message)?.update({ running: true });
    follow();
  });
}

async function failed(error, message) {
  if (error.status === 401) {
    await askKey();
    message.error = error.message;
  } else if (error.message) {
    message.error = error.message;
  } else {
    message.error = t(message.content ? "broken" : "unreachable");
  }
}

// --- the list ---

function showList() {
  const items = store.all().map((each) => {
    const title = each.title || t("untitled");
    const choose = h("button", { type: "button", className: "choose", title, onclick: () => open(each.id) }, title);
    const close = button("close", t("delete"), () => {
      if (!confirm(t("delete_sure"))) return;
      drop(each.id);
      if (chat.id === each.id) open("");
      else showList();
    });
    return h("div", { className: "item", ariaCurrent: each.id === chat.id ? "true" : "false" }, choose, close);
  });
  $("list").replaceChildren(...items);
}

function closeSidebar() {
  document.body.classList.remove("with-sidebar");
  $("shade").hidden = true;
}

// --- the state of things ---

function showState() {
  const here = coming();
  $("send").hidden = Boolean(here);
  $("stop").hidden = !here;
  $("send").disabled = !model || !$("composer").value.trim();
  document.body.dataset.state = here ? "answering" : model ? "ready" : "waiting";
  if (here && !here.message.content && !here.message.thought) say(t("reading"));
  else if ([t("reading"), t("loading"), t("unreachable")].includes($("status").textContent) && model) say("");
}

function say(text) {
  $("status").textContent = clean(text);
}

let follows = true;

function toEnd() {
  follows = true;
  $("scroll").scrollTop = $("scroll").scrollHeight;
  $("down").hidden = true;
}

/** Stay at the end while the person is there. */
function follow() {
  if (follows) toEnd();
}

async function findModel(before) {
  try {
    model = await api.model();
    if (!model) say(t("loading"));
  } catch (error) {
    if (error.status === 401) {
      await askKey();
      return findModel(before);
    }
    say(error.message || t("unreachable"));
  }
  if (!model) return setTimeout(findModel, RETRY, before);
  $("model").textContent = clean(model.id);
  $("model").hidden = false;
  $("system-row").hidden = !model.supports_system;
  $("max_length").max = String(Math.max(model.max_model_len, 64));
  showOptions();
  await findLibrary(before);
  return showState();
}

/** Go on with the conversation of before where the server's library has it. */
async function findLibrary(before) {
  try {
    if (!(await store.connect())) return;
  } catch (error) {
    return say(error.message || t("unreachable"));
  }
  $("kept").dataset.t = "kept_in_library";
  translatePage();
  if (!chat.messages.length && before) await open(before);
  else showList();
}

/** Show what others, such as the app, changed in the library meanwhile. */
async function lookAgain() {
  if (answers.size || !store.settled() || document.querySelector(".edit")) return;
  try {
    if (!(await store.connect())) return;
    const found = await store.load(chat.id);
    if (answers.size || !found || JSON.stringify(found.messages.map(plain)) === JSON.stringify(chat.messages.map(plain))) {
      return showList();
    }
    chat = found;
    show();
  } catch {
    // the next question tells that the server is gone
  }
}

function askKey() {
  return new Promise((resolve) => {
    const dialog = $("key-dialog");
    dialog.onclose = () => {
      api.setKey($("key").value.trim());
      $("key").value = "";
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}

// --- options: only what differs from the model's own is kept and sent ---

/** Return what was chosen; what is none of it, in a browser's store that anybody may write to, is left out. */
function kept() {
  const found = lasting.json("glmtui.options") ?? {};
  const chosen = SLIDERS.filter((name) => Number.isFinite(found[name])).map((name) => [name, found[name]]);
  return { ...Object.fromEntries(chosen), ...(typeof found.system === "string" ? { system: found.system } : {}) };
}

function options() {
  const { system: _system, ...chosen } = kept();
  if (chosen.max_length > model.max_model_len) delete chosen.max_length;
  return chosen;
}

function showOptions() {
  const chosen = { ...model?.sampling, ...kept() };
  for (const name of SLIDERS) {
    $(name).value = chosen[name] ?? "";
    $(`${name}-value`).textContent = $(name).value;
  }
  $("system").value = chosen.system ?? "";
}

function choose(name, value) {
  lasting.set("glmtui.options", JSON.stringify({ ...kept(), [name]: value }));
}

// --- the look ---

function theme() {
  const found = lasting.get("glmtui.theme");
  return THEMES.includes(found) ? found : "auto";
}

function showTheme() {
  document.documentElement.dataset.theme = theme();
  $("theme").replaceChildren(icon(theme()));
}

function showWords() {
  translatePage();
  $("language").textContent = t("language");
}

/** As tall as its text; browsers that know field-sizing do it themselves. */
function fit(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

// --- what a person does ---

function wire() {
  const composer = $("composer");
  for (const element of document.querySelectorAll("[data-icon]")) element.append(icon(element.dataset.icon));
  $("form").onsubmit = (event) => {
    event.preventDefault();
    if (coming() || !model || !composer.value.trim()) return;
    const text = composer.value;
    composer.value = "";
    fit(composer);
    send(text);
  };
  composer.oninput = () => {
    fit(composer);
    showState();
  };
  composer.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !composes(event)) {
      event.preventDefault();
      $("form").requestSubmit();
    }
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !composes(event)) {
      if (document.body.classList.contains("with-sidebar")) closeSidebar();
      else if (!$("panel").matches(":popover-open")) coming()?.controller.abort();
    }
  });
  $("stop").onclick = () => coming()?.controller.abort();
  $("new").onclick = () => open("");
  $("clear").onclick = () => {
    if (!confirm(t("clear_sure"))) return;
    drop(chat.id);
    open("");
  };
  $("menu").onclick = () => {
    document.body.classList.add("with-sidebar");
    $("shade").hidden = false;
  };
  $("shade").onclick = closeSidebar;
  for (const name of SLIDERS) {
    $(name).oninput = () => {
      choose(name, Number($(name).value));
      $(`${name}-value`).textContent = $(name).value;
    };
  }
  $("system").onchange = () => choose("system", $("system").value);
  $("defaults").onclick = () => {
    lasting.remove("glmtui.options");
    showOptions();
  };
  $("theme").onclick = () => {
    lasting.set("glmtui.theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    showTheme();
  };
  $("language").onclick = () => {
    switchLanguage();
    showWords();
    show();
  };
  $("scroll").onscroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = $("scroll");
    follows = scrollHeight - scrollTop - clientHeight < 40;
    $("down").hidden = follows;
  };
  $("down").onclick = toEnd;
  addEventListener("focus", lookAgain);
  addEventListener("pagehide", () => answers.forEach((answer) => keep(answer.chat)));
  store.onChange(async (id) => {
    if (id === chat.id && !coming()) chat = (await store.load(id)) ?? chat;
    if (coming()) showList();
    else show();
  });
}

api.takeKey();
showTheme();
showWords();
wire();
const before = ofTab.get("glmtui.open") ?? "";
open(before).then(() => findModel(before));
