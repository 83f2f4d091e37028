// One page, two languages. Text that can be translated stands in elements with data-t: the attribute's JSON, [template,
// values], or if it is empty the element's English text. The attributes title, aria-label and placeholder are looked up
// as they stand, or by data-t-title and so on.
"use strict";
(() => {
  const chinese = JSON.parse(document.getElementById("chinese").textContent);
  const choice = document.getElementById("language"), attributes = ["title", "aria-label", "placeholder"];

  // What the browser remembers of this page, for as long as its window is open (`session`) or for all pages.
  window.remembered = {
    get(name, session = true) {
      try { return JSON.parse((session ? sessionStorage : localStorage).getItem(session ? location.pathname + name : name)); }
      catch { return null; }
    },
    set(name, value, session = true) {
      try { (session ? sessionStorage : localStorage).setItem(session ? location.pathname + name : name, JSON.stringify(value)); }
      catch { /* a browser that keeps nothing */ }
    },
  };

  const translated = text => choice.value === "zh" && Object.hasOwn(chinese, text) ? chinese[text] : text;
  window.t = (template, values = {}) => translated(template).replace(/\{(\w+)\}/g, (whole, name) =>
    !Object.hasOwn(values, name) ? whole : Array.isArray(values[name]) ? t(...values[name]) : values[name]);
  // Every word a column is called by.
  window.inEveryLanguage = text => [text, chinese[text]].filter(Boolean);

  function translate() {
    document.documentElement.lang = choice.value === "zh" ? "zh-CN" : "en";
    for (const one of document.querySelectorAll("[data-t]")) {
      one.phrase ??= one.dataset.t ? JSON.parse(one.dataset.t) : [one.textContent.trim()];
      const text = t(...one.phrase);
      if (one.textContent !== text) one.textContent = text;
    }
    for (const name of attributes) for (const one of document.querySelectorAll(`[${name}]`)) {
      const phrases = one.phrases ??= {}, given = one.getAttribute(`data-t-${name}`);
      phrases[name] ??= given ? JSON.parse(given) : [one.getAttribute(name)];
      one.setAttribute(name, t(...phrases[name]));
    }
    document.dispatchEvent(new Event("language"));
  }

  const wanted = remembered.get("language", false) ?? (navigator.language?.startsWith("zh") ? "zh" : "en");
  choice.addEventListener("input", () => { remembered.set("language", choice.value, false); translate(); });
  // At the end of the page, after it is complete.
  window.showPage = () => { choice.value = wanted; translate(); };
})();
