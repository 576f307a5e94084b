// The app itself in this tab: its screen comes in lines of JSON, what is typed goes in requests of its own.

import * as api from "./api.js";
import { $, copyText } from "./dom.js";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Unicode11Addon } from "./vendor/addon-unicode11.mjs";
import { Terminal } from "./vendor/xterm.mjs";
import { t, translatePage } from "./words.js";

const terminal = new Terminal({
  allowProposedApi: true, // the widths of Unicode 11
  fontFamily: 'ui-monospace, "Cascadia Mono", Menlo, Consolas, "Noto Sans Mono", "Noto Sans Mono CJK SC", monospace',
  fontSize: 15,
  scrollback: 0,
  macOptionIsMeta: true,
  theme: { background: "#0f1216" },
});
const fit = new FitAddon();
let id = ""; // of the app; empty while none runs
let waiting = {}; // what the app has not been told yet
let sending = false;

/** Tell the app what has been typed and done so far: one request at a time, so that nothing overtakes. */
async function tell(more) {
  waiting = { ...waiting, ...more, ...(more.text ? { text: (waiting.text ?? "") + more.text } : {}) };
  if (sending) return;
  sending = true;
  try {
    while (id && Object.keys(waiting).length) {
      const told = waiting;
      waiting = {};
      await api.tellTerminal(id, told);
    }
  } catch {
    waiting = {}; // the app is gone; its screen's end says so
  } finally {
    sending = false;
  }
}

async function run() {
  let why = "";
  try {
    fit.fit();
    terminal.reset();
    for await (const line of api.terminal({ columns: terminal.cols, rows: terminal.rows })) {
      if (line.id) {
        id = line.id;
        document.body.dataset.state = "open";
        tell({ columns: terminal.cols, rows: terminal.rows });
      }
      if (line.text) await new Promise((done) => terminal.write(line.text, done));
      if ("ended" in line) why = t("ended");
    }
  } catch (error) {
    why = error.status === 401 ? t("key_text") : error.message || t("unreachable");
    $("key").hidden = error.status !== 401;
  }
  id = "";
  waiting = {};
  document.body.dataset.state = "ended";
  $("why").textContent = why || t("unreachable");
  $("ended").showModal();
}

$("ended").onclose = () => {
  if (!$("key").hidden && $("key").value) api.setKey($("key").value.trim());
  $("key").hidden = true;
  terminal.focus();
  run();
};

/** Copy what the app asks to be copied; it cannot read the clipboard. */
function copies(data) {
  const [, encoded] = data.split(";");
  if (encoded && encoded !== "?") {
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    copyText(new TextDecoder().decode(bytes)).catch(() => undefined); // the browser may forbid it
  }
  return true;
}

api.takeKey();
translatePage();
terminal.loadAddon(fit);
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = "11";
terminal.open($("screen"));
terminal.parser.registerOscHandler(52, copies);
terminal.onData((text) => tell({ text }));
terminal.onTitleChange((title) => { document.title = title || "glmtui"; });
terminal.onResize(({ cols, rows }) => tell({ columns: cols, rows }));
new ResizeObserver(() => fit.fit()).observe($("screen"));
terminal.focus();
run();
