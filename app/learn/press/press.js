// The folding press. Tiles of a matrix fly between its order and that of R; a direction turns; the step folds back.
const FLY_MS = 650, GAP = 26, TOP = 20;
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export default function (component) {
  const root = component.parentElement.querySelector(".press");
  const press = (root._press ??= new Press(root));
  press.show(component.data);
}

class Press {
  constructor(root) {
    this.root = root;
    this.fold = 0; // 0: the step lies unfolded, 1: folded back
    this.kept = "cdka-press";
    this.build();
    new ResizeObserver(() => this.resize()).observe(root);
    this.themes = matchMedia("(prefers-color-scheme: dark)");
    this.themes.addEventListener("change", () => this.paint());
  }

  build() {
    this.stage = element("div", "stage");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.stage.append(this.canvas);
    this.angleLabel = element("label", "", "Turn the direction");
    this.angle = element("input");
    Object.assign(this.angle, { type: "range", min: 0, max: 90, step: 1 });
    this.angle.addEventListener("input", () => { this.turn(Number(this.angle.value)); this.keep(); });
    this.angleLabel.append(this.angle);
    this.random = this.button("Random", () => this.throwDarts());
    this.best = this.button("Best", () => this.turnTo(90));
    this.folder = this.button("Fold", () => this.foldTo(this.fold > 0.5 ? 0 : 1));
    this.controls = element("div", "row");
    this.controls.append(this.angleLabel, this.random, this.best, this.folder);
    this.scale = element("div", "scale");
    this.told = element("p", "told");
    this.told.setAttribute("aria-live", "polite");
    // A canvas takes no light-dark() and no var(): elements of these colours resolve them.
    this.inks = Object.fromEntries(["r1", "r2", "quiet"].map((name) => [name, element("i", "ink")]));
    for (const [name, node] of Object.entries(this.inks)) node.style.color = `var(--${name})`;
    this.root.replaceChildren(this.stage, this.controls, this.scale, this.told, ...Object.values(this.inks));
  }

  ink(name) { return getComputedStyle(this.inks[name]).color; }

  button(text, act) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  show(data) {
    const next = JSON.stringify([data.mode, data.r1, data.r2, data.r]);
    if (next === this.shown) return;
    const before = this.data ? this.places() : null;
    const first = !this.shown;
    this.shown = next;
    this.data = data;
    this.side = data.gradient.length;
    this.R = unfold(data.gradient, data.r1, data.r2);
    const dial = data.mode === "press";
    for (const part of [this.angleLabel, this.random, this.best, this.scale]) part.classList.toggle("hidden", !dial);
    this.folder.classList.toggle("hidden", data.mode === "pattern");
    if (data.mode === "pattern") this.fold = 1;
    if (first) this.restore();
    this.turn(dial ? this.degrees ?? data.angle : 90);
    this.darted = false;
    this.resize();
    if (before && !first) this.fly(before);
    else if (first && dial) this.fly(this.places("home"));
  }

  keep() { sessionStorage.setItem(this.kept, JSON.stringify({ degrees: this.degrees })); }

  restore() {
    try { this.degrees = JSON.parse(sessionStorage.getItem(this.kept) ?? "{}").degrees; } catch { this.degrees = undefined; }
  }

  // ------------------------------------------------------------------ numbers
  turn(degrees) {
    if (this.data.mode === "press") this.degrees = degrees;
    this.angle.value = degrees;
    const t = (degrees * Math.PI) / 180, c = Math.cos(t), s = Math.sin(t);
    this.a = this.data.random.map((row, i) => row.map((u, k) => c * u + s * this.data.best[i][k]));
    this.b = this.a.map((a) => this.R.map((row) => dot(row, a)));
    this.step = this.R.map((row, i) => row.map((_, k) => this.a.reduce((sum, a, n) => sum + this.b[n][i] * a[k], 0)));
    const norm = Math.hypot(...this.R.flat());
    this.cosine = Math.min(1, Math.hypot(...this.b.flat()) / norm);
    this.angle.setAttribute("aria-valuetext", `${Math.round(degrees)} degrees, cosine ${this.cosine.toFixed(3)}`);
    this.paint();
    this.tell();
  }

  turnTo(degrees) {
    const from = this.degrees, start = performance.now();
    if (calm()) { this.turn(degrees); this.keep(); return; }
    const move = (now) => {
      const t = Math.min(1, (now - start) / FLY_MS);
      this.turn(from + (degrees - from) * ease(t));
      if (t < 1) requestAnimationFrame(move); else this.keep();
    };
    requestAnimationFrame(move);
  }

  throwDarts() {
    this.darted = true;
    this.turnTo(this.data.angle);
  }

  foldTo(aim) {
    const from = this.fold, start = performance.now();
    const move = (now) => {
      const t = calm() ? 1 : Math.min(1, (now - start) / FLY_MS);
      this.fold = from + (aim - from) * ease(t);
      this.paint();
      if (t < 1) requestAnimationFrame(move); else this.tell();
    };
    requestAnimationFrame(move);
    this.folder.textContent = aim ? "Unfold" : "Fold";
  }

  // ------------------------------------------------------------------ places
  resize() {
    const width = this.root.clientWidth;
    if (!width || !this.data) return;
    const tall = width < 520;
    this.width = width;
    this.unit = Math.min(tall ? width / 2 - GAP : width * 0.26, 230); // side of a square mosaic
    this.middle = { x: this.unit + GAP * 2, width: width - 2 * this.unit - 4 * GAP };
    this.height = TOP + Math.max(this.unit, Math.min(340, this.middle.width)) + 34;
    if (tall) { this.middle = { x: GAP, width: width - 2 * GAP, y: this.unit + 60 }; this.height = TOP + this.unit + 60 + 260; }
    if (this.data.mode === "fold") this.middle = tall ? this.middle : { x: GAP, width: width - this.unit - 4 * GAP };
    if (this.data.mode === "pattern") this.height = TOP + this.unit + 30;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.height = `${this.height}px`;
    this.canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paint();
  }

  wide() { // where R(G) lies: to scale, its strips of a above and b at the left
    const rows = this.R.length, columns = this.R[0].length, strip = 6, count = this.a.length;
    const top = TOP + (this.middle.y ?? 0) + Math.min(70, count * strip + 12);
    const left = this.middle.x + Math.min(70, count * strip + 12);
    const tile = Math.min((this.middle.x + this.middle.width - left) / columns, (this.height - top - 26) / rows, this.unit / 8);
    return { x: left, y: top, tile, rows, columns, strip };
  }

  places(where) { // the place of every tile of R(G), row by row
    const { r1, r2 } = this.data, home = this.unit / this.side, at = this.wide();
    return this.R.flatMap((row, i) => row.map((_, k) => {
      const [y, x] = origin(i, k, r1, r2, this.side);
      if (where === "home") return { key: y * this.side + x, x: GAP / 2 + x * home, y: TOP + y * home, size: home };
      return { key: y * this.side + x, x: at.x + k * at.tile, y: at.y + i * at.tile, size: at.tile };
    }));
  }

  fly(before) {
    if (calm()) return;
    const start = performance.now(), from = new Map(before.map((tile) => [tile.key, tile]));
    const move = (now) => {
      const t = Math.min(1, (now - start) / FLY_MS);
      this.flight = t < 1 ? { t: ease(t), from } : null;
      this.paint();
      if (t < 1) requestAnimationFrame(move);
    };
    requestAnimationFrame(move);
  }

  // ------------------------------------------------------------------ drawing
  paint() {
    if (!this.data || !this.width) return;
    const pen = this.canvas.getContext("2d"), mode = this.data.mode, css = getComputedStyle(this.root);
    const ink = css.color, quiet = this.ink("quiet");
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = `13px ${css.fontFamily}`;
    const write = (text, x, y, colour = ink) => { pen.fillStyle = colour; pen.fillText(text, x, y); };
    const colour = palette(this.data.colours), home = this.unit / this.side, G = this.data.gradient;
    const most = Math.max(...G.flat().map(Math.abs)) * 0.6;
    if (mode !== "fold") {
      write("gradient G", GAP / 2, 13);
      G.forEach((row, y) => row.forEach((v, x) => tile(pen, colour(v / most), GAP / 2 + x * home, TOP + y * home, home)));
    }
    const right = this.width - this.unit - GAP / 2, at = this.wide(), strongest = Math.max(...this.step.flat().map(Math.abs), 1e-9);
    if (mode !== "pattern") {
      const matrix = mode === "fold" ? this.step : this.R, scale = mode === "fold" ? strongest : most;
      const name = mode === "fold" ? "column times row" : `R(G), ${at.rows} × ${at.columns}`;
      write(name, at.x, at.y + at.rows * at.tile + 17);
      this.places().forEach((place, n) => {
        const v = matrix[Math.floor(n / at.columns)][n % at.columns], from = this.flight?.from.get(place.key);
        const t = from ? this.flight.t : 1, mix = (p) => (from ? from[p] + (place[p] - from[p]) * t : place[p]);
        tile(pen, colour(v / scale), mix("x"), mix("y"), mix("size"));
      });
      this.strips(pen, at, write);
    }
    const goal = this.unit / this.side;
    const told = mode === "pattern" ? `closest sum of ${this.data.r}` : mode === "fold" ? "B ⊗ A" : "the step, folded back";
    write(told, right, 13);
    pen.strokeStyle = quiet;
    pen.strokeRect(right, TOP, this.unit, this.unit);
    if (this.fold > 0.001)
      this.places().forEach((place, n) => {
        const i = Math.floor(n / at.columns), k = n % at.columns, [y, x] = origin(i, k, this.data.r1, this.data.r2, this.side);
        const f = this.fold, mix = (a, b) => a + (b - a) * f;
        tile(pen, colour(this.step[i][k] / strongest), mix(place.x, right + x * goal), mix(place.y, TOP + y * goal), mix(place.size, goal));
      });
    if (this.fold > 0.999) this.blocks(pen, right, goal, ink);
    this.canvas.setAttribute("aria-label",
      `${mode === "fold" ? "A Kronecker product" : "A gradient"} of ${this.side} by ${this.side}; unfolded it is ${at.rows} by ${at.columns}. The cosine is ${this.cosine.toFixed(3)}.`);
    this.axis();
  }

  strips(pen, at, write) { // the directions a above R(G), what they catch (b) at its left
    const colour = palette(this.data.colours), shown = Math.min(this.a.length, 9);
    const a = Math.max(...this.a.flat().map(Math.abs)), b = Math.max(...this.b.flat().map(Math.abs), 1e-9);
    for (let n = 0; n < shown; n++) {
      this.a[n].forEach((v, k) => tile(pen, colour(v / a), at.x + k * at.tile, at.y - 8 - (n + 1) * at.strip, at.tile, at.strip - 1));
      this.b[n].forEach((v, i) => tile(pen, colour(v / b), at.x - 8 - (n + 1) * at.strip, at.y + i * at.tile, at.strip - 1, at.tile));
    }
    write("a", at.x + at.columns * at.tile + 6, at.y - 8, this.ink("r1"));
    write("b", at.x - 14, at.y + at.rows * at.tile + 14, this.ink("r2"));
  }

  blocks(pen, right, goal, ink) { // the borders of the blocks: r1 rows tall, in / r2 columns wide
    pen.strokeStyle = ink;
    pen.lineWidth = 0.8;
    pen.globalAlpha = 0.55;
    pen.beginPath();
    for (let y = this.data.r1; y < this.side; y += this.data.r1) { pen.moveTo(right, TOP + y * goal); pen.lineTo(right + this.unit, TOP + y * goal); }
    for (let x = this.side / this.data.r2; x < this.side; x += this.side / this.data.r2) { pen.moveTo(right + x * goal, TOP); pen.lineTo(right + x * goal, TOP + this.unit); }
    pen.stroke();
    pen.globalAlpha = 1;
    pen.lineWidth = 1;
  }

  axis() { // the cosine from 0 to 1: now, the formula, the best, and the darts
    if (this.data.mode !== "press") return;
    const w = this.width - 24, x = (v) => 12 + v * w, { predicted, caught, darts } = this.data;
    if (!this.svg) {
      this.svg = svg("svg", { role: "img" });
      this.scale.replaceChildren(this.svg);
    }
    this.svg.setAttribute("aria-label", `Cosine ${this.cosine.toFixed(3)}; formula ${predicted.toFixed(3)}; best ${caught.toFixed(3)}.`);
    const near = Math.abs(x(caught) - x(predicted)) < 150;
    const parts = [
      svg("line", { x1: x(0), x2: x(1), y1: 40, y2: 40, class: "line" }),
      ...darts.map((v, n) => svg("circle", { cx: x(v), cy: 40, r: 3.2, class: "dart", style: this.darted ? `transform: translateY(${-5 - (n % 4) * 4}px)` : "opacity: 0; transform: translateY(-36px)" })),
      svg("line", { x1: x(predicted), x2: x(predicted), y1: 26, y2: 52, class: "dash" }),
      svg("line", { x1: x(caught), x2: x(caught), y1: 26, y2: 52, class: "mark" }),
      svg("circle", { cx: x(this.cosine), cy: 40, r: 8, class: "now" }),
      text(x(predicted), 68, `formula ${predicted.toFixed(2)}`, anchor(predicted)),
      text(x(caught), near ? 18 : 68, `best ${caught.toFixed(2)}`, anchor(caught)),
      text(x(0), 56, "0", "middle", "quiet"), text(x(1), 56, "1", "middle", "quiet"),
    ];
    const same = this.svg.childNodes.length === parts.length;
    if (!same) this.svg.replaceChildren(...parts);
    else parts.forEach((part, n) => { // keep the nodes, so that the darts can fall
      const old = this.svg.childNodes[n];
      for (const name of part.getAttributeNames()) old.setAttribute(name, part.getAttribute(name));
      if (part.textContent !== old.textContent) old.textContent = part.textContent;
    });
  }

  tell() {
    const { mode, r, darts, predicted, caught } = this.data, many = r > 1 ? `${r} directions` : "direction";
    if (mode === "fold") this.told.textContent = this.fold > 0.5 ? "Folded: blocks that are copies of one block." : "Unfolded: every row is a multiple of one row.";
    else if (mode === "pattern") this.told.textContent = `The closest sum of ${r} such ${r > 1 ? "products" : "product"} holds ${(100 * caught ** 2).toFixed(0)} % of this gradient's energy.`;
    else {
      const mean = Math.sqrt(darts.reduce((sum, v) => sum + v * v, 0) / darts.length);
      this.told.textContent = `Cosine with full fine-tuning's step: ${this.cosine.toFixed(3)}.` +
        (this.darted ? ` 50 random ${r > 1 ? "starts" : "directions"}: ${mean.toFixed(3)} on average (root mean square), formula ${predicted.toFixed(3)}.` : "");
    }
    this.angleLabel.firstChild.textContent = `Turn the ${many}`;
  }
}

function unfold(G, r1, r2) {
  const side = G.length, rows = (side / r1) * r2, columns = r1 * (side / r2);
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, k) => {
    const [y, x] = origin(i, k, r1, r2, side);
    return G[y][x];
  }));
}

function origin(i, k, r1, r2, side) { // the row and column of G at row i, column k of R(G)
  const wide = side / r2;
  return [Math.floor(i / r2) * r1 + Math.floor(k / wide), (i % r2) * wide + (k % wide)];
}

const dot = (a, b) => a.reduce((sum, v, n) => sum + v * b[n], 0);
const ease = (t) => (t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2);
const anchor = (v) => (v > 0.85 ? "end" : v < 0.1 ? "start" : "middle");

function palette(stops) {
  const rgb = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return (v) => {
    const place = ((Math.max(-1, Math.min(1, v)) + 1) / 2) * (rgb.length - 1), low = Math.min(rgb.length - 2, Math.floor(place));
    return `rgb(${rgb[low].map((c, n) => Math.round(c + (rgb[low + 1][n] - c) * (place - low))).join(",")})`;
  };
}

function tile(pen, colour, x, y, width, height = width) {
  const gap = width > 5 ? 0.6 : 0;
  pen.fillStyle = colour;
  pen.fillRect(x, y, Math.max(0.4, width - gap), Math.max(0.4, height - gap));
}

function element(tag, css = "", words) {
  const node = document.createElement(tag);
  node.className = css;
  if (words !== undefined) node.textContent = words;
  return node;
}

function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function text(x, y, words, align, css = "") {
  const node = svg("text", { x, y, "text-anchor": align, class: css });
  node.textContent = words;
  return node;
}
