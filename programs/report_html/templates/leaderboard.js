"use strict";
// Sorting and filtering of a leaderboard. All rows are in the page; without this script they stand in order of rank.
(() => {
  const form = document.getElementById("filters");
  const count = document.getElementById("count");
  const FIRST = 100; // rows of a table that are shown until its button is pressed: laying out a thousand takes long
  const tasks = [...document.querySelectorAll("section.task")].map((section) => ({
    section,
    name: section.dataset.task,
    boards: [...section.querySelectorAll("section.one")].map((board) => ({
      section: board,
      more: board.querySelector("button.rest"),
      limit: FIRST,
      body: board.querySelector("tbody"),
      rows: [...board.querySelectorAll("tbody tr")].map((row) => ({
        row,
        program: row.dataset.program,
        model: row.dataset.model,
        text: row.textContent.toLowerCase(),
        isResult: !row.classList.contains("baseline"),
      })),
    })),
  }));
  const total = document.querySelectorAll("tbody tr:not(.baseline)").length;

  // A baseline needs no model: it stays beside whatever is shown of its table.
  function passes(entry, values) {
    if (!entry.isResult) return true;
    if (values.program && entry.program !== values.program) return false;
    if (values.model && entry.model !== values.model) return false;
    return values.words.every((word) => entry.text.includes(word));
  }

  // Show the rows of a table that pass, as many as its limit lets; returns how many pass.
  function show(board, values) {
    let passed = 0;
    for (const entry of board.rows) {
      const isIn = passes(entry, values);
      if (isIn && entry.isResult) passed += 1;
      const hidden = !isIn || passed > board.limit;
      if (entry.row.hidden !== hidden) entry.row.hidden = hidden;
    }
    board.section.hidden = passed === 0;
    board.more.hidden = passed <= board.limit;
    board.more.textContent = `Show all ${passed}`;
    return passed;
  }

  function filter() {
    const values = Object.fromEntries(new FormData(form));
    values.words = values.text.toLowerCase().split(/\s+/).filter(Boolean);
    let passed = 0;
    for (const task of tasks) {
      const isWanted = !values.task || task.name === values.task;
      const ofTask = isWanted ? task.boards.reduce((sum, board) => sum + show(board, values), 0) : 0;
      task.section.hidden = ofTask === 0;
      passed += ofTask;
    }
    count.textContent = `${passed} of ${total} results`;
  }

  // A cell with a number is sorted by it; one without any comes last, whatever the direction.
  function sort(board, header, column) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    const cells = board.rows.map(({ row }) => row.cells[column]);
    const isNumeric = cells.some((cell) => cell.dataset.n !== undefined);
    const key = (cell) => (isNumeric ? Number(cell.dataset.n ?? NaN) : cell.textContent.trim());
    const isMissing = (value) => value === "" || Number.isNaN(value);
    const collator = new Intl.Collator(undefined, { numeric: true });
    const keyed = board.rows.map((entry, place) => ({ entry, place, value: key(cells[place]) }));
    keyed.sort((one, other) => {
      if (isMissing(one.value) || isMissing(other.value)) return isMissing(one.value) - isMissing(other.value);
      const order = isNumeric ? one.value - other.value : collator.compare(one.value, other.value);
      return (ascending ? order : -order) || one.place - other.place;
    });
    board.rows = keyed.map(({ entry }) => entry);
    board.body.append(...board.rows.map(({ row }) => row));
    for (const each of header.parentNode.cells) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    filter();
  }

  for (const task of tasks) {
    for (const board of task.boards) {
      board.more.addEventListener("click", () => {
        board.limit = Infinity;
        filter();
      });
      [...board.section.querySelectorAll("thead th")].forEach((header, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...header.childNodes);
        button.addEventListener("click", () => sort(board, header, column));
        header.append(button);
      });
    }
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();
})();
