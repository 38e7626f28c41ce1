"""The curve component: two metrics along a path, with an alpha slider that answers in the browser."""

from typing import Any

import streamlit as st

HTML = """
<div class="curve">
  <svg role="img" aria-label="The metrics along the path"></svg>
  <input type="range" aria-label="alpha, the weight of the second end">
  <output></output>
</div>
"""

CSS = """
.curve { color: var(--st-text-color); font-family: var(--st-font); font-size: 13px; }
svg { display: block; width: 100%; touch-action: pan-y; cursor: ew-resize; user-select: none; }
svg text { fill: currentColor; font-size: 12px; }
svg text.tick, svg text.hint { opacity: .7; }
svg text.title { font-weight: 600; font-size: 13px; }
input { appearance: none; display: block; box-sizing: border-box; height: 24px; margin: 0; background: transparent; }
input::-webkit-slider-runnable-track { height: 4px; border-radius: 2px; background: var(--st-border-color); }
input::-moz-range-track { height: 4px; border-radius: 2px; background: var(--st-border-color); }
input::-webkit-slider-thumb { appearance: none; width: 16px; height: 16px; margin-top: -6px; border-radius: 50%;
  background: var(--st-primary-color); cursor: grab; }
input::-moz-range-thumb { width: 16px; height: 16px; border: 0; border-radius: 50%;
  background: var(--st-primary-color); cursor: grab; }
input:focus-visible { outline: none; }
input:focus-visible::-webkit-slider-thumb { outline: 2px solid var(--st-primary-color); outline-offset: 3px; }
input:focus-visible::-moz-range-thumb { outline: 2px solid var(--st-primary-color); outline-offset: 3px; }
output { display: block; min-height: 1.5em; margin: 2px 8px 4px 54px; font-size: 15px;
  font-variant-numeric: tabular-nums; }
"""

JS = r"""
const LEFT = 54, RIGHT = 18, TOPS = [26, 270], HEIGHTS = [190, 110], UNDER = 60;
const SAME = 1e-6, PAPER = "var(--st-background-color)";
const dragged = new Map();  // data.id -> alpha not yet let go of: outlives a remount in the middle of a drag

function make(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - SAME); i * step <= high + step * SAME; i++) found.push(i * step);
  return [found, step];
}

const isWhole = (value) => Math.abs(value - Math.round(value)) < SAME;
const decimals = (step) => [0, 1, 2, 3, 4, 5].find((n) => isWhole(step * 10 ** n)) ?? 6;
const number = (value) => Math.abs(value) < 1000 ? value.toFixed(3) : value.toExponential(1).replace("e+", "e");
const LINE = 22;
const told = (metric) => metric.isShare ? (value) => (100 * value).toFixed(metric.places) + " %" : number;
const short = (alpha, step) => alpha.toFixed(Math.max(2, decimals(step))).replace("-", "−");

function symbol(parent, shape, x, y, size, attributes) {
  const at = (points) => points.map(([u, v]) => [x + size * u, y + size * v].join()).join(" ");
  const star = [...Array(10).keys()].map((i) => [Math.sin(i * Math.PI / 5), -Math.cos(i * Math.PI / 5)]
    .map((c) => c * (i % 2 ? 0.55 : 1.3)));
  const square = [[-.9, -.9], [.9, -.9], [.9, .9], [-.9, .9]], diamond = [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]];
  const shapes = { square, star, diamond };
  if (shapes[shape]) return make(parent, "polygon", { points: at(shapes[shape]), ...attributes });
  return make(parent, "circle", { cx: x, cy: y, r: size, ...attributes });
}

// The value of a series at alpha: computed there, or on the line between its computed neighbours.
function read(points, split, kind, alpha) {
  let left = null, right = null;
  for (const point of points) {
    const value = point[split] && point[split][kind];
    if (value == null) continue;
    if (Math.abs(point[0] - alpha) < SAME) return { value, left: point[0], right: point[0], computed: true };
    if (point[0] < alpha) left = [point[0], value];
    else if (!right) right = [point[0], value];
  }
  if (!left || !right) return null;
  const share = (alpha - left[0]) / (right[0] - left[0]);
  return { value: left[1] + share * (right[1] - left[1]), left: left[0], right: right[0], computed: false };
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".curve"), svg = root.querySelector("svg");
  const slider = root.querySelector("input"), output = root.querySelector("output");
  const [start, stop] = data.range, kinds = [...data.metrics.keys()], known = data.points.filter((p) => p[1] || p[2]);
  const stroke = { stroke: data.colors.curve, "stroke-width": 1.5 };
  const looks = [null, { line: stroke, dot: { r: 3.5, fill: data.colors.curve, ...stroke } },
    { line: { ...stroke, "stroke-dasharray": "5 4" }, dot: { r: 3, fill: PAPER, ...stroke } }];
  const last = kinds.length - 1, floor = TOPS[last] + HEIGHTS[last];  // a task may have one metric
  let x, ys, marker;

  function draw() {
    const width = Math.max(320, root.clientWidth), right = width - RIGHT;
    svg.setAttribute("viewBox", `0 0 ${width} ${floor + UNDER}`);
    svg.setAttribute("height", floor + UNDER);
    svg.replaceChildren();
    x = (alpha) => LEFT + (right - LEFT) * (alpha - start) / (stop - start);
    ys = kinds.map((kind) => panel(kind, right));
    above(width, legend(right));
    data.ends.forEach((end, i) => {
      const text = make(svg, "text", { x: x(i), y: floor + UNDER - 8, "text-anchor": "middle" });
      make(text, "tspan", {}, `${"AB"[i]}: `).style.fontWeight = 600;
      make(text, "tspan", {}, end.name);
      const half = text.getComputedTextLength() / 2;
      text.setAttribute("x", Math.min(Math.max(x(i), half + 4), width - half - 4));
    });
    marker = make(svg, "g", { "pointer-events": "none" });
    slider.style.marginLeft = LEFT - 8 + "px";
    slider.style.width = right - LEFT + 16 + "px";
    move();
  }

  function rule(x1, x2, y1, y2, opacity) {
    make(svg, "line", { x1, x2, y1, y2, stroke: "currentColor", "stroke-opacity": opacity });
  }

  function panel(kind, right) {
    const top = TOPS[kind], bottom = top + HEIGHTS[kind], metric = data.metrics[kind];
    const of = (points) => points.flatMap((p) => [p[1], p[2]]).filter((v) => v && v[kind] != null).map((v) => v[kind]);
    const values = of(known), least = Math.min(...values), most = Math.max(...values);
    let low = least, high = most;
    if (!values.length) [low, high] = [0, 1];
    // Extrapolated weights can have a loss of millions: the scale is that of the part between the ends.
    const between = of(known.filter((p) => p[0] > -SAME && p[0] < 1 + SAME));
    const reach = 2 * Math.max(...between.map(Math.abs)), sign = metric.isHigherBetter ? -1 : 1;
    const usual = (sign > 0 ? Math.max(...between) : Math.min(...between)) + sign * reach;
    const cut = !metric.isShare && Number.isFinite(usual) && (sign > 0 ? high > usual : low < usual);
    if (cut && sign > 0) high = usual;
    if (cut && sign < 0) low = usual;
    const room = Math.max((high - low) * 0.12, metric.isShare ? 0.004 : 0.02 * Math.max(Math.abs(high), SAME));
    [low, high] = [low < 0 ? low - room : Math.max(0, low - room), high + room];
    if (metric.isShare) high = Math.min(1, high);
    const y = (value) => Math.min(bottom, Math.max(top, bottom - (bottom - top) * (value - low) / (high - low)));
    const title = make(svg, "text", { x: LEFT, y: top - 10, class: "title" }, metric.title);
    const beyond = sign > 0 ? `top: it rises to ${number(most)}` : `bottom: it falls to ${number(least)}`;
    const inside = { x: LEFT + 6, y: sign > 0 ? top + 14 : bottom - 6, class: "hint" };  // above is the legend
    if (cut && kind) make(title, "tspan", { "font-weight": 400 }, `  cut off at the ${beyond}`);
    if (cut && !kind) make(svg, "text", inside, `cut off at the ${beyond}`);
    const scale = metric.isShare ? 100 : 1, [at, step] = ticks(low * scale, high * scale, kind ? 3 : 5);
    for (const tick of at) {
      rule(LEFT, right, y(tick / scale), y(tick / scale), 0.12);
      const label = tick.toFixed(decimals(step)) + (metric.isShare ? " %" : "");
      make(svg, "text", { x: LEFT - 8, y: y(tick / scale) + 4, "text-anchor": "end", class: "tick" }, label);
    }
    const [along, pace] = ticks(start, stop, 10);
    for (const tick of along) {
      const isEnd = (start < 0 || stop > 1) && (Math.abs(tick) < SAME || Math.abs(tick - 1) < SAME);
      rule(x(tick), x(tick), top, bottom, isEnd ? 0.4 : 0.06);
      const place = { x: x(tick), y: bottom + 18, "text-anchor": "middle", class: "tick" };
      if (kind < kinds.length - 1) continue;
      make(svg, "text", place, (Math.abs(tick) < SAME ? 0 : tick).toFixed(decimals(pace)).replace("-", "−"));
    }
    for (const split of [2, 1]) {
      const dots = known.filter((p) => p[split] && p[split][kind] != null).map((p) => [x(p[0]), y(p[split][kind])]);
      const points = dots.map((d) => d.join()).join(" ");
      make(svg, "polyline", { points, fill: "none", ...looks[split].line, "stroke-opacity": 0.6 });
      for (const [cx, cy] of dots) make(svg, "circle", { cx, cy, ...looks[split].dot });
    }
    data.ends.forEach((end, i) => {
      const there = read(known, 1, kind, i);
      if (there && there.computed) symbol(svg, end.shape, x(i), y(there.value), 6, { fill: end.color, stroke: PAPER });
    });
    const best = data.best == null ? null : read(known, 1, kind, data.best);
    const green = { fill: data.colors.best, stroke: PAPER };
    if (best && !kind) symbol(svg, "diamond", x(data.best), y(best.value), 6, green);
    return y;
  }

  // Where the first title reaches into the legend, that has a line of its own above it.
  function above(width, [group, left]) {
    const titled = svg.querySelector("text.title").getComputedTextLength() + LEFT;
    if (titled + 12 < left) return;
    group.setAttribute("transform", `translate(0, ${-LINE})`);
    svg.setAttribute("viewBox", `0 ${-LINE} ${width} ${floor + UNDER + LINE}`);
    svg.setAttribute("height", floor + UNDER + LINE);
  }

  function legend(right) {
    const group = make(svg, "g", {});
    const entries = [["held_out", 1], ["test", 2]].filter(([, split]) => known.some((p) => p[split]));
    let at = right;
    const write = (text, room, sketch) => {
      const node = make(group, "text", { y: 16, "text-anchor": "end", x: at }, text);
      at -= node.getComputedTextLength() + 8;
      sketch(at);
      at -= room;
    };
    const green = (to) => symbol(group, "diamond", to - 6, 12, 5, { fill: data.colors.best });
    if (data.best != null) write("best on held_out", 30, green);
    for (const [text, split] of entries.reverse()) write(text, 44, (to) => {
      make(group, "line", { x1: to - 28, x2: to, y1: 12, y2: 12, ...looks[split].line });
      make(group, "circle", { cx: to - 14, cy: 12, ...looks[split].dot });
    });
    return [group, at];
  }

  function move() {
    const alpha = Number(slider.value);
    marker.replaceChildren();
    const ink = { stroke: "var(--st-primary-color)", "stroke-width": 1.5 };
    make(marker, "line", { x1: x(alpha), x2: x(alpha), y1: TOPS[0], y2: floor, ...ink });
    const seen = {};
    for (const kind of kinds) for (const split of [1, 2]) {
      const there = read(known, split, kind, alpha);
      if (!there) continue;
      seen[`${split} ${kind}`] = there;
      const look = there.computed ? { r: 8, fill: "none" } : { r: 4, fill: PAPER };
      make(marker, "circle", { cx: x(alpha), cy: ys[kind](there.value), ...look, ...ink });
    }
    const about = (name, split, kind) => {
      const there = seen[`${split} ${kind}`];
      return there && `${name} ${there.computed ? "" : "≈ "}${told(data.metrics[kind])(there.value)}`;
    };
    const beside = kinds.slice(1).map((kind) => about(data.metrics[kind].label, 1, kind));
    const parts = [about("held_out", 1, 0), about("test", 2, 0), ...beside].filter(Boolean);
    const main = seen["1 0"];
    const how = !main ? "not computed yet" : main.computed ? "computed"
      : `between computed points ${short(main.left, data.step)} and ${short(main.right, data.step)} (≈)`;
    output.textContent = `alpha ${short(alpha, data.step)}: ${parts.join(", ")}${parts.length ? " — " : ""}${how}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  }

  const chosen = dragged.get(data.id) ?? data.alpha;
  if (root.dataset.id !== data.id) {
    root.dataset.id = data.id;
    root.dataset.touched = chosen == null ? "" : "yes";
    [slider.min, slider.max, slider.step] = [start, stop, data.step];
    slider.value = chosen ?? data.best ?? (start + stop) / 2;
    if (dragged.delete(data.id)) setStateValue("alpha", Number(slider.value));
  } else {
    slider.step = data.step;
    if (!root.dataset.touched && data.best != null) slider.value = data.best;
  }
  slider.oninput = () => { root.dataset.touched = "yes"; dragged.set(data.id, Number(slider.value)); move(); };
  slider.onchange = () => { dragged.delete(data.id); setStateValue("alpha", Number(slider.value)); };
  const follow = (event) => {
    const pixel = event.clientX - svg.getBoundingClientRect().left;
    slider.value = start + (stop - start) * (pixel - LEFT) / (x(stop) - LEFT);
    slider.oninput();
  };
  svg.onpointerdown = (event) => {
    svg.setPointerCapture(event.pointerId);
    root.dataset.dragged = "yes";
    follow(event);
  };
  svg.onpointermove = (event) => { if (root.dataset.dragged) follow(event); };
  svg.onpointerup = () => { if (root.dataset.dragged) { delete root.dataset.dragged; slider.onchange(); } };
  draw();
  const observer = new ResizeObserver(() => {
    if (Math.max(320, root.clientWidth) !== svg.viewBox.baseVal.width) draw();
  });
  observer.observe(root);
  return () => observer.disconnect();
}
"""

_component = st.components.v2.component("soupviz_curve", html=HTML, css=CSS, js=JS)


def curve(data: dict[str, Any], key: str) -> float | None:
    """Draw the curve; the alpha at which the user let go of the slider, or None while it was not touched."""
    value = _component(key=key, data=data, on_alpha_change=lambda: None).alpha
    return None if value is None else float(value)
