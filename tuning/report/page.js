"use strict";
// The page says everything without this: it adds tooltips, the same trial lit in all pictures,
// and tables that sort.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const describeRow = (row) => {
    const heads = [...row.closest("table").tHead.rows[0].cells];
    const [number, ...rest] = [...row.cells];
    const lines = rest.map((cell, i) => [heads[i + 1].textContent, cell.textContent]);
    return [`trial ${number.textContent}`,
      ...lines.filter(([, text]) => text).map(([head, text]) => `${head}: ${text}`)].join("\n");
  };
  const byTrial = new Map();
  for (const part of document.querySelectorAll("[data-t]")) {
    const trial = part.dataset.t;
    byTrial.set(trial, [...(byTrial.get(trial) ?? []), part]);
  }
  let lit = null;
  const light = (trial) => {
    if (trial === lit) return;
    for (const part of byTrial.get(lit) ?? []) part.classList.remove("on");
    for (const part of byTrial.get(trial) ?? []) part.classList.add("on");
    document.body.classList.toggle("lit", trial !== null);
    lit = trial;
  };
  const place = (event) => {
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = Math.min(event.clientX + 14, innerWidth - width - 8);
    const below = event.clientY + 16 + height < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, below ? event.clientY + 16 : event.clientY - height - 10)}px`;
  };
  document.addEventListener("pointermove", (event) => {
    const part = event.target.closest?.("svg [data-t], svg [data-tip]");
    const row = part?.dataset.t && document.getElementById(`trial-${part.dataset.t}`);
    light(row ? part.dataset.t : null);
    tip.hidden = !part;
    if (!part) return;
    tip.textContent = row ? describeRow(row) : part.dataset.tip;
    place(event);
  });

  const keyOf = (cell) => cell.dataset.v ?? cell.textContent;
  const compare = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number.isNaN(x) - Number.isNaN(y) || a.localeCompare(b);
    }
    return x - y;
  };
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    head.tabIndex = 0;
    const sort = () => {
      const table = head.closest("table");
      const down = head.getAttribute("aria-sort") === "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].sort((a, b) =>
        compare(keyOf(a.cells[head.cellIndex]), keyOf(b.cells[head.cellIndex])));
      table.tBodies[0].append(...(down ? rows : rows.reverse()));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  }
})();
