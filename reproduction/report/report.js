// Tables sort by a click on a header, and a method's row opens to what is behind it. Without this script the page reads
// the same: the rows behind stay hidden, the tables stay in their own order.
"use strict";

/** The number that a cell begins with: a duration in seconds, a figure; null for a text or nothing. */
function value(cell) {
  const text = (cell?.firstChild?.textContent ?? "").trim().replace(/−/g, "-").replace(/,/g, "");
  const parts = [...text.split("±")[0].matchAll(/([\d.]+) (h|min|s)\b/g)];
  if (parts.length) return parts.reduce((sum, [, count, unit]) => sum + count * { h: 3600, min: 60, s: 1 }[unit], 0);
  return /^[-+]?[\d.]/.test(text) ? parseFloat(text) : null;
}

/** The cell of a row in a column, where cells may span several. */
function cellAt(row, column) {
  let at = 0;
  return [...row.cells].find((cell) => (at += cell.colSpan) > column);
}

/** [header, column] of every header that stands for one column, where headers span rows and columns. */
function* columns(table) {
  const taken = [];
  for (const [line, row] of [...table.tHead.rows].entries()) {
    let at = 0;
    for (const cell of row.cells) {
      while (taken[at] > line) at++;
      if (cell.scope === "col") yield [cell, at];
      for (let next = at; next < at + cell.colSpan; next++) taken[next] = line + cell.rowSpan;
      at += cell.colSpan;
    }
  }
}

/** Rows in the order of a column, each with the row behind it; what has no number comes last either way. */
function sort(table, rows, column, direction) {
  const keyed = rows.map(({ row, behind }) => {
    const cell = cellAt(row, column);
    return { row, behind, number: value(cell), text: cell?.textContent.trim() ?? "" };
  });
  const numbers = keyed.some((one) => one.number !== null) && column > 0;
  keyed.sort((a, b) => {
    if (!numbers) return direction * a.text.localeCompare(b.text);
    if (a.number === null || b.number === null) return (a.number === null) - (b.number === null);
    return direction * (a.number - b.number);
  });
  const shown = direction ? keyed : rows;
  table.tBodies[0].append(...shown.flatMap(({ row, behind }) => (behind ? [row, behind] : [row])));
}

/** Rows of a block name it once: the others get the name too, unseen while they stand in their own order. */
function nameRows(rows) {
  let last = "";
  for (const { row } of rows) {
    const name = row.cells[0];
    if (name.textContent.trim()) last = name.textContent.trim();
    else if (name.tagName === "TH") name.append(Object.assign(document.createElement("span"), { className: "again", textContent: last, hidden: true }));
  }
}

function sortable(table) {
  const rows = [...table.tBodies[0].rows]
    .filter((row) => !row.classList.contains("behind"))
    .map((row) => ({ row, behind: row.nextElementSibling?.classList.contains("behind") ? row.nextElementSibling : null }));
  if (rows.length < 2) return;
  nameRows(rows);
  const headers = [...columns(table)];
  for (const [header, column] of headers) {
    const button = document.createElement("button");
    button.title = "Sort by this column; a third time: the table's own order";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "none", descending: "ascending" }[header.ariaSort] ?? "descending";
      headers.forEach(([other]) => other.removeAttribute("aria-sort"));
      if (next !== "none") header.ariaSort = next;
      table.classList.toggle("sorted", next !== "none");
      table.querySelectorAll(".again").forEach((name) => (name.hidden = next === "none"));
      sort(table, rows, column, { ascending: 1, descending: -1, none: 0 }[next]);
    });
  }
}

function opening(behind) {
  const header = behind.previousElementSibling.cells[0];
  const button = document.createElement("button");
  const say = () => {
    button.textContent = behind.hidden ? "▸" : "▾";
    button.setAttribute("aria-expanded", String(!behind.hidden));
  };
  button.className = "opener";
  button.setAttribute("aria-label", `Seeds, people, intervals and commands of ${header.firstChild.textContent.trim()}`);
  button.setAttribute("aria-controls", behind.id);
  button.addEventListener("click", () => {
    behind.hidden = !behind.hidden;
    say();
  });
  header.prepend(button);
  say();
}

document.querySelectorAll("tr.behind").forEach(opening);
document.querySelectorAll("table").forEach(sortable);
