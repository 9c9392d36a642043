// Curves as SVG, drawn for the width that there is.

const NS = "http://www.w3.org/2000/svg";

function shape(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Round values from `low` to `high`, about `count` of them.
export function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count));
  const nice = [1, 2, 5, 10].map((n) => n * step).find((n) => (high - low) / n <= count) ?? 10 * step;
  const found = [];
  for (let n = Math.ceil(low / nice - 1e-9); n * nice <= high + nice * 1e-9; n += 1) found.push(n * nice);
  return found;
}

export function short(value) {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

const STAR = "M0,-8 L2.2,-2.8 L7.6,-2.5 L3.5,1.1 L4.8,6.5 L0,3.6 L-4.8,6.5 L-3.5,1.1 L-7.6,-2.5 L-2.2,-2.8 Z";

// series: [{name, points: [[x, y]], best: [x, y] | null}], drawn over each other.
export function plot({ title, series, xLabel }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const place = document.createElement("div");
  figure.append(caption, place);
  if (series.length > 1) figure.append(legend(series));
  new ResizeObserver(() => draw(place, title, series, xLabel)).observe(place);
  return figure;
}

function legend(series) {
  const list = document.createElement("ul");
  list.className = "legend";
  series.forEach(({ name }, index) => {
    const item = document.createElement("li");
    item.className = `c${index % 6}`;
    const text = document.createElement("span");
    text.textContent = name;
    item.append(document.createElement("i"), text);
    list.append(item);
  });
  return list;
}

function draw(place, title, series, xLabel) {
  const width = Math.max(place.clientWidth, 220);
  const height = Math.round(Math.min(300, Math.max(190, width * 0.55)));
  const finite = series.map((one) => one.points.filter(([, y]) => Number.isFinite(y)));
  const all = finite.flat();
  if (all.length === 0) {
    place.replaceChildren(Object.assign(document.createElement("p"), { className: "dim", textContent: "nothing measured yet" }));
    return;
  }
  let [xLow, xHigh] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
  let [yLow, yHigh] = [Math.min(...all.map(([, y]) => y)), Math.max(...all.map(([, y]) => y))];
  if (xLow === xHigh) [xLow, xHigh] = [xLow - 1, xHigh + 1];
  const margin = (yHigh - yLow) * 0.08 || Math.abs(yHigh) * 0.1 || 1;
  [yLow, yHigh] = [yLow - margin, yHigh + margin];
  const [left, right, top, bottom] = [48, 12, 10, 34];
  const atX = (x) => left + ((x - xLow) / (xHigh - xLow)) * (width - left - right);
  const atY = (y) => height - bottom - ((y - yLow) / (yHigh - yLow)) * (height - top - bottom);

  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": described(title, series) });
  for (const y of ticks(yLow, yHigh, 5)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: atY(y), y2: atY(y) }));
    svg.append(shape("text", { x: left - 6, y: atY(y) + 4, "text-anchor": "end" }, short(y)));
  }
  for (const x of ticks(xLow, xHigh, Math.max(2, width / 90))) {
    svg.append(shape("text", { x: atX(x), y: height - bottom + 16, "text-anchor": "middle" }, short(x)));
  }
  svg.append(shape("text", { x: width - right, y: height - 3, "text-anchor": "end" }, xLabel));
  finite.forEach((points, index) => {
    const group = shape("g", { class: `c${index % 6}` });
    const path = points.map(([x, y], n) => `${n ? "L" : "M"}${atX(x).toFixed(1)},${atY(y).toFixed(1)}`).join("");
    group.append(shape("path", { class: "curve", d: path }));
    for (const [x, y] of points) {
      const dot = shape("circle", { class: "dot", cx: atX(x), cy: atY(y), r: points.length > 60 ? 1.5 : 3, "data-x": x, "data-y": y });
      dot.append(shape("title", {}, `${series[index].name}: ${short(y)} at ${short(x)}`));
      group.append(dot);
    }
    svg.append(group);
  });
  for (const { name, best } of series) {
    if (!best || !Number.isFinite(best[1])) continue;
    const star = shape("path", { class: "best", d: STAR, transform: `translate(${atX(best[0])},${atY(best[1])})`, "data-x": best[0], "data-y": best[1] });
    star.append(shape("title", {}, `${name}: the best, ${short(best[1])} at ${short(best[0])}`));
    svg.append(star);
  }
  place.replaceChildren(svg);
}

// What a screen reader says of the picture.
function described(title, series) {
  const each = series.map(({ name, points, best }) => {
    const last = points.at(-1);
    const now = last ? `${short(last[1])} at ${short(last[0])}` : "nothing yet";
    return `${name}: now ${now}${best ? `, best ${short(best[1])} at ${short(best[0])}` : ""}`;
  });
  return `${title}. ${each.join("; ")}`;
}
