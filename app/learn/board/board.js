// A board of matrices: numbers to drag or type, cells to pick, links between cells. It only shows and asks;
// every number comes from the server.
const STEP = 0.5, PIXELS = 9, PAUSE = 45;

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".board");
  const board = (root._board ??= new Board(root));
  board.tell = setStateValue;
  board.show(data);
}

class Board {
  constructor(root) {
    this.root = root;
    this.cells = new Map();
    this.sent = 0;
    root.addEventListener("pointerover", (e) => this.light(e.target.closest?.("[data-cell]")));
    root.addEventListener("pointerleave", () => this.light(null));
    root.addEventListener("focusin", (e) => this.light(e.target.closest?.("[data-cell]")));
  }

  show(data) {
    this.data = data;
    const plan = JSON.stringify(data.lines.map((line) => line.map((i) =>
      i.kind === "matrix" ? [i.id, i.name, i.shape, !!i.edit, !!i.pick, i.cells.length, i.cells[0].length, i.block, i.now, i.wide] : [i.kind, i.kind === "sign" ? i.text : ""])));
    if (plan !== this.plan) this.build(data, plan);
    for (const line of data.lines)
      for (const item of line)
        if (item.kind === "note") this.notes.textContent = item.text;
        else if (item.kind === "matrix")
          item.cells.forEach((row, i) => row.forEach((cell, j) => this.fill(item, i, j, cell)));
    this.light(this.lit);
  }

  build(data, plan) {
    this.plan = plan;
    this.cells.clear();
    this.root.replaceChildren(...data.lines.map((line) => {
      const row = element("div", line.some((item) => item.small) ? "line small" : "line");
      row.append(...line.map((item) => (item.kind === "matrix" ? this.matrix(item) : this.words(item))));
      return row;
    }));
  }

  words(item) {
    if (item.kind === "sign") return element("span", item.text.length > 2 ? "sign words" : "sign", item.text);
    this.notes = element("p", "note");
    this.notes.setAttribute("aria-live", "polite");
    return this.notes;
  }

  matrix(item) {
    const figure = element("figure", `m ${item.tint}${item.wide ? " wide" : ""}`);
    const table = element("div", "cells");
    table.setAttribute("role", "group");
    table.setAttribute("aria-label", `${item.name}, ${item.cells.length} by ${item.cells[0].length}`);
    table.style.gridTemplateColumns = `repeat(${item.cells[0].length}, auto)`;
    item.cells.forEach((row, i) => row.forEach((cell, j) => table.append(this.cell(item, i, j))));
    const caption = element("figcaption", "", "");
    caption.append(element("b", "", item.name), " ", element("span", "", item.shape + (item.now ? " · in the text" : "")));
    if (item.now) figure.classList.add("now");
    figure.append(caption, table);
    return figure;
  }

  cell(item, i, j) {
    const name = `${item.id}:${i}:${j}`;
    const cell = item.edit ? element("input", "c") : element(item.pick ? "button" : "span", "c");
    cell.dataset.cell = name;
    const [down, across] = item.block ?? [0, 0];
    if (down && i && i % down === 0) cell.classList.add("top");
    if (across && j && j % across === 0) cell.classList.add("left");
    if (item.edit) this.editable(cell, item, i, j);
    if (item.pick) {
      cell.type = "button";
      cell.addEventListener("click", () => this.tell("pick", [i, j]));
      cell.addEventListener("keydown", (e) => this.walk(e, item, i, j));
    }
    this.cells.set(name, cell);
    return cell;
  }

  fill(item, i, j, cell) {
    const name = `${item.id}:${i}:${j}`, node = this.cells.get(name);
    node._links = cell.links ?? [];
    node.style.setProperty("--w", cell.w ?? 0);
    for (const mark of ["neg", "picked", "done", "cover"]) node.classList.toggle(mark, !!cell[mark]);
    if (item.edit) {
      if (node !== this.held && this.root.getRootNode().activeElement !== node) node.value = cell.t;
      node._value = cell.v;
      node.setAttribute("aria-label", `${item.name}, row ${i + 1}, column ${j + 1}`);
    } else {
      node.textContent = cell.t;
      if (item.pick) {
        node.tabIndex = cell.picked ? 0 : -1;
        node.setAttribute("aria-pressed", cell.picked ? "true" : "false");
        node.setAttribute("aria-label", `${item.name}, row ${i + 1}, column ${j + 1}: ${cell.t}`);
      }
    }
  }

  editable(cell, item, i, j) {
    cell.type = "text";
    cell.inputMode = "decimal";
    cell.title = "Drag left or right, or type. Arrow keys change it by a half.";
    const set = (value, live) => {
      const bounded = Math.max(-this.data.most, Math.min(this.data.most, Math.round(value * 100) / 100));
      cell._value = bounded;
      cell.value = String(bounded);
      this.send(item, i, j, bounded, live);
    };
    cell.addEventListener("keydown", (e) => {
      const by = { ArrowUp: STEP, ArrowDown: -STEP, PageUp: 2, PageDown: -2 }[e.key];
      if (by) { e.preventDefault(); set(cell._value + by, false); }
      if (e.key === "Enter") cell.blur();
    });
    cell.addEventListener("change", () => {
      const typed = Number(cell.value.replace(",", ".").replace("−", "-"));
      set(cell.value.trim() !== "" && Number.isFinite(typed) ? typed : cell._value, false);
    });
    cell.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      const from = e.clientX, value = cell._value;
      let dragging = false;
      const move = (m) => {
        if (!dragging && Math.abs(m.clientX - from) < 4) return;
        if (!dragging) { dragging = true; this.held = cell; cell.setPointerCapture(e.pointerId); cell.classList.add("drag"); }
        m.preventDefault();
        const next = value + Math.round((m.clientX - from) / PIXELS) * STEP;
        if (next !== cell._value) set(next, true);
      };
      const up = () => {
        cell.removeEventListener("pointermove", move);
        cell.removeEventListener("pointerup", up);
        cell.removeEventListener("pointercancel", up);
        if (!dragging) return;
        this.held = null;
        cell.classList.remove("drag");
        cell.blur();
        set(cell._value, false);
      };
      cell.addEventListener("pointermove", move);
      cell.addEventListener("pointerup", up);
      cell.addEventListener("pointercancel", up);
    });
  }

  send(item, i, j, value, live) {
    clearTimeout(this.later);
    const rows = item.cells.map((row, a) => row.map((c, b) => (a === i && b === j ? value : this.cells.get(`${item.id}:${a}:${b}`)._value)));
    const go = () => { this.sent = Date.now(); this.tell("edit", { id: item.id, rows, live }); };
    const wait = live ? PAUSE - (Date.now() - this.sent) : 0;
    if (wait > 0) this.later = setTimeout(go, wait); else go();
  }

  walk(event, item, i, j) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = this.cells.get(`${item.id}:${i + by[0]}:${j + by[1]}`);
    if (next) { next.focus(); next.click(); }
  }

  light(cell) {
    this.lit = cell ?? null;
    for (const node of this.cells.values()) node.classList.remove("lit");
    if (!cell) return;
    const name = cell.dataset.cell;
    for (const [other, node] of this.cells)
      if (other === name || cell._links?.includes(other) || node._links?.includes(name)) node.classList.add("lit");
  }
}

function element(tag, css, text) {
  const node = document.createElement(tag);
  node.className = css;
  if (text !== undefined) node.textContent = text;
  return node;
}
