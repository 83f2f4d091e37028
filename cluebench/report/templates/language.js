// One page, two languages. Elements with data-t are translated: the attribute is the JSON [template, values], or it is empty
// and the element's English text is the template. The attributes title, aria-label and placeholder are translated as well,
// or data-t-title and so on if the element has them.
"use strict";
(() => {
  const chinese = JSON.parse(document.getElementById("chinese").textContent);
  const choice = document.getElementById("language"), attributes = ["title", "aria-label", "placeholder"];

  // Values that the browser keeps for this page while its window is open (`session`), or for all pages.
  window.remembered = {
    get(name, session = true) {
      try { return JSON.parse((session ? sessionStorage : localStorage).getItem(session ? location.pathname + name : name)); }
      catch { return null; }
    },
    set(name, value, session = true) {
      try { (session ? sessionStorage : localStorage).setItem(session ? location.pathname + name : name, JSON.stringify(value)); }
      catch { /* the browser keeps nothing */ }
    },
  };

  const translated = text => choice.value === "zh" && Object.hasOwn(chinese, text) ? chinese[text] : text;
  window.t = (template, values = {}) => translated(template).replace(/\{(\w+)\}/g, (whole, name) =>
    !Object.hasOwn(values, name) ? whole : Array.isArray(values[name]) ? t(...values[name]) : values[name]);
  // The names of a column.
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
