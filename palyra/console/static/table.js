/** Rows: a table on wide screens, a list on a phone, kept alive in place. */
import { button, freshId, h, replace } from "./dom.js";
import { thousands } from "./words.js";

const PHONE = matchMedia("(max-width: 639px)");

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {(row: object) => (Node|string|Array)} cell
 * @property {(row: object) => any} [by] what to sort this page's rows by
 * @property {boolean} [number] right-aligned
 * @property {"name"|"state"|"fact"} [phone] where it stands in a phone's list; nowhere without it
 * @property {"wide"} [only] left out where there is little room
 */

/**
 * Rows of one kind.
 * @param {object} its
 * @param {string} its.caption
 * @param {Column[]} its.columns the first one is the row's header
 * @param {(row: object) => string} its.key
 * @param {(row: object) => string} [its.href] where Enter on a row leads
 * @param {(row: object) => string} [its.tone] a class of the row
 * @param {Node|string|Array} its.empty what stands where there are no rows
 * @returns {{element: HTMLElement, set(rows): void, update(row): boolean, remove(key): void,
 *   refresh(rows): void, rows(): object[], news(count, show): void}} `update` changes a row in place
 *   and says whether it is shown; `refresh` takes what was fetched again, and moves no row under the
 *   pointer or the focus; `news` says "3 new [Show]" above the rows
 */
export function table({ caption, columns, key, href, tone, empty }) {
  const place = h("div"), count = h("span");
  const news = h("p", { class: "news", hidden: true }, count,
    button("Show", () => fresh.show(), { class: "small" }));
  const element = h("div", { class: "rows" }, news, place);
  const drawn = new Map();
  let rows = [], sorted = null, fresh = { count: 0 }, drawing = 0;

  const ordered = () => {
    if (!sorted) return rows;
    const { by } = columns[sorted.column], way = sorted.up ? 1 : -1;
    return [...rows].sort((a, b) => way * compare(by(a), by(b)));
  };

  function draw() {
    drawn.clear();
    if (!rows.length) return replace(place, h("div", { class: "empty" }, empty));
    return replace(place, PHONE.matches ? list() : grid());
  }

  // -- wide
  function grid() {
    return h("div", { class: "scroll", tabindex: "-1" }, h("table", null,
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map(heading))),
      h("tbody", null, ordered().map(line))));
  }

  function heading(column, index) {
    const attrs = { scope: "col", class: classes(column) };
    if (!column.by) return h("th", attrs, column.title);
    const its = sorted?.column === index ? (sorted.up ? "ascending" : "descending") : "none";
    const mark = { ascending: " \u2191", descending: " \u2193", none: "" }[its];
    return h("th", { ...attrs, "aria-sort": its },
      h("button", { type: "button", class: "sort", title: "Sort this page", on: { click: sort } },
        column.title, h("span", { "aria-hidden": "true" }, mark)));

    function sort() {
      sorted = its === "none" ? { column: index, up: true }
        : its === "ascending" ? { column: index, up: false } : null;
      draw();
      place.querySelectorAll("th")[index]?.querySelector("button")?.focus();
    }
  }

  function line(row) {
    const cells = columns.map((column, index) => h(index ? "td" : "th", {
      scope: index ? null : "row", class: classes(column),
    }, content(column, row, index)));
    const its = h("tr", { class: tone?.(row), "data-id": key(row) }, cells);
    drawn.set(key(row), { its, cells, columns });
    return its;
  }

  const content = (column, row, index) =>
    index === 0 && href ? h("a", { class: "row", href: href(row) }, column.cell(row)) : column.cell(row);

  // -- phone
  function list() {
    const placed = (where) => columns.filter((column) => column.phone === where);
    const shown = [...placed("name"), ...placed("state"), ...placed("fact")];
    return h("ul", { class: "cards", "aria-label": caption }, ordered().map((row) => {
      const cells = shown.map((column) =>
        h("span", { class: column.phone }, content(column, row, columns.indexOf(column))));
      const lead = shown.filter((column) => column.phone !== "fact").length;
      const its = h("li", { class: tone?.(row), "data-id": key(row) },
        h("div", { class: "line" }, cells.slice(0, lead)),
        h("div", { class: "line dim" }, cells.slice(lead)));
      drawn.set(key(row), { its, cells, columns: shown });
      return its;
    }));
  }

  PHONE.addEventListener("change", () => element.isConnected && draw());

  const busy = () => element.matches(":hover") || element.contains(document.activeElement);

  function set(next) {
    const focused = element.contains(document.activeElement)
      && document.activeElement.closest("[data-id]")?.dataset.id;
    rows = [...next];
    draw();
    tellNews(0);
    if (focused) drawn.get(focused)?.its.querySelector("a,button")?.focus({ preventScroll: true });
  }

  function update(row) {
    const index = rows.findIndex((each) => key(each) === key(row));
    if (index < 0) return false;
    rows[index] = row;
    const at = drawn.get(key(row));
    if (at) change(at, row);
    return true;
  }

  function refresh(next) {
    const same = next.length === rows.length && next.every((row, index) => key(row) === key(rows[index]));
    if (!same && !(rows.length && busy())) return set(next);
    return tellNews(next.filter((row) => !update(row)).length, () => set(next));
  }

  /** A burst counts up many times in a frame: it is drawn once. */
  function tellNews(number, show) {
    fresh = { count: number, show };
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      news.hidden = !fresh.count;
      replace(count, `${thousands(fresh.count)} new `);
    });
  }

  return {
    element, set, update, refresh, news: tellNews,
    rows: () => rows,
    remove(id) {
      rows = rows.filter((each) => key(each) !== id);
      const at = drawn.get(id);
      drawn.delete(id);
      if (at && !at.its.contains(document.activeElement)) at.its.remove();
      else at?.its.classList.add("gone");
      if (!rows.length) draw();
    },
  };

  /** Change the cells whose text has changed; a new state fades in. */
  function change({ its, cells, columns: shown }, row) {
    its.className = tone?.(row) ?? "";
    shown.forEach((column, index) => {
      const cell = cells[index], inner = cell.querySelector(":scope > a.row") ?? cell;
      const fresh = h("span", null, column.cell(row));
      if (fresh.textContent === inner.textContent || inner.contains(document.activeElement)
          && inner !== cell && inner !== document.activeElement) return;
      inner.replaceChildren(...fresh.childNodes);
      if (column.phone === "state") flash(cell);
    });
  }
}

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const AT_ONCE = 8;
let flashes = 0;

/** A state has changed: its background fades, unless motion is unwanted or everything changes. */
export function flash(element) {
  if (STILL.matches || flashes >= AT_ONCE) return;
  flashes += 1;
  const fading = element.animate({ backgroundColor: ["var(--fade)", "transparent"] }, 600);
  fading.onfinish = fading.oncancel = () => { flashes -= 1; };
}

const classes = (column) =>
  [column.number && "number", column.only].filter(Boolean).join(" ") || null;

const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b
    : String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });

/**
 * Pages by cursor: `1-50 of 10 000  [< newer] [older >]`.
 * @param {(cursor: string|null) => Promise<void>} load fetches and shows the page of a cursor
 * @param {string} [newer] the word of the way back
 * @returns {{element: HTMLElement, at: string|null, reset(), show(page, total)}} `show` takes an
 *   answer's `page`, and how many there are in all where that is known
 */
export function pager(load, newer = "newer", older = "older") {
  const text = h("span", { class: "dim" });
  const back = button(`\u2039 ${newer}`, () => turn(-1)), on = button(`${older} \u203a`, () => turn(1));
  const id = freshId("pages");
  const element = h("nav", { class: "pages", "aria-label": "Pages", id }, text, back, on);
  let cursors = [null], starts = [0], at = 0, next = null;

  async function turn(by) {
    if (by > 0) {
      cursors = [...cursors.slice(0, at + 1), next];
      starts[at + 1] = starts[at] + shown;
    }
    at += by;
    await load(cursors[at]);
    scrollTo({ top: 0 });
  }

  let shown = 0;
  return {
    element,
    get at() { return cursors[at]; },
    reset() { [cursors, starts, at] = [[null], [0], 0]; },
    show(page, total) {
      shown = page.returned;
      next = page.next_cursor;
      const first = starts[at];
      element.hidden = !first && !page.has_more;
      replace(text, `${thousands(first + 1)}\u2013${thousands(first + shown)}`,
        total != null && ` of ${thousands(total)}`);
      back.disabled = !at;
      on.disabled = !page.has_more;
    },
  };
}
