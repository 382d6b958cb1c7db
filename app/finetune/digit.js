// A grid to draw a digit on, with mouse, finger or keyboard. It only shows and asks: rows of numbers from 0 to 1.
const SIDE = 8, PAUSE = 250;

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".digit");
  const pad = (root._pad ??= new Pad(root));
  pad.tell = setStateValue;
  if (data.clear !== pad.cleared) pad.clear(data.clear);
}

class Pad {
  constructor(root) {
    this.root = root;
    this.values = new Float32Array(SIDE * SIDE);
    this.cells = [];
    root.setAttribute("role", "grid");
    root.setAttribute("aria-label", "Draw a digit: arrows move, space paints");
    for (let i = 0; i < SIDE; i++) {
      const row = document.createElement("div");
      row.setAttribute("role", "row");
      row.className = "row";
      for (let j = 0; j < SIDE; j++) {
        const cell = document.createElement("div");
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = i + j ? -1 : 0;
        cell.dataset.at = i * SIDE + j;
        row.append(cell);
        this.cells.push(cell);
      }
      root.append(row);
    }
    root.addEventListener("pointerdown", (e) => { root.setPointerCapture(e.pointerId); this.down = true; this.paint(e); });
    root.addEventListener("pointermove", (e) => this.down && this.paint(e));
    for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => (this.down = false));
    root.addEventListener("keydown", (e) => this.key(e));
  }

  clear(mark) {
    this.cleared = mark;
    this.values.fill(0);
    this.cells.forEach((cell, at) => this.fill(at));
  }

  paint(event) {
    event.preventDefault();
    const box = this.root.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * SIDE, y = ((event.clientY - box.top) / box.height) * SIDE;
    for (let i = 0; i < SIDE; i++)
      for (let j = 0; j < SIDE; j++) {
        const near = 1.15 - Math.hypot(x - j - 0.5, y - i - 0.5);
        if (near > 0) this.ink(i * SIDE + j, Math.min(1, near));
      }
  }

  key(event) {
    const at = +document.activeElement?.dataset?.at;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -SIDE, ArrowDown: SIDE }[event.key];
    if (Number.isNaN(at) || (!step && event.key !== " ")) return;
    event.preventDefault();
    if (!step) return this.ink(at, this.values[at] > 0.5 ? 0 : 1, true);
    const next = this.cells[at + step];
    if (!next) return;
    this.cells[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  ink(at, value, exactly) {
    this.values[at] = exactly ? value : Math.max(this.values[at], value);
    this.fill(at);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell("pixels", Array.from({ length: SIDE }, (_, i) =>
      Array.from(this.values.slice(i * SIDE, (i + 1) * SIDE), (v) => Math.round(v * 100) / 100))), PAUSE);
  }

  fill(at) {
    this.cells[at].style.setProperty("--ink", this.values[at]);
    this.cells[at].setAttribute("aria-label", `row ${Math.floor(at / SIDE) + 1}, column ${(at % SIDE) + 1}, ${Math.round(this.values[at] * 100)} %`);
  }
}
