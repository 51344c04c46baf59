"use strict";
// The browser of examples. The list is drawn from the index; transcripts lie packed in blocks that are read when an
// example is chosen. Every text is set as text: nothing here parses markup.
(() => {
  const tasks = JSON.parse(document.getElementById("index").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const rows = document.getElementById("rows");
  const detail = document.getElementById("detail");
  const count = document.getElementById("count");
  const ROW = 52;
  const RIGHT = 1, UNREAD = 2, MISSING = 4; // places in STATES
  const STATES = [["wrong", "wrong"], ["right", "right"], ["unread", "other"], ["failed", "other"], ["not asked", "other"]];
  const OUTCOMES = { "": "any", right: "right", wrong: "wrong", unread: "unread", failed: "failed" };
  let task = tasks[0];
  let shown = []; // places of the examples that pass the filters, in order
  let chosen = -1; // place of the example in the detail
  let drawn = 0; // number of the latest detail, so that a slow block does not overwrite a later choice

  // What a terminal or a page would obey, as in r2p_dspy/values/lines.py.
  const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\p{Cs}\u{e0000}-\u{e007f}]/gu;
  const visible = (text) => String(text).replace(UNSAFE, "\ufffd");

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null && child !== "").map(
      (child) => (child instanceof Node ? child : document.createTextNode(visible(child)))));
    return made;
  }

  function isolated(text) {
    return element("bdi", "", text);
  }

  function block(text, className = "text") {
    const made = element("div", className, text);
    made.dir = "auto";
    return made;
  }

  // Filters

  function fill(select, options, value) {
    const wanted = value === undefined ? select.value : value;
    select.replaceChildren(...Object.entries(options).map(([key, words]) => {
      const option = element("option", "", words);
      option.value = key;
      return option;
    }));
    select.value = wanted in options ? wanted : Object.keys(options)[0];
  }

  function setUpTask() {
    const names = Object.keys(task.programs);
    const programs = Object.fromEntries(names.map((name) => [name, task.same[name] ? `${name} (the same as ${task.same[name]})` : name]));
    const first = ["compiled", "tuned", "r2p", "r2p:intervention"].find((name) => name in programs)
      || names.findLast((name) => name.startsWith("student:")) || names.at(-1);
    const second = ["cot", "predict", "teacher"].find((name) => name in programs && name !== first) || "";
    fill(form.elements.program, programs, first);
    fill(form.elements.beside, { "": "nothing", ...programs }, second);
    fill(form.elements.outcome, { ...OUTCOMES, differ: "right in one alone" }, "");
    fill(form.elements.besideOutcome, OUTCOMES, "");
    const checks = { "": "any", corrected: "corrected while it wrote" };
    task.checks.forEach((name, number) => { checks[`unmet:${number}`] = `unmet: ${name}`; });
    task.checks.forEach((name, number) => { checks[`first:${number}`] = `unmet at first: ${name}`; });
    fill(form.elements.check, checks, "");
    form.elements.user.value = "";
    document.getElementById("users").replaceChildren(...[...new Set(task.users)].slice(0, 5000).map((user) => {
      const option = document.createElement("option");
      option.value = visible(user);
      return option;
    }));
  }

  const stateName = (program, place) => STATES[program.state[place]][0];

  function passes(place, values, program, beside) {
    if (values.user && visible(task.users[place]) !== values.user) return false;
    if (values.outcome === "differ") {
      if (!beside || Math.max(program.state[place], beside.state[place]) > UNREAD) return false;
      if ((program.state[place] === RIGHT) === (beside.state[place] === RIGHT)) return false;
    } else if (values.outcome && stateName(program, place) !== values.outcome) return false;
    if (values.besideOutcome && beside && stateName(beside, place) !== values.besideOutcome) return false;
    if (values.check === "corrected") return place in program.interventions;
    if (values.check) {
      const [kind, number] = values.check.split(":");
      return (program[kind][place] || []).includes(Number(number));
    }
    return program.state[place] !== MISSING || !beside || beside.state[place] !== MISSING;
  }

  function apply() {
    const values = Object.fromEntries(new FormData(form));
    const program = task.programs[values.program];
    const beside = values.beside ? task.programs[values.beside] : null;
    form.elements.besideOutcome.disabled = !beside;
    shown = [];
    for (let place = 0; place < task.ids.length; place += 1) {
      if (passes(place, values, program, beside)) shown.push(place);
    }
    if (values.order) {
      const sign = values.order === "up" ? 1 : -1;
      const score = (place) => program.score[place] ?? (sign > 0 ? 2 : -1);
      shown.sort((one, other) => sign * (score(one) - score(other)) || one - other);
    }
    count.textContent = `${shown.length.toLocaleString("en")} of ${task.ids.length.toLocaleString("en")} examples`;
    rows.style.height = `${shown.length * ROW}px`;
    if (!shown.includes(chosen)) {
      list.scrollTop = 0;
      choose(shown.length ? shown[0] : -1);
    } else {
      reveal();
      draw();
      describe();
    }
  }

  // The list: only the rows that can be seen are in the document.

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const values = Object.fromEntries(new FormData(form));
    const programs = [values.program, values.beside].filter(Boolean).map((name) => [name, task.programs[name]]);
    const made = [];
    for (let position = first; position < last; position += 1) made.push(row(position, programs));
    rows.replaceChildren(...made);
    const active = shown.indexOf(chosen);
    if (active >= first && active < last) list.setAttribute("aria-activedescendant", `row-${active}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function row(position, programs) {
    const place = shown[position];
    const program = programs[0][1];
    const answer = program.answer.length ? task.texts[program.answer[place]] : "";
    const title = element("div", "title", isolated(task.titles[place] || task.ids[place]));
    const under = element("div", "under", isolated(task.ids[place]), answer ? " · " : "", answer ? isolated(answer) : "");
    const states = element("div", "states", ...programs.map(([name, own]) => badge(name, own.state[place], true)));
    const made = element("div", "row", title, under, states);
    made.id = `row-${position}`;
    made.role = "option";
    made.setAttribute("aria-selected", String(place === chosen));
    made.setAttribute("aria-setsize", String(shown.length));
    made.setAttribute("aria-posinset", String(position + 1));
    made.style.top = `${position * ROW}px`;
    made.addEventListener("click", () => choose(place, true));
    return made;
  }

  function badge(name, state, short) {
    const [words, kind] = STATES[state];
    const signs = ["✗", "✓", "?", "!", "–"];
    const made = element("span", `state ${kind}`, short ? signs[state] : `${signs[state]} ${words}`);
    if (short) {
      made.title = visible(`${name}: ${words}`);
      made.setAttribute("aria-label", made.title);
      made.role = "img";
    }
    return made;
  }

  function choose(place, fromList = false) {
    chosen = place;
    reveal();
    draw();
    describe();
    if (fromList && matchMedia("(max-width: 760px)").matches) detail.scrollIntoView({ block: "start" });
  }

  function reveal() {
    const position = shown.indexOf(chosen);
    if (position < 0) return;
    const top = position * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }

  const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

  list.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS) || !shown.length) return;
    event.preventDefault();
    const position = Math.max(0, Math.min(shown.length - 1, shown.indexOf(chosen) + STEPS[event.key]));
    choose(shown[position]);
  });
  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);

  // Transcripts

  const unpackedBlocks = new Map();

  // The list is drawn before the blocks behind this script have arrived.
  const arrived = document.readyState === "loading"
    ? new Promise((done) => { document.addEventListener("DOMContentLoaded", done, { once: true }); }) : Promise.resolve();

  async function unpack(number) {
    await arrived;
    const packed = atob(document.getElementById(`block-${number}`).textContent);
    const bytes = Uint8Array.from(packed, (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  function transcripts(place) {
    const number = task.firstBlock + Math.floor(place / task.block);
    if (!unpackedBlocks.has(number)) {
      if (unpackedBlocks.size > 12) unpackedBlocks.delete(unpackedBlocks.keys().next().value);
      unpackedBlocks.set(number, unpack(number));
    }
    return unpackedBlocks.get(number).then((data) => ({ texts: data.texts, ...data.examples[place % task.block] }));
  }

  async function describe() {
    const turn = ++drawn;
    detail.setAttribute("aria-busy", "true");
    if (chosen < 0) {
      detail.replaceChildren(element("p", "quiet", "No example passes these filters."));
      detail.setAttribute("aria-busy", "false");
      return;
    }
    const place = chosen;
    const values = Object.fromEntries(new FormData(form));
    const names = [...new Set([values.program, values.beside].filter(Boolean))];
    let held = {};
    if (task.packed) {
      try {
        held = await transcripts(place);
      } catch (error) {
        held = { problem: `This browser cannot unpack the transcripts (${error.name}); try a newer one.` };
      }
    }
    if (turn !== drawn) return;
    const own = (name) => held[task.same[name] || name];
    const any = names.map(own).find(Boolean) || Object.values(held).find((entry) => entry && entry.question);
    const parts = [element("h3", "", "Example ", isolated(task.ids[place]))];
    if (task.users[place] !== task.ids[place]) parts.push(element("p", "quiet", "user ", isolated(task.users[place])));
    for (const [name, text] of Object.entries((any && any.question) || {})) {
      parts.push(element("h4", "", name), block(text));
    }
    if (task.golds.length && task.texts[task.golds[place]]) {
      parts.push(element("h4", "", "right answer"), block(task.texts[task.golds[place]], "text answer"));
    }
    if (held.problem) parts.push(element("p", "notes", held.problem));
    parts.push(element("div", "sides", ...names.map((name) => side(name, place, own(name), held.texts))));
    detail.replaceChildren(...parts);
    detail.setAttribute("aria-busy", "false");
  }

  function side(name, place, transcript, texts) {
    const program = task.programs[name];
    const made = element("section", "side", element("h3", "", name, " ", badge(name, program.state[place], false)));
    if (program.score[place] !== null && program.score[place] !== undefined && ![0, 1].includes(program.score[place])) {
      made.append(element("p", "quiet", `task score ${program.score[place].toFixed(3)}`));
    }
    if (program.cause[place]) made.append(element("p", "quiet", `cause: ${program.cause[place]}`));
    if (!transcript) {
      if (program.answer.length) made.append(block(task.texts[program.answer[place]], "text answer"));
      for (const [kind, words] of [["first", "unmet at first"], ["unmet", "unmet"]]) {
        const numbers = program[kind][place];
        if (numbers) made.append(element("p", "", `${words}: ${numbers.map((number) => task.checks[number]).join(", ")}`));
      }
      if (program.state[place] !== MISSING) made.append(element("p", "quiet", "The run keeps no transcript of it."));
      return made;
    }
    for (const [field, text] of Object.entries(transcript.outputs || {})) {
      made.append(element("h4", "", field), block(text, text.length > 80 ? "text" : "text answer"));
    }
    section(made, "unmet checks", transcript.unmet, (text) => isolated(text));
    section(made, "warnings", transcript.warnings, (text) => isolated(text));
    evidence(made, transcript);
    section(made, "preferences", transcript.preferences, (entry) => element("span", "", isolated(entry.statement), " ",
      element("small", "", `items ${(entry.items || []).join(", ")}`)));
    section(made, "corrections", transcript.corrections, (text) => isolated(text));
    section(made, "candidates", transcript.candidates, (entry) => element("span", "", isolated(entry.answer || "no answer"), " ",
      element("small", "", [entry.chosen ? "chosen" : "", entry.survives ? `${entry.support} answer so` : "dropped", entry.error || ""].filter(Boolean).join(" · "))));
    if (transcript.decision) made.append(element("h4", "", "decision"), block(transcript.decision));
    if (transcript.reasoning) made.append(folded("Reasoning, stage by stage", () => reasoning(transcript.reasoning)));
    calls(made, transcript.calls || [], transcript.candidates || [], texts);
    return made;
  }

  function section(parent, title, entries, make) {
    if (!entries || !entries.length) return;
    parent.append(element("h4", "", title), element("ul", "plainlist", ...entries.map((entry) => element("li", "", make(entry)))));
  }

  function folded(title, make) {
    const made = element("details", "", element("summary", "", title));
    made.addEventListener("toggle", () => {
      if (made.open && made.children.length === 1) made.append(...make());
    });
    return made;
  }

  function evidence(parent, transcript) {
    const cited = transcript.cited || [];
    const items = transcript.items || [];
    if (!items.length && !cited.length) return;
    parent.append(element("h4", "", cited.length ? "evidence" : "evidence: none is cited"));
    for (const entry of cited) {
      const item = items.find((other) => other.id === entry.id);
      if (entry.known && item) parent.append(itemOf(item, entry));
      else {
        parent.append(element("div", "item", `Item ${entry.id} does not exist. The model quotes: `,
          ...(entry.missing || []).map((quote) => isolated(`“${quote}” `))));
      }
    }
    const others = items.filter((item) => !cited.some((entry) => entry.known && entry.id === item.id));
    if (others.length) {
      parent.append(folded(`${others.length} more ${others.length === 1 ? "item" : "items"} in the prompt`, () => others.map((item) => itemOf(item, null))));
    }
  }

  function itemOf(item, cited) {
    const made = element("div", cited ? "item cited" : "item");
    const facts = [`item ${item.id}`, item.label, item.date].filter(Boolean);
    made.append(element("header", "", ...facts.flatMap((fact, number) => (number ? [" · ", isolated(fact)] : [isolated(fact)]))));
    for (const [name, text] of Object.entries(item.fields || {})) {
      const shownText = element("div", "text", ...marked(text, (cited && cited.marks && cited.marks[name]) || []));
      shownText.dir = "auto";
      if (Object.keys(item.fields).length > 1) shownText.title = visible(name);
      made.append(shownText);
    }
    for (const quote of (cited && cited.missing) || []) made.append(element("div", "quiet", "It does not hold: ", isolated(quote)));
    return made;
  }

  function marked(text, spans) {
    const parts = [];
    let place = 0;
    for (const [start, end] of spans) {
      parts.push(text.slice(place, start), element("mark", "", text.slice(start, end)));
      place = end;
    }
    return [...parts, text.slice(place)];
  }

  function reasoning(stages) {
    return Object.entries(stages).flatMap(([name, value]) => [element("h4", "", name),
      block(typeof value === "string" ? value : JSON.stringify(value, null, 1), typeof value === "string" ? "text" : "raw")]);
  }

  // Calls: what the model wrote, with corrections where they came, and the prompt on demand.

  function calls(parent, made, candidates, texts) {
    if (!made.length) return;
    parent.append(element("h4", "", made.length === 1 ? "what the model wrote" : `what the model wrote, in ${made.length} calls`));
    let before = [];
    made.forEach((call, number) => {
      const messages = [...before.slice(0, call.repeats || 0), ...(call.messages || [])];
      before = messages;
      const candidate = call.candidate && candidates[call.candidate - 1];
      const isAnswer = made.length === 1 || (call.accepted && (!candidate || candidate.chosen));
      parent.append(callOf(call, number + 1, messages, texts, made.length > 1, isAnswer));
    });
  }

  function callOf(call, number, messages, texts, several, isAnswer) {
    const facts = [several ? `call ${number}` : "", call.candidate ? `candidate ${call.candidate}` : "",
      call.attempt ? `attempt ${call.attempt}` : "", isAnswer && several ? "the answer" : "",
      call.error ? `failed: ${call.error}` : ""].filter(Boolean);
    const made = element("div", "call", facts.length ? element("div", "head", facts.join(" · ")) : "");
    if (!isAnswer) made.append(folded("What it wrote", () => written(call)));
    else made.append(...written(call));
    section(made, "fails", call.unmet, (verdict) => element("span", "", `${verdict.check}: `, isolated(verdict.message)));
    made.append(folded("Show the prompt", () => messages.flatMap(([role, text]) => {
      const shownText = raw(texts[text], 0, []);
      return [element("div", "message", element("b", "", role), shownText)];
    })));
    return made;
  }

  function written(call) {
    const thought = call.thought || "", fixes = call.interventions || [];
    const text = raw(call.text || "", thought.length, fixes.filter((fix) => !thought || fix.at > thought.length));
    if (!thought) return [text];
    const before = raw(thought, 0, fixes.filter((fix) => fix.at <= thought.length));
    return [element("h4", "", "thought"), before, element("h4", "", "text"), text];
  }

  function raw(text, offset, fixes) {
    const made = element("div", "raw");
    made.dir = "auto";
    let place = 0;
    for (const fix of fixes) {
      const at = Math.max(place, Math.min(fix.at - offset, text.length));
      made.append(...markers(text.slice(place, at)), correction(fix));
      place = at;
    }
    made.append(...markers(fixes.length ? text.slice(place).replace(/^\n+/, "") : text));
    return made;
  }

  function markers(text) {
    return text.split(/(\[\[ ## \w+ ## \]\]|<\/?[a-z_]\w*>)/).map((part, number) => element("span", number % 2 ? "marker" : "", part));
  }

  function correction(fix) {
    const made = element("span", "fix", element("b", "", `Corrected here, at ${fix.stage} (${fix.check}): `), isolated(fix.message));
    if (fix.replaced) {
      const before = element("details", "", element("summary", "", "what it had written"), element("del", "", fix.replaced.trim()));
      before.lastChild.dir = "auto";
      made.append(before);
    }
    return made;
  }

  // Start

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "task") {
      task = tasks[Number(event.target.value)];
      chosen = -1;
      setUpTask();
    }
    apply();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    setUpTask();
    form.elements.order.value = "";
    apply();
  });

  if (!task || !task.ids.length) {
    count.textContent = "This run keeps no examples.";
    form.hidden = true;
    document.querySelector(".browser").hidden = true;
    return;
  }
  fill(form.elements.task, Object.fromEntries(tasks.map((each, number) => [number, each.name])), "0");
  document.querySelector(".only-several").hidden = tasks.length < 2;
  setUpTask();
  apply();
})();
