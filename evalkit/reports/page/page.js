"use strict";
// The page's own script: theme, search, tables that sort and filter, plots that are drawn when they come into view.
// What other scripts put on the page later they announce by an event "page:added" on document, with the element as
// its detail; tables and plots in it then work as those that were there. A search is told as "page:search" on document:
// its detail has the words asked for (lower case) and hits(section id, number), for parts with no table of their own.
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const number = (n) => n.toLocaleString("en");
  root.classList.add("scripted");

  // Theme: the system's until the reader chooses.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tellTheme = () => { if (toggle) toggle.textContent = isDark() ? "Light theme" : "Dark theme"; };
  toggle?.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; tellTheme(); });
  system.addEventListener("change", tellTheme);
  tellTheme();

  // Plots. Colours are the page's own properties, so that a drawn plot follows theme and printer.
  const held = document.getElementById("plots");
  const specs = held ? JSON.parse(held.textContent) : {};
  const axis = {
    domainColor: "var(--line)", gridColor: "var(--line)", gridOpacity: 0.7, tickColor: "var(--line)", labelColor: "var(--soft)",
    titleColor: "var(--soft)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 420,
  };
  const theme = {
    aria: false, background: "transparent", font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null }, axis, point: { opacity: 1 },
    text: { color: "var(--text)" }, rule: { color: "var(--soft)" },
    header: { labelColor: "var(--text)", titleColor: "var(--soft)", labelFontSize: 12 },
    legend: { labelColor: "var(--text)", titleColor: "var(--soft)", labelFontSize: 12, orient: "top", symbolStrokeColor: "var(--soft)", labelLimit: 300 },
    title: { color: "var(--text)", subtitleColor: "var(--soft)", fontSize: 13, anchor: "start", frame: "group" },
  };
  // What a plot sets of its own stays (fonts, flushing, frames), but for colours.
  const themed = (own) => {
    const made = { ...theme };
    for (const [part, held] of Object.entries(own)) made[part] = held && typeof held === "object" ? { ...held, ...theme[part] } : theme[part] ?? held;
    if (own.view?.stroke) made.view = { stroke: "var(--line)" };
    return made;
  };
  // Dark ink would be lost on a dark ground, and white no longer looks hollow there.
  const INKS = [['"#333333"', '"var(--text)"'], ['"value":"white"', '"value":"var(--card)"']];
  const inked = ({ config, ...spec }) => JSON.parse(INKS.reduce((text, [from, to]) => text.replaceAll(from, to), JSON.stringify(spec)));
  // Vega-Lite 5 names Vega 5 in what it compiles, which Vega 6 draws as well: that one remark is no news to a reader.
  const warn = console.warn;
  console.warn = (...told) => { if (!String(told[0]).startsWith("The compiled spec uses Vega")) warn.apply(console, told); };
  const draw = async (figure) => {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "begun";
    seen.unobserve(figure);
    const place = figure.querySelector(".drawing");
    const spec = specs[figure.dataset.plot];
    if (!spec) return;
    const options = {
      actions: false, ast: true, logLevel: 1, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true },
      config: themed(spec.config ?? {}),
    };
    try {
      await vegaEmbed(place, inked(spec), options);
      for (const svg of all("svg", place)) svg.setAttribute("aria-hidden", "true"); // its label says what it shows
      figure.dataset.drawn = "done";
      reachable(figure);
    } catch (error) {
      figure.dataset.drawn = "failed";
      place.textContent = `This plot could not be drawn (${error.message}). Its numbers stand in the table.`;
    }
  };
  // What scrolls sideways must be reachable by keyboard.
  const reachable = (figure) => {
    if (figure.scrollWidth <= figure.clientWidth) return;
    figure.tabIndex = 0;
    figure.setAttribute("role", "group");
    figure.setAttribute("aria-label", "Plot, scrolls sideways");
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "200px" });

  // Tables
  const tables = new Map();
  let asked = [];
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const textOf = (row) => (row.textContent + " " + Object.values(row.dataset).join(" ")).toLowerCase();

  const made = (table) => {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]).map((row) => ({ row, text: null }));
    const it = { table, rows, filters: null, input: null, selects: [], shown: null, section: table.closest("main > section") };
    all("thead th", table).forEach((th, column) => sortable(it, th, column));
    return it;
  };

  const sortable = (it, th, column) => {
    const label = th.textContent.trim();
    if (!label || th.dataset.sort === "none" || th.colSpan > 1) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[th.getAttribute("aria-sort") ?? "none"];
      all("thead th", it.table).forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") th.setAttribute("aria-sort", next);
      sort(it, column, th.dataset.sort === "number", next);
    });
  };

  const valueOf = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = cell ? (cell.dataset.value ?? cell.textContent.trim()) : "";
    if (!numeric) return text === "–" ? "" : text.toLowerCase();
    const value = parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return Number.isNaN(value) ? null : value;
  };
  const sort = (it, column, numeric, order) => {
    const sign = order === "descending" ? -1 : 1;
    const keyed = it.rows.map((each, place) => ({ ...each, place, key: valueOf(each.row, column, numeric) }));
    const absent = (key) => key === null || key === "";
    const compare = (a, b) => {
      if (order === "none") return a.place - b.place;
      if (absent(a.key) || absent(b.key)) return absent(a.key) - absent(b.key) || a.place - b.place;
      const ordered = numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
      return sign * ordered || a.place - b.place;
    };
    const body = it.table.tBodies[0];
    for (const { row } of keyed.sort(compare)) body.append(row);
  };

  const filtered = (it, filters) => {
    it.filters = filters;
    it.input = filters.querySelector('input[type="search"]');
    it.selects = all("select[data-column]", filters);
    it.shown = filters.querySelector("output") ?? filters.appendChild(document.createElement("output"));
    it.shown.setAttribute("aria-live", "polite");
    for (const select of it.selects) {
      if (select.options.length > 1) continue;
      const values = [...new Set(it.rows.map(({ row }) => row.dataset[select.dataset.column]).filter(Boolean))];
      for (const value of values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) select.add(new Option(value, value));
    }
    for (const select of it.selects) select.closest("label").hidden = select.options.length < 3; // nothing to choose
    filters.addEventListener("input", () => apply(it));
    filters.addEventListener("change", () => apply(it));
  };

  // Shows the rows that the table's own filters and the page's search both let through; returns their number.
  const apply = (it) => {
    const own = it.input ? words(it.input.value) : [];
    const chosen = it.selects.map((select) => [select.dataset.column, select.value]).filter(([, value]) => value);
    let shown = 0;
    for (const each of it.rows) {
      let there = chosen.every(([column, value]) => (each.row.dataset[column] ?? "") === value);
      if (there && (own.length || asked.length)) {
        each.text ??= textOf(each.row);
        there = own.every((word) => each.text.includes(word)) && asked.every((word) => each.text.includes(word));
      }
      each.row.hidden = !there;
      shown += there;
    }
    if (it.shown) it.shown.textContent = `${number(shown)} of ${number(it.rows.length)} shown`;
    return shown;
  };

  const enhance = (from) => {
    const within = from.matches?.("table.data") ? [from] : all("table.data", from);
    for (const table of within) {
      if (tables.has(table)) continue;
      const it = made(table);
      tables.set(table, it);
      const filters = all(".filters").find((each) => each.dataset.for === table.dataset.name);
      if (filters) filtered(it, filters);
      if (filters || asked.length) apply(it);
    }
    const figures = from.matches?.("figure.plot") ? [from] : all("figure.plot", from);
    for (const figure of figures) seen.observe(figure);
    for (const button of all("button[data-copy]", from)) button.addEventListener("click", () => copy(button));
  };

  // Search: every table at once.
  const box = document.getElementById("search");
  const told = document.getElementById("found");
  const links = new Map(all(".contents a").map((link) => [link.hash.slice(1), link]));
  const search = () => {
    asked = words(box.value);
    const found = new Map();
    const hits = (id, n) => found.set(id, (found.get(id) ?? 0) + n);
    for (const it of tables.values()) {
      const shown = apply(it);
      if (it.section) hits(it.section.id, shown);
    }
    document.dispatchEvent(new CustomEvent("page:search", { detail: { words: asked, hits } }));
    for (const [id, link] of links) {
      link.querySelector(".hits")?.remove();
      const n = found.get(id) ?? 0;
      if (!asked.length || !n) continue;
      const mark = document.createElement("span");
      mark.className = "hits";
      mark.textContent = number(n);
      link.append(" ", mark);
    }
    const total = [...found.values()].reduce((sum, n) => sum + n, 0);
    told.textContent = asked.length ? (total === 1 ? "1 row" : `${number(total)} rows`) : "";
    place = -1;
  };
  // Enter goes from one table with rows that were found to the next.
  let place = -1;
  const jump = () => {
    const first = [...tables.values()].map((it) => it.rows.find(({ row }) => !row.hidden)?.row).filter(Boolean);
    if (!asked.length || !first.length) return;
    place = (place + 1) % first.length;
    open(first[place]);
    first[place].scrollIntoView({ block: "center" });
  };
  box?.addEventListener("input", search);
  box?.form?.addEventListener("submit", (event) => { event.preventDefault(); jump(); });

  // A link leads to what it names, folded or filtered away as it may be.
  const open = (element) => {
    for (let at = element.parentElement; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  };
  // The page grows as plots and samples are reached: what a link led to stays in place until the reader moves.
  let aim = null;
  for (const move of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(move, () => { aim = null; }, { passive: true });
  }
  new ResizeObserver(() => aim?.scrollIntoView()).observe(document.body);
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    aim = target;
    open(target);
    if (target.hidden) {
      if (box?.value) { box.value = ""; search(); }
      const it = tables.get(target.closest("table.data"));
      if (target.hidden && it) {
        if (it.input) it.input.value = "";
        for (const select of it.selects) select.value = "";
        apply(it);
      }
      target.hidden = false;
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) reveal(); // a second click on the same link changes no hash
  });

  // Copying needs no network and no permission: where there is no clipboard the text is selected instead.
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    const say = (word) => {
      button.dataset.word ??= button.textContent;
      button.textContent = word;
      setTimeout(() => { button.textContent = button.dataset.word; }, 2000);
    };
    try {
      await navigator.clipboard.writeText(source.textContent);
      say("Copied");
    } catch {
      getSelection().selectAllChildren(source);
      say(document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C");
    }
  };

  // Where the reader is.
  const current = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  all("main > section").forEach((section) => current.observe(section));

  // Printing shows what is folded and draws what nobody scrolled to.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details.more:not([open])");
    for (const details of folded) details.open = true;
    for (const figure of all("figure.plot")) draw(figure);
  });
  addEventListener("afterprint", () => { for (const details of folded) details.open = false; });

  document.addEventListener("page:added", (event) => enhance(event.detail));
  enhance(document);
  if (location.hash) reveal();
  root.dataset.ready = "yes";
})();
