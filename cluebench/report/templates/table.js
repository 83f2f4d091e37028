// Tables that can be sorted, filtered and taken along: every <table data-sortable>. A cell's value is its data-value,
// else its text; a column is called by its head's data-key, else by the head's text without spaces.
//
// A filter is words, each of which some cell of a row must contain, and conditions such as score>80, lr=3e-5, task!=c3.
// A checkbox or an option with data-table (the id of the table) adds its value to the filter while it is chosen.
"use strict";
(() => {
  const valueOf = cell => cell ? cell.dataset.value ?? cell.textContent.trim() : "";
  const numberOf = text => /^[-+]?[\d.]/.test(text) && isFinite(text) ? Number(text) : NaN;
  const compare = { ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b,
                    "=": (a, b) => a === b, "!=": (a, b) => a !== b };

  // (row's values) => whether they meet one condition or hold one word.
  function condition(text, keys) {
    const [, key, sign, wanted] = text.match(/^([^<>=!]*)(>=|<=|!=|>|<|=)(.+)$/) ?? [];
    const asked = sign ? keys.flatMap((name, place) => name === key ? [place] : []) : [];
    const places = sign && !key ? keys.map((_, place) => place) : asked;
    if (!sign || (key && !places.length)) return values => values.some(value => value.toLowerCase().includes(text));
    const number = numberOf(wanted);
    return values => places.some(place => {
      const value = numberOf(values[place]);
      if (!isNaN(number) && !isNaN(value)) return compare[sign](value, number);
      if (sign === "=") return values[place].toLowerCase() === wanted;
      return sign === "!=" && values[place].toLowerCase() !== wanted;
    });
  }

  // For the scripts of pages, too.
  const save = window.saveFile = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  function made(tag, attributes, text) {
    const element = Object.assign(document.createElement(tag), attributes);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function enliven(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
    const keys = heads.map(head => (head.dataset.key ?? head.textContent.replace(/\s/g, "")).toLowerCase());
    const name = table.dataset.name ?? table.id;
    const rows = [...body.rows].map(row => ({ row, values: heads.map((_, place) => valueOf(row.cells[place])) }));
    const shown = made("span", { className: "dim" });
    shown.setAttribute("aria-live", "polite");
    const asked = made("input", { type: "search", placeholder: table.dataset.hint ?? "filter" });
    asked.setAttribute("aria-label", `filter ${name}: words, or conditions on ${keys.filter(Boolean).join(", ")}`);
    asked.title = `words, or conditions such as ${keys.find(Boolean)}=…; columns: ${keys.filter(Boolean).join(", ")}`;
    const chosen = [...document.querySelectorAll("[data-table]")].filter(one => one.dataset.table === table.id);

    function filter() {
      const choices = chosen.map(one => one.type === "checkbox" && !one.checked ? "" : one.value);
      const conditions = [asked.value, ...choices].join(" ").toLowerCase().split(/\s+/).filter(Boolean)
        .map(text => condition(text, keys));
      let count = 0;
      for (const { row, values } of rows) {
        row.hidden = !conditions.every(holds => holds(values));
        count += !row.hidden;
      }
      shown.textContent = `${count} of ${rows.length} shown`;
    }

    function sort(place) {
      const numeric = rows.some(one => !isNaN(numberOf(one.values[place])));
      const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
      const order = heads[place].getAttribute("aria-sort") === first ? second : first;
      heads.forEach((head, other) => head.setAttribute("aria-sort", other === place ? order : "none"));
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((one, other) => {  // rows without a value last, whichever way
        const [a, b] = [one.values[place], other.values[place]];
        if (!numeric) return sign * a.localeCompare(b);
        const [left, right] = [numberOf(a), numberOf(b)];
        return isNaN(left) || isNaN(right) ? isNaN(left) - isNaN(right) : sign * (left - right);
      });
      body.append(...rows.map(one => one.row));
    }

    heads.forEach((head, place) => {
      if (!keys[place]) return;
      const button = made("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      if (!head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(place));
    });

    const named = keys.map((key, place) => place).filter(place => keys[place]);  // what has no name is links
    const visible = () => rows.filter(one => !one.row.hidden).map(one => named.map(place => one.values[place]));
    const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const csv = made("button", { type: "button", title: "the rows shown, as CSV" }, "CSV");
    csv.addEventListener("click", () =>
      save(`${name}.csv`, "text/csv", [named.map(place => keys[place]), ...visible()].map(line => line.map(quoted).join(",") + "\n").join("")));
    const json = made("button", { type: "button", title: "the rows shown, as JSON" }, "JSON");
    json.addEventListener("click", () => {
      const typed = text => isNaN(numberOf(text)) ? text : numberOf(text);
      const objects = visible().map(line => Object.fromEntries(line.map((text, place) => [keys[named[place]], typed(text)])));
      save(`${name}.json`, "application/json", JSON.stringify(objects, null, 1));
    });

    const tools = made("div", { className: "tools" });
    tools.append(asked, ...chosen.map(one => one.closest("label") ?? one), shown, csv, json);
    (table.closest(".scroll") ?? table).before(tools);
    asked.addEventListener("input", filter);
    chosen.forEach(one => one.addEventListener("input", filter));
    filter();
  }

  document.querySelectorAll("table[data-sortable]").forEach(enliven);

  // <button data-copy="text">: to the clipboard; where the browser keeps that from a page, the text can be taken by hand.
  document.addEventListener("click", event => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const said = button.textContent;
    navigator.clipboard.writeText(button.dataset.copy).then(
      () => { button.textContent = "copied"; setTimeout(() => { button.textContent = said; }, 1500); },
      () => prompt("Copy:", button.dataset.copy));
  });
})();
