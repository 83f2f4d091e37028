// Tables that can be sorted, filtered and saved: every <table data-sortable>. A cell's value is its data-value
// or, without one, its text. A column's name is its head's data-key or, without one, the head's text without spaces. The
// text in both languages and data-also are names of the column as well.
//
// A filter has words and conditions such as score > 80 or parameters<110M. Each word must be in a cell of the row. A checkbox
// or an option with data-table (the id of the table) adds its value to the filter while it is chosen.
"use strict";
(() => {
  const valueOf = cell => cell ? cell.dataset.value ?? cell.textContent.trim() : "";
  const numberOf = text => /^[-+]?[\d.]/.test(text) && isFinite(text) ? Number(text) : NaN;
  // 110M, 3e-5, 80%
  const typedNumber = text => {
    const [, digits, unit] = text.match(/^(.*?)([kmgb%]?)$/i);
    return numberOf(digits) * ({ k: 1e3, m: 1e6, g: 1e9, b: 1e9 }[unit.toLowerCase()] ?? 1);
  };
  const compare = { ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b,
                    "=": (a, b) => a === b, "!=": (a, b) => a !== b };
  const plain = name => name.toLowerCase().replace(/[\s_]/g, "");
  const CONDITION = /([^<>=!\s]*)(>=|<=|!=|>|<|=)([^<>=!\s]+)/g;

  // {tests: a function of a row's values for every condition and word; unknown: names without a column}
  function filterOf(text, columns) {
    const unknown = [], tests = [], names = columns.flatMap(column => column.names).sort((a, b) => b.length - a.length);
    text = text.toLowerCase().replace(/\s*(>=|<=|!=|>|<|=)\s*/g, "$1");
    for (const name of names.filter(name => name.includes(" ")))  // learning rate>3e-5
      text = text.replace(new RegExp(`${name.replace(/[^\w ]/g, "\\$&")}(?=[<>=!])`, "g"), plain);
    const words = text.replace(CONDITION, (_, name, sign, wanted) => {
      const asked = columns.flatMap((column, place) =>
        (name ? column.names.some(one => plain(one) === plain(name)) : column.names.length) ? [place] : []);
      if (!asked.length) unknown.push(name);
      else tests.push(values => asked.some(place => meets(values[place], sign, wanted)));
      return " ";
    }).split(/\s+/).filter(Boolean);
    for (const word of words) tests.push(values => values.some(value => value.toLowerCase().includes(word)));
    return { unknown, tests };
  }

  function meets(value, sign, wanted) {
    const number = typedNumber(wanted);
    if (!isNaN(number) && !isNaN(numberOf(value))) return compare[sign](numberOf(value), number);
    return sign === "=" ? value.toLowerCase() === wanted : sign === "!=" && value.toLowerCase() !== wanted;
  }

  // Pages' scripts use it as well.
  const save = window.saveFile = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  function made(tag, attributes, phrase) {
    const element = Object.assign(document.createElement(tag), attributes);
    if (phrase !== undefined) { element.dataset.t = ""; element.textContent = phrase; }
    return element;
  }

  function enliven(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
    const keys = heads.map(head => head.dataset.key ?? head.textContent.replace(/\s/g, "").toLowerCase());
    const columns = heads.map((head, place) => ({ names: keys[place] === "" ? [] : [keys[place],
      ...inEveryLanguage(head.textContent.trim()), ...(head.dataset.also ?? "").split(" ")].filter(Boolean).map(name => name.toLowerCase()) }));
    const name = table.dataset.name ?? table.id, listed = keys.filter(Boolean).join(", ");
    const rows = [...body.rows].map(row => ({ row, values: heads.map((_, place) => valueOf(row.cells[place])) }));
    const shown = made("span", { className: "dim" });
    shown.setAttribute("aria-live", "polite");
    const asked = made("input", { type: "search", id: `${table.id}-filter`, placeholder: table.dataset.hint ?? "filter" });
    asked.setAttribute("aria-label", "filter");
    asked.setAttribute("data-t-title", JSON.stringify(["words, or conditions on the columns {columns}", { columns: listed }]));
    asked.title = listed;
    const chosen = [...document.querySelectorAll("[data-table]")].filter(one => one.dataset.table === table.id);

    function filter() {
      const choices = chosen.map(one => one.type === "checkbox" && !one.checked ? "" : one.value);
      const { unknown, tests } = filterOf([asked.value, ...choices].join(" "), columns);
      let count = 0;
      for (const { row, values } of rows) {
        row.hidden = !tests.every(test => test(values)) || (table.only?.(row) ?? true) === false;
        count += !row.hidden;
      }
      asked.setAttribute("aria-invalid", unknown.length > 0);
      shown.textContent = unknown.length ? t("no column is called {name}; columns: {columns}", { name: unknown.join(", "), columns: listed })
        : t("{count} of {all} shown", { count, all: rows.length });
    }

    function sort(place) {
      const numeric = rows.some(one => !isNaN(numberOf(one.values[place])));
      const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
      const order = heads[place].getAttribute("aria-sort") === first ? second : first;
      heads.forEach((head, other) => head.setAttribute("aria-sort", other === place ? order : "none"));
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((one, other) => {  // rows without a value come last in both orders
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

    const named = keys.map((key, place) => place).filter(place => keys[place]);  // columns of links have no name
    const visible = () => rows.filter(one => !one.row.hidden).map(one => named.map(place => one.values[place]));
    const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const csv = made("button", { type: "button", title: "the rows shown, as CSV", textContent: "CSV" });
    csv.addEventListener("click", () =>
      save(`${name}.csv`, "text/csv", [named.map(place => keys[place]), ...visible()].map(line => line.map(quoted).join(",") + "\n").join("")));
    const json = made("button", { type: "button", title: "the rows shown, as JSON", textContent: "JSON" });
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
    document.addEventListener("language", filter);
    table.refilter = filter;
    filter();
  }

  // If a box is too narrow for its table, a click on its sign shows the next columns.
  function signposted(box) {
    const sign = made("button", { type: "button", className: "more", hidden: true, tabIndex: -1 }, "more columns →");
    box.before(sign);
    sign.addEventListener("click", () => box.scrollBy({ left: box.clientWidth / 2, behavior: "smooth" }));
    const look = () => { sign.hidden = box.scrollLeft + box.clientWidth >= box.scrollWidth - 2; };
    box.addEventListener("scroll", look);
    new ResizeObserver(look).observe(box);
    document.addEventListener("language", look);
  }

  document.querySelectorAll("table[data-sortable]").forEach(enliven);
  document.querySelectorAll(".scroll").forEach(signposted);

  // <button data-copy="text">: to the clipboard; if the browser forbids this, the user can select the text.
  document.addEventListener("click", event => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(button.dataset.copy).then(
      () => { button.textContent = t("copied"); setTimeout(() => { button.textContent = t("copy"); }, 1500); },
      () => prompt(t("copy"), button.dataset.copy));
  });
})();
