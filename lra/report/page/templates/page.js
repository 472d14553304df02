"use strict";
const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// Theme: the system's, until the button chooses another
const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  one("#theme").textContent = "Theme: " + theme;
  try { localStorage.setItem("lra-theme", theme); } catch { /* a page opened from disk may have no storage */ }
}
let stored = null;
try { stored = localStorage.getItem("lra-theme"); } catch { /* as above */ }
setTheme(themes.includes(stored) ? stored : "auto");
one("#theme").addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % themes.length]);
});

// Sorting: cells without a value stay at the end in both orders
function sortBy(header) {
  const table = header.closest("table"), body = one("tbody.rows", table);
  const first = header.dataset.first ?? "descending", other = first === "descending" ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  all("th[aria-sort]", table).forEach((th) => th.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", order);
  const place = [...header.parentNode.children].indexOf(header), sign = order === "descending" ? -1 : 1;
  const key = (row) => row.children[place].dataset.sort;
  const compare = (a, b) => (a === b ? 0 : a === "" ? 1 : b === "" ? -1 : sign * (a - b));
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}
all("th[aria-sort] button").forEach((button) => button.addEventListener("click", () => sortBy(button.closest("th"))));

// Filters: a protocol, a backbone or a data set hides groups; a data set also hides columns and figures; a family and
// search words hide rows, and the marks of these rows in figures
function filter() {
  const protocol = one("#protocol").value, data = one("#data").value, backbone = one("#backbone")?.value ?? "";
  const family = one("#family")?.value ?? "";
  const words = one("#find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  all("[data-data]").forEach((e) => { e.hidden = data !== "" && !e.dataset.data.split("|").includes(data); });
  all(".group").forEach((e) => {
    e.hidden = (protocol !== "" && e.dataset.protocol !== protocol) || (data !== "" && !e.dataset.has.split("|").includes(data))
      || (backbone !== "" && !e.dataset.backbones.split("|").includes(backbone));
  });
  all("[data-name]").forEach((e) => {
    e.hidden = !words.every((word) => e.dataset.name.includes(word)) || (family !== "" && e.dataset.family !== family);
  });
  all("figure [data-family]").forEach((e) => e.classList.toggle("out", family !== "" && e.dataset.family !== family));
  const unlisted = (row) => family !== "" || !words.every((word) => row.toLowerCase().includes(word)); // has no runs
  const hidden = new Map(all("table.leaderboard tbody.rows tr").map((e) => [e.dataset.row, e.hidden]));
  all("figure [data-row]").forEach((e) => e.classList.toggle("out", hidden.get(e.dataset.row) ?? unlisted(e.dataset.row)));
  all(".more").forEach((e) => { e.hidden = !one("#more").checked; });
  const tables = all(".group").filter((e) => !e.hidden);
  const rows = tables.flatMap((e) => all("table.leaderboard tbody.rows tr", e)).filter((e) => !e.hidden).length;
  one("#count").textContent = `${rows} ${rows === 1 ? "row" : "rows"} in ${tables.length} ${tables.length === 1 ? "table" : "tables"}`;
}
all("#protocol, #backbone, #family, #data, #more").forEach((e) => e.addEventListener("change", filter));
one("#find").addEventListener("input", filter);
one(".bar form").addEventListener("submit", (event) => event.preventDefault());

// Baseline of the paired differences
function baseline() {
  const chosen = one("#baseline").value;
  all("[data-baseline]").forEach((e) => { e.hidden = e.dataset.baseline !== chosen; });
  all(".no-baseline").forEach((e) => { e.hidden = all("[data-baseline]", e.parentNode).some((block) => !block.hidden); });
}
one("#baseline")?.addEventListener("change", baseline);

// Pointing at a row of a leaderboard highlights its curve and bubble
function focusRow(row) {
  const group = row.closest(".group");
  group.dataset.focus = "";
  all("figure [data-row]", group).forEach((e) => e.classList.toggle("on", e.dataset.row === row.dataset.row));
}
all("table.leaderboard tbody.rows tr").forEach((row) => {
  for (const name of ["mouseenter", "focusin"]) row.addEventListener(name, () => focusRow(row));
  for (const name of ["mouseleave", "focusout"]) row.addEventListener(name, () => delete row.closest(".group").dataset.focus);
});

// A link to a row's provenance opens it
function open() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", open);
open();
filter();
if (one("#baseline")) baseline();
