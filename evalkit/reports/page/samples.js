"use strict";
// The samples' own script. Texts of models and files reach the page as text nodes alone.
(() => {
  const PAGE = 50;
  const MOST_EDITS = 2000;
  const MOST_POINTS = 60000;
  const MODELS = ["candidate", "baseline"];
  const count = (n) => n.toLocaleString("en-US");
  const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

  const el = (tag, props, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(props || {})) {
      if (key === "class") made.className = value; else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  };

  // ---- Text that acts on nothing -----------------------------------------------------------------------------

  // Control, format (zero-width, right-to-left), surrogate, private and unassigned characters, and line separators.
  const UNSEEN = /[^\P{C}\n\t]|[\u2028\u2029]/gu;
  const escaped = (c) => {
    const code = c.codePointAt(0);
    const hex = code.toString(16);
    if (code < 256) return `\\x${hex.padStart(2, "0")}`;
    return code < 65536 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
  };
  /** Append a text to an element; what would be invisible or turn the direction of writing stands as an escape. */
  const fill = (element, text) => {
    let end = 0;
    for (const found of text.matchAll(UNSEEN)) {
      element.append(text.slice(end, found.index), el("span", { class: "escape" }, escaped(found[0])));
      end = found.index + found[0].length;
    }
    element.append(text.slice(end));
    return element;
  };
  const harmless = (text) => text.replace(UNSEEN, escaped);

  // A text is a string; or [beginning, characters left out, end].
  const leftOut = (n) => `\u2026 ${plural(n, "character")} left out \u2026`;
  const whole = (text) => (typeof text === "string" ? text : `${text[0]} ${leftOut(text[1])} ${text[2]}`);
  const shown = (text) => {
    const made = el("bdi", { class: "model-text" });
    if (typeof text === "string") return text ? fill(made, text) : el("span", { class: "soft" }, "(empty)");
    fill(made, text[0]).append(el("span", { class: "left-out" }, ` ${leftOut(text[1])} `));
    return fill(made, text[2]);
  };

  // ---- Difference of two texts -------------------------------------------------------------------------------

  /** The fewest code points to remove from one text and to add, so that it becomes the other.
   *  Source: Myers 1986, Algorithmica 1, 251, the greedy algorithm, between the common beginning and end.
   *  Beyond MOST_EDITS or MOST_POINTS all between these is replaced, and `exact` is false. */
  const diff = (before, after) => {
    const a = Array.from(before), b = Array.from(after);
    let head = 0;
    while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
    let tail = 0;
    while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
    const x = a.slice(head, a.length - tail), y = b.slice(head, b.length - tail);
    const steps = x.length + y.length <= MOST_POINTS ? shortest(x, y) : null;
    const pieces = [];
    let removed = [], added = [];
    const flush = () => {
      if (removed.length) pieces.push({ kind: "removed", text: removed.join("") });
      if (added.length) pieces.push({ kind: "added", text: added.join("") });
      removed = []; added = [];
    };
    const keep = (points) => {
      if (!points.length) return;
      flush();
      const last = pieces[pieces.length - 1];
      if (last && last.kind === "kept") last.text += points.join(""); else pieces.push({ kind: "kept", text: points.join("") });
    };
    keep(a.slice(0, head));
    if (steps === null) {
      removed = x; added = y;
    } else {
      let i = 0, j = 0;
      for (const [n, step] of steps) {
        if (step === "kept") { keep(x.slice(i, i + n)); i += n; j += n; }
        else if (step === "removed") { removed.push(x[i]); i += 1; }
        else { added.push(y[j]); j += 1; }
      }
    }
    flush();
    keep(a.slice(a.length - tail));
    return { pieces, exact: steps !== null };
  };

  /** Steps of a shortest edit script from x to y; null where it is longer than MOST_EDITS. */
  const shortest = (x, y) => {
    const n = x.length, m = y.length, most = Math.min(n + m, MOST_EDITS);
    const reach = new Int32Array(2 * most + 3); // furthest i on each diagonal k, at k + most + 1
    const trace = [];
    for (let d = 0; d <= most; d += 1) {
      for (let k = -d; k <= d; k += 2) {
        const down = k === -d || (k !== d && reach[k + most] < reach[k + most + 2]);
        let i = down ? reach[k + most + 2] : reach[k + most] + 1;
        while (i < n && i - k < m && x[i] === y[i - k]) i += 1;
        reach[k + most + 1] = i;
        if (i >= n && i - k >= m) return walked(trace, d, n, m);
      }
      trace.push(reach.slice(most + 1 - d, most + 2 + d));
    }
    return null;
  };
  const walked = (trace, edits, n, m) => {
    const steps = [];
    let i = n, j = m;
    for (let d = edits; d > 0; d -= 1) {
      const at = (k) => trace[d - 1][k + d - 1];
      const k = i - j;
      const down = k === -d || (k !== d && (k - 1 < 1 - d ? -1 : at(k - 1)) < (k + 1 > d - 1 ? -1 : at(k + 1)));
      const from = down ? k + 1 : k - 1, was = at(from);
      const start = down ? was : was + 1;
      if (i > start) steps.push([i - start, "kept"]);
      steps.push([1, down ? "added" : "removed"]);
      i = was; j = was - from;
    }
    if (i > 0) steps.push([i, "kept"]);
    return steps.reverse();
  };

  const points = (pieces, kind) => pieces.reduce((sum, piece) => sum + (piece.kind === kind ? Array.from(piece.text).length : 0), 0);
  /** What becomes of one text in the other, marked; words, not only colours, say what is removed and what is added. */
  const difference = (name, before, after) => {
    if (before === after) return el("p", { class: "soft" }, `${name}: the same, character by character.`);
    const { pieces, exact } = diff(before, after);
    const kept = points(pieces, "kept"), removed = points(pieces, "removed"), added = points(pieces, "added");
    const told = `${name}: ${plural(removed, "character")} removed, ${count(added)} added`;
    if (3 * kept < Math.min(kept + removed, kept + added)) return el("p", { class: "soft" }, `${told}; they have little in common.`);
    const text = el("bdi", { class: "model-text" });
    for (const piece of pieces) {
      if (piece.kind === "kept") { fill(text, piece.text); continue; }
      const mark = el(piece.kind === "removed" ? "del" : "ins", null, el("span", { class: "said hidden" }, ` [${piece.kind}: `));
      fill(mark, piece.text.replace(/\n/g, "\u23ce\n")).append(el("span", { class: "said hidden" }, "] "));
      text.append(mark);
    }
    const bound = exact ? "" : " (too different to compare in full: all between the common beginning and end is marked)";
    return el("div", { class: "compared" }, el("p", { class: "soft" }, `${told}${bound}`), text);
  };

  // ---- The ledger's samples ----------------------------------------------------------------------------------

  // A heading's element beside an answer holds its text as the page shows it, cut and harmless.
  document.querySelectorAll("details.flip").forEach((flip) => flip.addEventListener("toggle", () => {
    if (!flip.open) return;
    flip.querySelectorAll("[data-difference]").forEach((place) => {
      if (!place.hidden) return;
      const [theirs, ours] = [...place.previousElementSibling.querySelectorAll(".model-text")].map((e) => e.textContent);
      place.append(difference("From the baseline\u2019s answer to the candidate\u2019s", theirs, ours));
      place.hidden = false;
    });
  }));

  window.evalkitSamples = { diff, harmless };

  // ---- The browser -------------------------------------------------------------------------------------------

  const browser = document.getElementById("samples-browser");
  if (browser === null) return;
  const get = (name) => document.getElementById(`samples-${name}`);
  const controls = ["search", "task", "model", "state"].map(get);
  const [search, task, model, state] = controls;
  const told = get("told"), list = get("list"), pages = get("pages");
  const index = JSON.parse(get("index").textContent);
  browser.hidden = false;

  let samples = null, found = [], page = 0;

  const unpack = async () => {
    const packed = Uint8Array.from(atob(JSON.parse(get("packed").textContent)), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const lines = (await new Response(stream).text()).split("\n");
    lines.pop();
    return lines.map((line) => JSON.parse(line)).map((sample, rank) => ({ ...sample, rank, why: why(sample) }))
      .sort((one, two) => one.why - two.why || one.t - two.t || one.rank - two.rank);
  };

  // What is looked for most stands first.
  const why = ({ d, s }) => {
    const bits = s[0] | s[1], ours = s[0] || s[1];
    const is = (name) => 1 << index.states.indexOf(name);
    if (d < 0) return 0;
    if (bits & is("failed")) return 1;
    if (bits & is("unscored")) return 2;
    if (ours & (is("wrong") | is("partly"))) return 3;
    return d > 0 ? 4 : 5;
  };

  const texts = (sample) => {
    const c = sample.c;
    return [
      index.tasks[sample.t], whole(sample.i), whole(c.q || ""), ...(c.m || []).map(([, text]) => whole(text)),
      ...(c.v || []).map(([, text]) => whole(text)), ...(c.o || []).map(whole), ...(c.g || []).map(whole),
      ...(c.l || []).map(([name, value]) => `${name}=${whole(value)}`), whole(c.k || ""),
      ...sample.w.flatMap((own) => (own === null ? [] : [
        ...own.a.map((answer) => whole(answer.t || "")), ...(own.f ? [own.f[0], whole(own.f[1])] : []),
        ...(own.e || []).map(([metric, note]) => `${metric} ${whole(note)}`),
      ])),
    ];
  };
  const haystack = (sample) => {
    if (sample.hay === undefined) sample.hay = texts(sample).join("\n").toLowerCase();
    return sample.hay;
  };
  const inState = (sample) => {
    if (state.value === "") return true;
    if (state.value === "worse") return sample.d < 0;
    if (state.value === "better") return sample.d > 0;
    const bit = 1 << index.states.indexOf(state.value);
    return sample.s.some((bits, at) => (bits & bit) !== 0 && ofModel(at));
  };
  const ofModel = (at) => model === null || model.value === "" || Number(model.value) === at;
  let asked = []; // the words of the page's own search, which hold here too
  const matches = (sample) => (task.value === "" || sample.t === Number(task.value))
    && sample.s.some((bits, at) => bits !== 0 && ofModel(at)) && inState(sample)
    && (search.value === "" || haystack(sample).includes(search.value.toLowerCase()))
    && asked.every((word) => haystack(sample).includes(word));

  const MARKS = {
    right: ["pass", "\u2713"], wrong: ["fail", "\u2717"], partly: ["inconclusive", "\u25d0"], measured: ["measured", "\u2022"],
    failed: ["missing", "\u2717"], unscored: ["inconclusive", "\u25cb"],
  };
  const status = (kind, sign, word) => el("span", { class: `status ${kind}` }, el("span", { "aria-hidden": "true" }, sign), ` ${word}`);
  const states = (bits) => index.states.filter((_, bit) => bits & (1 << bit)).map((name) => status(MARKS[name][0], MARKS[name][1], name));
  const spaced = (nodes) => nodes.flatMap((node) => [node, " "]);

  const named = (sample) => harmless(`${index.tasks[sample.t]}/${whole(sample.i)}`);
  const excerpt = (sample) => {
    const own = sample.w[0] || sample.w[1];
    const c = sample.c;
    const asked = c.q !== undefined ? c.q : (c.m || [["", ""]]).slice(-1)[0][1];
    const answer = own.a.length && own.a[0].t !== undefined ? ` \u2192 ${whole(own.a[0].t).slice(0, 120)}` : "";
    return harmless(`${whole(asked).slice(-120)}${answer}`.replace(/\s+/g, " "));
  };

  const summary = (sample) => {
    const made = el("summary");
    if (sample.d) made.append(sample.d < 0 ? status("worse", "\u25bc", "flipped worse") : status("better", "\u25b2", "flipped better"), " ");
    const both = sample.s.filter((bits) => bits).length > 1;
    const plain = sample.d !== 0 && sample.s.every((bits) => bits === 1 || bits === 2); // the flip says both
    if (!plain) sample.s.forEach((bits, at) => {
      if (bits && (at === 0 || !sample.s[0] || bits !== sample.s[0])) made.append(el("span", { class: "of-model" }, both && bits !== sample.s[1 - at] ? `${MODELS[at]}: ` : "", ...spaced(states(bits))));
    });
    made.append(el("code", null, el("bdi", null, named(sample))), " ", el("bdi", { class: "soft" }, excerpt(sample)));
    return made;
  };

  const part = (into, name, ...content) => into.append(el("dt", null, name), el("dd", null, ...content));
  const reply = (answer) => {
    const made = el("div");
    if (answer.v !== undefined) made.append(el("p", { class: "soft" }, el("bdi", null, harmless(whole(answer.v)))));
    if (answer.t !== undefined) made.append(shown(answer.t));
    else if (answer.p !== undefined) made.append(`log-probability ${answer.p}, ${plural(answer.n, "token")}`);
    else if (answer.f !== undefined) made.append(status("missing", "\u2717", "failed"), " ", el("bdi", null, harmless(answer.f)));
    if (answer.r) made.append(el("p", { class: "soft" }, answer.r === "length" ? "cut off: the most tokens allowed (length)" : `ended by: ${answer.r}`));
    return made;
  };
  const table = (head, rows, label) => el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label },
    el("table", { class: "data" }, el("thead", null, el("tr", null, ...head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", null, ...rows.map((row) => el("tr", null, ...row.map((cell, at) => el(at ? "td" : "th", at ? { class: "number" } : { scope: "row" }, cell)))))));
  const likelihoods = (sample, asked) => {
    const right = new Set((sample.c.g || []).map((target) => Number(whole(target))));
    return table(["Choice", ...asked.map((at) => `${MODELS[at]}, log-probability`)], sample.c.o.map((choice, place) => {
      const name = el("bdi", null, harmless(whole(choice)), right.has(place) ? " (target)" : "");
      return [name, ...asked.map((at) => {
        const values = sample.w[at].a.map((answer) => (answer.p === undefined ? -Infinity : answer.p));
        if (values[place] === undefined || values[place] === -Infinity) return "\u2013";
        return `${values[place]}${values[place] === Math.max(...values) ? " (likeliest)" : ""}`;
      })];
    }), `Choices of ${named(sample)}`);
  };

  const details = (sample) => {
    const c = sample.c, made = el("div"), parts = el("dl", { class: "sample-parts" });
    const asked = [0, 1].filter((at) => sample.w[at] !== null);
    const more = c.more || {};
    if (more.m) part(parts, "Before", `${plural(more.m, "earlier message")} left out`);
    (c.m || []).forEach(([role, text]) => part(parts, harmless(whole(role)), shown(text)));
    if (c.v) c.v.forEach(([name, text]) => part(parts, harmless(whole(name)), shown(text)));
    else if (c.q !== undefined) part(parts, "Prompt", shown(c.q));
    if (!c.o) (c.g || []).forEach((target) => part(parts, "Target", shown(target)));
    for (const [key, what] of [["g", "target"], ["o", "choice"], ["a", "answer"]]) if (more[key]) part(parts, "More", `${plural(more[key], what)} left out`);
    if (c.l) part(parts, "Slices", ...c.l.flatMap(([name, value]) => [el("code", null, el("bdi", null, harmless(`${name}=${whole(value)}`))), " "]));
    if (c.k !== undefined) part(parts, "Cluster", el("code", null, el("bdi", null, harmless(whole(c.k)))));
    made.append(parts);
    if (c.o) made.append(likelihoods(sample, asked));
    const answers = el("div", { class: "answers" });
    for (const at of [...asked].reverse()) {
      const own = sample.w[at], box = el("div", { class: "answer" }, el("h4", null, at ? "Baseline" : "Candidate", " ", ...spaced(states(sample.s[at]))));
      if (own.f) box.append(el("p", null, "failed: ", el("bdi", null, harmless(own.f[0]))), shown(own.f[1]));
      if (!c.o) own.a.forEach((answer) => box.append(reply(answer)));
      (own.e || []).forEach(([metric, note]) => box.append(el("p", { class: "soft" }, el("bdi", null, harmless(`${metric}: ${whole(note)}`)))));
      answers.append(box);
    }
    made.append(answers);
    const answered = asked.map((at) => sample.w[at].a.map((answer) => answer.t));
    const compared = el("div", { class: "difference" });
    if (asked.length === 2) answered[0].forEach((ours, at) => {
      const theirs = answered[1][at];
      if (ours !== undefined && theirs !== undefined) compared.append(difference("From the baseline\u2019s answer to the candidate\u2019s", whole(theirs), whole(ours)));
    });
    const target = !c.o && (c.g || []).length === 1 ? whole(c.g[0]) : "";
    const baseline = sample.w[1] !== null && sample.w[1].a.length === 1 ? whole(sample.w[1].a[0].t || "") : "";
    if (target && target.trim() !== baseline.trim() && sample.w[0] !== null && sample.w[0].a.length === 1 && sample.w[0].a[0].t !== undefined) {
      compared.append(difference("From the target to the candidate\u2019s answer", target.trim(), whole(sample.w[0].a[0].t).trim()));
    }
    made.append(compared);
    const measures = index.measures[sample.t];
    if (measures.length) made.append(table(["Score", ...asked.map((at) => MODELS[at])], measures.map((name, at) => [
      el("bdi", null, harmless(name)), ...asked.map((which) => (sample.x[at][which] === null ? "\u2013" : String(sample.x[at][which]))),
    ]), `Scores of ${named(sample)}`));
    return made;
  };

  const draw = () => {
    const start = page * PAGE, here = found.slice(start, start + PAGE), last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    list.replaceChildren(...here.map((sample) => {
      const made = el("details", { class: "more sample" }, summary(sample));
      made.addEventListener("toggle", () => { if (made.open && made.childElementCount === 1) made.append(details(sample)); });
      return made;
    }));
    pages.hidden = last === 0;
    get("place").textContent = `page ${count(page + 1)} of ${count(last + 1)}`;
    get("before").disabled = page === 0;
    get("next").disabled = page === last;
    const beyond = index.planned - index.embedded;
    const rest = beyond ? `; ${plural(beyond, "more sample")} of the run ${beyond === 1 ? "is" : "are"} not on this page` : "";
    told.textContent = `${count(found.length)} of ${plural(samples.length, "sample")} match${rest}.`;
  };

  let loading = null;
  const load = () => {
    loading = loading || (async () => {
      if (typeof DecompressionStream === "undefined") {
        told.textContent = "This browser cannot unpack the samples (it has no DecompressionStream): open the page in a current one. The counts above stand.";
        controls.forEach((control) => { if (control) control.disabled = true; });
        return;
      }
      told.textContent = "Unpacking the samples\u2026";
      samples = await unpack();
      update();
    })();
    return loading;
  };
  const update = () => { page = 0; found = samples.filter(matches); draw(); };
  let waiting = 0;
  const changed = () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => { await load(); if (samples !== null) update(); }, 120);
  };
  controls.forEach((control) => control && control.addEventListener("input", changed));
  document.querySelectorAll("button.to-samples").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      search.value = "";
      if (model !== null) model.value = "";
      task.value = String(index.tasks.indexOf(button.dataset.task));
      state.value = button.dataset.state;
      browser.scrollIntoView();
      search.focus({ preventScroll: true });
      changed();
    });
  });
  document.addEventListener("page:search", (event) => { asked = event.detail.words; changed(); });
  const turn = (by) => { page += by; draw(); list.firstElementChild.querySelector("summary").focus(); };
  get("before").addEventListener("click", () => turn(-1));
  get("next").addEventListener("click", () => turn(1));
  // Nothing is unpacked before somebody comes near: the page opens at once, whatever it holds.
  new IntersectionObserver((entries, seen) => {
    if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); load(); }
  }, { rootMargin: "300px" }).observe(browser);
})();
