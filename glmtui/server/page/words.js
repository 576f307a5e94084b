// What the page says, in both languages.

import { lasting } from "./storage.js";

const WORDS = {
  en: {
    skip: "To the message box",
    conversations: "Conversations",
    new: "New chat",
    kept: "Kept in this browser only.",
    kept_in_library: "Kept on the server’s machine, next to the app’s.",
    not_kept: "This conversation is not kept by the server at the moment.",
    theme: "Light, dark, or as the system",
    language: "中文",
    clear: "Clear this conversation",
    clear_sure: "Delete all messages of this conversation?",
    delete: "Delete",
    delete_sure: "Delete this conversation?",
    options: "Options",
    temperature: "Temperature",
    top_p: "Top-p",
    max_length: "Longest context, in tokens",
    system: "System prompt",
    defaults: "As the model’s makers chose",
    write: "Write a message",
    send: "Send",
    stop: "Stop",
    down: "To the end",
    untitled: "New chat",
    you: "You",
    copy: "Copy",
    copied: "Copied",
    edit: "Edit",
    cancel: "Cancel",
    save: "Send again",
    again: "Answer again",
    go_on: "Go on",
    thinking: "Thinking",
    thought: "What it thought",
    stopped: "Stopped",
    cut: "The context is full.",
    nothing: "The model said nothing.",
    reading: "Reading",
    complete: "The answer is complete.",
    tokens: (n, rate) => `${n} tokens${rate ? ` · ${rate} a second` : ""}`,
    loading: "The model is being loaded …",
    unreachable: "The server cannot be reached. Is glmtui still running?",
    broken: "The connection broke off; what came is kept.",
    full: "The browser has no room left: this conversation is not kept. Delete some others.",
    key_title: "API key",
    key_text: "This server wants a key. It is kept until you close this tab.",
    ok: "OK",
    hello: "What shall we talk about?",
    hello_small: "This page speaks to the machine it comes from, and to nobody else.",
    ended: "The app has ended.",
    open_again: "Open it again",
    examples: ["你好", "How do I quantise a model?", "Write a haiku about rain"],
  },
  zh: {
    skip: "跳到输入框",
    conversations: "对话",
    new: "新对话",
    kept: "只保存在此浏览器中。",
    kept_in_library: "保存在服务器所在的机器上，与应用的对话在一起。",
    not_kept: "服务器暂时没有保存此对话。",
    theme: "浅色、深色或跟随系统",
    language: "English",
    clear: "清空此对话",
    clear_sure: "删除此对话的所有消息？",
    delete: "删除",
    delete_sure: "删除此对话？",
    options: "选项",
    temperature: "温度（temperature）",
    top_p: "Top-p",
    max_length: "最大长度（词元）",
    system: "系统提示",
    defaults: "恢复模型作者的设定",
    write: "输入消息",
    send: "发送",
    stop: "停止",
    down: "到底部",
    untitled: "新对话",
    you: "你",
    copy: "复制",
    copied: "已复制",
    edit: "编辑",
    cancel: "取消",
    save: "重新发送",
    again: "重新回答",
    go_on: "继续",
    thinking: "思考中",
    thought: "思考过程",
    stopped: "已停止",
    cut: "上下文已满。",
    nothing: "模型什么也没有说。",
    reading: "阅读中",
    complete: "回答完毕。",
    tokens: (n, rate) => `${n} 个词元${rate ? ` · 每秒 ${rate} 个` : ""}`,
    loading: "正在载入模型……",
    unreachable: "无法连接服务器。glmtui 还在运行吗？",
    broken: "连接中断，已收到的内容已保留。",
    full: "浏览器空间已满，此对话没有保存。请删除一些其他对话。",
    key_title: "API 密钥",
    key_text: "此服务器需要密钥。密钥保存到关闭此标签页为止。",
    ok: "确定",
    hello: "想聊些什么？",
    hello_small: "此页面只与提供它的机器通信。",
    ended: "应用已退出。",
    open_again: "重新打开",
    examples: ["你好", "晚上睡不着应该怎么办", "写一首关于雨的短诗"],
  },
};

let language = lasting.get("glmtui.language");
if (!Object.hasOwn(WORDS, language)) language = navigator.language.startsWith("zh") ? "zh" : "en";

/** Return what stands for `name` in the language in use. */
export function t(name) {
  return WORDS[language][name] ?? WORDS.en[name];
}

/** Change to the other language, and remember it. */
export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  lasting.set("glmtui.language", language);
}

/** Write the words that index.html asks for by data-t, data-t-label and data-t-placeholder. */
export function translatePage() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.tagName === "BUTTON") element.title = t(element.dataset.tLabel);
  }
  for (const element of document.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
}
