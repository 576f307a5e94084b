// Markdown that grows: blocks that are finished stay as they are, only what changed is made again.
//
// A model's text is text: HTML in it is shown as it was written, pictures become links (a picture could call
// out), and DOMPurify looks at the result once more.

import { Marked } from "./vendor/marked.esm.js";
import "./vendor/purify.min.js";
import { copyText, h, icon } from "./dom.js";
import { t } from "./words.js";

const purify = globalThis.DOMPurify;
const SANITIZE = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol",
    "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ADD_URI_SAFE_ATTR: ["align", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

const escape = (text) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escape(text),
    image({ href, text }) {
      return `<a href="${escape(href)}">${escape(text || href)}</a>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
  tokenizer: {
    // An address ends before Chinese, which Chinese writers put no space before.
    url(source) {
      const found = /^https?:\/\/[^\s<>"'`\u3000-\u303f\u3400-\u9fff\uff00-\uffef]+/.exec(source)?.[0];
      const raw = found?.replace(/[.,;:!?)\]}*_~]+$/, "");
      if (!raw) return false;
      return { type: "link", raw, text: raw, href: raw, tokens: [{ type: "text", raw, text: raw }] };
    },
  },
  extensions: [
    {
      // CommonMark leaves **“你好”**吧 as it is; to a reader of Chinese it is emphasis all the same.
      name: "chineseStrong",
      level: "inline",
      start: (source) => source.indexOf("**"),
      tokenizer(source) {
        const found = /^\*\*(?![\s*])((?:\\.|`[^`\n]*`|[^\\`*\n]|\*(?!\*))+?)(?<!\s)\*\*(?!\*)/.exec(source);
        if (!found || !/[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]/.test(found[1])) return undefined;
        return { type: "chineseStrong", raw: found[0], tokens: this.lexer.inlineTokens(found[1]) };
      },
      renderer(token) {
        return `<strong>${this.parser.parseInline(token.tokens)}</strong>`;
      },
    },
  ],
});

/** Shows growing Markdown in an element. */
export class MarkdownView {
  #element;
  #blocks = []; // {raw, node}

  constructor(element) {
    this.#element = element;
    element.classList.add("markdown");
  }

  /** Show `source`. */
  update(source) {
    const tokens = read(source);
    const shown = tokens.filter((token) => token.type !== "space" && token.type !== "def");
    let same = 0;
    while (same < shown.length && this.#blocks[same]?.raw === shown[same].raw) same += 1;
    for (const block of this.#blocks.splice(same)) block.node.remove();
    for (const token of shown.slice(same)) {
      const node = made(token, tokens.links);
      this.#blocks.push({ raw: token.raw, node });
      this.#element.append(node);
    }
  }
}

/** Return the blocks of a text; one alone where quotes and lists lie in each other too deeply to be followed. */
function read(source) {
  try {
    return marked.lexer(source);
  } catch {
    return [{ type: "plain", raw: source }];
  }
}

function made(token, links) {
  try {
    if (token.type !== "plain") return render(marked.parser(Object.assign([token], { links })));
  } catch {
    // as it was written, then
  }
  return h("div", { className: "block plain" }, token.raw);
}

/** Make a block's element from HTML that nobody is trusted to have made well. */
function render(html) {
  const block = h("div", { className: "block" }, purify.sanitize(html, SANITIZE));
  for (const link of block.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    link.title = link.href;
  }
  for (const pre of block.querySelectorAll("pre")) frameCode(pre);
  for (const table of block.querySelectorAll("table")) {
    const frame = h("div", { className: "table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return block;
}

/** Put a bar with the language, and a button that copies, over a block of code. */
function frameCode(pre) {
  const code = pre.querySelector("code");
  const language = /language-(\S+)/.exec(code?.className ?? "")?.[1] ?? "";
  const label = h("span", {}, t("copy"));
  const copy = h("button", { type: "button", className: "quiet copy" }, icon("copy"), label);
  copy.onclick = async () => {
    await copyText(pre.innerText.replace(/\n$/, ""));
    label.textContent = t("copied");
    setTimeout(() => (label.textContent = t("copy")), 1500);
  };
  const frame = h("div", { className: "code" }, h("div", { className: "code-bar" }, h("span", {}, language), copy));
  pre.replaceWith(frame);
  frame.append(pre);
}
