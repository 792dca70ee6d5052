"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const svgNode = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const addOption = (select, value, text) => select.add(new Option(text, value));
  const show = (value, digits) => (value === null ? "–" : value.toFixed(digits));

  // ---- curves ---------------------------------------------------------------

  const hidden = new Set();
  let walked = -1; // index of the point that the arrow keys are at
  let points = [];

  function curves() {
    const image = byId("plot-image").value, metric = byId("plot-metric").value;
    const drawn = data.curves.filter((c) => c.image === image && c.metric === metric);
    const published = image === "" ? data.references.filter((c) => c.metric === metric) : [];
    return { drawn, published };
  }

  const dashes = ["", "7 4", "2 3", "8 3 2 3", "12 3", "1 5"];
  const publishedName = (c) => `${c.name}, published`;

  function niceStep(span, count) {
    const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
    return power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw);
  }

  function extent(visible) {
    const ends = visible.map((c) => Math.max(...c.points.map((p) => p[0])));
    let right = Math.max(...ends);
    if (!byId("plot-all").checked) right = Math.min(1.05 * right, 1.4 * Math.min(...ends));
    else right *= 1.03;
    let inside = visible.flatMap((c) => c.points).filter((p) => p[0] <= right);
    if (!inside.length) inside = visible.flatMap((c) => c.points);
    const ys = inside.map((p) => p[1]), xs = inside.map((p) => p[0]);
    const margin = 0.05 * (Math.max(...ys) - Math.min(...ys)) || 1;
    return { left: Math.min(...xs) * 0.9, right, low: Math.min(...ys) - margin,
             high: Math.max(...ys) + margin };
  }

  function draw() {
    const box = byId("plot"), { drawn, published } = curves();
    const narrow = box.clientWidth < 600;
    const W = narrow ? 480 : 1000, H = narrow ? 420 : 520;
    const L = 56, R = 12, T = 12, B = 48;
    const visible = drawn.filter((c) => !hidden.has(c.name));
    const svg = svgNode("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H });
    box.replaceChildren(svg);
    points = [];
    if (!visible.length) {
      svg.append(svgNode("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, "no curves"));
      return;
    }
    const log = byId("plot-log").checked, e = extent(visible);
    const x0 = log ? Math.log(e.left) : 0, x1 = log ? Math.log(e.right) : e.right;
    const X = (v) => L + (W - L - R) * ((log ? Math.log(v) : v) - x0) / (x1 - x0);
    const Y = (v) => H - B - (H - T - B) * (v - e.low) / (e.high - e.low);
    axes(svg, { W, H, L, R, T, B, X, Y, e, log, narrow });
    const clip = svgNode("clipPath", { id: "frame" });
    clip.append(svgNode("rect", { x: L, y: T, width: W - L - R, height: H - T - B }));
    const inner = svgNode("g", { "clip-path": "url(#frame)" });
    svg.append(clip, inner);
    const path = (c) => c.points.map((p, i) => `${i ? "L" : "M"}${X(p[0])} ${Y(p[1])}`).join("");
    published.forEach((c, i) => {
      if (!hidden.has(publishedName(c))) {
        const line = svgNode("path", { d: path(c), class: "reference",
                                       "stroke-dasharray": dashes[i % dashes.length] });
        line.append(svgNode("title", {}, publishedName(c)));
        inner.append(line);
      }
    });
    for (const c of visible) {
      inner.append(svgNode("path", { d: path(c), fill: "none", stroke: c.colour,
        "stroke-width": c.theoretical ? 2 : 3, "stroke-dasharray": c.theoretical ? "8 5" : "" }));
      for (const p of c.points) {
        if (p[0] > e.right || p[1] < e.low) continue;
        const dot = svgNode("circle", { cx: X(p[0]), cy: Y(p[1]), fill: c.colour,
                                        r: c.theoretical ? 3 : 5 });
        points.push({ dot, text: `${c.name} at ${p[2]}: ${p[0].toFixed(4)} bpp, ` +
                                 `${p[1].toFixed(3)} ${unit()}` });
        dot.addEventListener("pointerenter", () => mark(points.findIndex((q) => q.dot === dot)));
        inner.append(dot);
      }
    }
    walked = -1;
    byId("plot-readout").textContent = "Point at a mark, or use the arrow keys in the plot.";
  }

  function axes(svg, { W, H, L, R, T, B, X, Y, e, log, narrow }) {
    const ys = niceStep(e.high - e.low, 6);
    for (let v = Math.ceil(e.low / ys) * ys; v <= e.high; v += ys) {
      svg.append(svgNode("line", { x1: L, x2: W - R, y1: Y(v), y2: Y(v), class: "grid" }));
      svg.append(svgNode("text", { x: L - 6, y: Y(v) + 4, "text-anchor": "end" },
                         String(+v.toFixed(3))));
    }
    const step = niceStep(e.right, narrow ? 5 : 8);
    const ticks = log ? [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
      : Array.from({ length: Math.floor(e.right / step) + 1 }, (_, i) => i * step);
    for (const v of ticks.filter((v) => v <= e.right && (!log || v >= e.left))) {
      svg.append(svgNode("line", { x1: X(v), x2: X(v), y1: T, y2: H - B, class: "grid" }));
      svg.append(svgNode("text", { x: X(v), y: H - B + 18, "text-anchor": "middle" },
                         String(+v.toFixed(3))));
    }
    svg.append(svgNode("text", { x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle" },
                       "rate, bits per pixel (file size)"));
    const label = svgNode("text", { x: 14, y: (T + H - B) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(T + H - B) / 2})` },
      byId("plot-metric").selectedOptions[0].text);
    svg.append(label);
  }

  const unit = () => data.metrics.find((m) => m.name === byId("plot-metric").value).unit;

  function mark(index) {
    if (walked >= 0 && points[walked]) points[walked].dot.removeAttribute("stroke");
    walked = index;
    const point = points[index];
    if (!point) return;
    point.dot.setAttribute("stroke", "currentColor");
    point.dot.setAttribute("stroke-width", "2");
    byId("plot-readout").textContent = point.text;
    tip(point);
  }

  function tip(point) {
    const plot = byId("plot"), box = plot.getBoundingClientRect();
    const dot = point.dot.getBoundingClientRect();
    const text = document.createElement("div");
    text.className = "tip";
    text.textContent = point.text;
    plot.querySelector(".tip")?.remove();
    plot.append(text);
    const half = text.offsetWidth / 2, at = dot.left + dot.width / 2 - box.left;
    text.style.left = `${Math.max(half, Math.min(box.width - half, at))}px`;
    text.style.top = `${dot.top - box.top}px`;
    text.setAttribute("aria-hidden", "true");
  }

  function legend() {
    const box = byId("legend");
    const { drawn, published } = curves();
    const entries = drawn.map((c) => [c.name, c.colour, c.theoretical ? "6 4" : ""]);
    published.forEach((c, i) =>
      entries.push([publishedName(c), "var(--soft)", dashes[i % dashes.length]]));
    box.replaceChildren(...entries.map(([name, colour, dash]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      const key = svgNode("svg", { width: 26, height: 10, "aria-hidden": "true" });
      key.append(svgNode("path", { d: "M0 5H26", style: `stroke:${colour}`,
        "stroke-width": 3, "stroke-dasharray": dash }));
      button.append(key, name);
      button.addEventListener("click", () => {
        if (!hidden.delete(name)) hidden.add(name);
        button.setAttribute("aria-pressed", String(!hidden.has(name)));
        draw();
      });
      return button;
    }));
  }

  addOption(byId("plot-image"), "", `mean of ${data.images.length}`);
  for (const image of data.images) addOption(byId("plot-image"), image, image);
  for (const metric of data.metrics) addOption(byId("plot-metric"), metric.name, metric.label);
  byId("plot-controls").addEventListener("submit", (event) => event.preventDefault());
  byId("plot-controls").addEventListener("change", () => { legend(); draw(); });
  byId("plot").addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!move || !points.length) return;
    event.preventDefault();
    mark((walked + move + points.length + (walked < 0 && move < 0 ? 1 : 0)) % points.length);
  });
  let width = 0;
  new ResizeObserver(() => {
    const now = byId("plot").clientWidth < 600;
    if (now !== width) { width = now; draw(); }
  }).observe(byId("plot"));
  legend();
  draw();

  // ---- tables ---------------------------------------------------------------

  for (const button of document.querySelectorAll(".sort"))
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = head.cellIndex;
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const text = (row) => row.cells[column].textContent.trim();
      const value = (row) => parseFloat(text(row).replace("<=", ""));
      const sign = up ? 1 : -1;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (isNaN(x) !== isNaN(y)) return isNaN(x) - isNaN(y); // what has no number comes last
        return sign * (isNaN(x) ? text(a).localeCompare(text(b)) : x - y);
      };
      body.append(...[...body.rows].sort(order));
    });

  // ---- viewer ---------------------------------------------------------------

  if (!data.pictures.length) return;
  const stage = byId("stage"), left = stage.querySelector(".left");
  const right = stage.querySelector(".right"), cut = stage.querySelector(".cut");
  let zoom = 1, pan = [0.5, 0.5];

  const picture = () => data.pictures[byId("view-image").selectedIndex];
  const caption = (view) => (view.bpp === null ? view.name
    : `${view.name}: ${show(view.bpp, 3)} bpp, ${show(view.psnr, 2)} dB, ` +
      `MS-SSIM ${show(view.ms_ssim, 4)}`);

  function fill() {
    for (const id of ["view-left", "view-right"]) {
      const select = byId(id), before = select.value;
      select.replaceChildren();
      picture().views.forEach((view, i) => addOption(select, i, caption(view)));
      if (before !== "" && before < select.options.length) select.value = before;
    }
  }

  function place() {
    const { width: w, height: h, views } = picture();
    const scale = Math.min(1, stage.parentElement.clientWidth / w);
    for (const box of [stage, byId("slider"), byId("captions")])
      box.style.width = `${w * scale}px`;
    stage.style.height = `${h * scale}px`;
    for (const [image, id] of [[left, "view-left"], [right, "view-right"]]) {
      const view = views[+byId(id).value];
      if (image.getAttribute("src") !== view.source) image.src = view.source;
      image.alt = caption(view);
      image.classList.toggle("zoomed", zoom > 1);
      const k = scale * zoom;
      const dx = -pan[0] * w * (k - scale), dy = -pan[1] * h * (k - scale);
      image.style.width = `${w}px`;
      image.style.transform = `translate(${dx}px, ${dy}px) scale(${k})`;
      if (image === right) {
        const at = w * scale * byId("slider").value / 100;
        image.style.setProperty("--cut", `${(at - dx) / k}px`);
        cut.style.left = `${at}px`;
      }
    }
    byId("caption-left").textContent = caption(views[+byId("view-left").value]);
    byId("caption-right").textContent = caption(views[+byId("view-right").value]);
    byId("zoom-value").textContent = `${zoom}×`;
  }

  function match() {
    const views = picture().views, select = byId("view-right");
    const left = views[+byId("view-left").value], right = views[+select.value];
    if (!byId("view-match").checked || left.bpp === null || right.bpp === null) return;
    const far = (view) => Math.abs(Math.log(view.bpp / left.bpp));
    const own = views.filter((view) => view.codec === right.codec);
    select.value = views.indexOf(own.reduce((a, b) => (far(b) < far(a) ? b : a)));
  }

  let flicker = 0;
  function setMode() {
    const mode = byId("view-mode").value;
    clearInterval(flicker);
    stage.className = `stage ${mode}`;
    byId("slider").hidden = mode !== "cut";
    if (mode === "flicker") flicker = setInterval(() => stage.classList.toggle("off"), 500);
  }

  function setZoom(value, event) {
    if (event) {
      const box = stage.getBoundingClientRect();
      pan = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    }
    zoom = Math.max(1, Math.min(16, value));
    place();
  }

  data.pictures.forEach((p) => addOption(byId("view-image"), p.name, p.name));
  fill();
  byId("view-right").selectedIndex = Math.min(1, byId("view-right").options.length - 1);
  byId("view-image").addEventListener("change", () => { fill(); match(); place(); });
  for (const id of ["view-left", "view-right", "view-match"])
    byId(id).addEventListener("change", () => { match(); place(); });
  byId("view-mode").addEventListener("change", setMode);
  byId("slider").addEventListener("input", place);
  byId("zoom-in").addEventListener("click", () => setZoom(zoom * 2));
  byId("zoom-out").addEventListener("click", () => setZoom(zoom / 2));
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    drag = [event.clientX, event.clientY, ...pan];
    stage.setPointerCapture(event.pointerId);
    if (zoom === 1) slide(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (zoom === 1) return slide(event);
    const box = stage.getBoundingClientRect(), reach = zoom - 1;
    const clamp = (v) => Math.max(0, Math.min(1, v));
    pan = [clamp(drag[2] - (event.clientX - drag[0]) / box.width / reach),
           clamp(drag[3] - (event.clientY - drag[1]) / box.height / reach)];
    place();
  });
  stage.addEventListener("pointerup", () => { drag = null; });
  stage.addEventListener("pointercancel", () => { drag = null; });
  stage.addEventListener("dblclick", (event) => setZoom(zoom > 1 ? 1 : 4, event));
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (event.key === "+" || event.key === "=") setZoom(zoom * 2);
    else if (event.key === "-") setZoom(zoom / 2);
    else if (move && zoom > 1) {
      pan = pan.map((v, i) => Math.max(0, Math.min(1, v + move[i] * 0.25 / zoom)));
      place();
    } else if (move && move[0]) {
      byId("slider").value = +byId("slider").value + 2 * move[0];
      place();
    } else return;
    event.preventDefault();
  });
  function slide(event) {
    const box = stage.getBoundingClientRect();
    byId("slider").value = 100 * (event.clientX - box.left) / box.width;
    place();
  }
  window.addEventListener("resize", place);
  place();
})();
