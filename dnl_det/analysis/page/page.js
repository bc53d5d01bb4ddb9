// Wires the page: one state, what draws it, and what changes it.

const content = JSON.parse(document.getElementById("data").textContent);
const { image, frame, detections } = content;
const blocks = content.blocks.map((about, index) => new Block(about, index));
const tables = Object.fromEntries(Object.entries(content.colours).map(([name, text]) => [name, parseTable(text)]));
const byId = (id) => document.getElementById(id);

const LIMITS = {
  blocks: blocks.map((block) => block.name),
  width: image.width,
  height: image.height,
  colours: Object.keys(tables).filter((name) => name !== DIVERGING),
};
const DEFAULTS = {
  block: LIMITS.blocks[0], x: image.width / 2, y: image.height / 2,
  terms: [...TERMS], over: "none", scale: "root", range: "map", colours: LIMITS.colours[0], opacity: 0.8, smooth: true,
  threshold: content.threshold, boxes: true, masks: true, labels: true, theme: "system",
};
if (detections.length) Object.assign(DEFAULTS, centreOfBox(detections[0]));

let state = stateFromFragment(location.hash, DEFAULTS, LIMITS);
let hover = null; // where the mouse is on the picture, in its pixels
let pointed = null; // where it is on a map
let drawnIn = 0; // milliseconds of the last drawing
const cards = Object.fromEntries(TERMS.map((term) => [term, new MapCard(term, image.source)]));
const overlay = new Heat(byId("overlay"));
const pictureMarkers = { query: element("i", { class: "marker query" }), key: element("i", { class: "marker key", hidden: "" }) };

function centreOfBox({ box: [x0, y0, x1, y1] }) {
  const round = (number) => Math.round(10 * number) / 10;
  return { x: round(clamp((x0 + x1) / 2, 0, image.width)), y: round(clamp((y0 + y1) / 2, 0, image.height)) };
}

const currentBlock = () => blocks.find((block) => block.name === state.block);
const currentPoint = () => hover ?? [state.x, state.y];
const currentQuery = () => nearestPosition(currentBlock().queries, frame, currentPoint());

// What is drawn of a term, for the query under the pointer or the one pinned.
function currentValues(term) {
  const block = currentBlock();
  return block.has(term) ? block.values(term, indexOf(block.queries, currentQuery())) : null;
}

function shownTerms() {
  const block = currentBlock();
  const chosen = state.terms.filter((term) => block.has(term));
  return chosen.length ? chosen : block.terms;
}

// ---- drawing

let wanted = false;
function redraw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    drawMaps();
  });
}

function drawMaps() {
  const block = currentBlock();
  if (!block.ready) return;
  const start = performance.now();
  const query = currentQuery();
  const terms = shownTerms();
  const drawn = new Set(state.over !== "none" && block.has(state.over) ? [...terms, state.over] : terms);
  const values = Object.fromEntries([...drawn].map((term) => [term, currentValues(term)]));
  const highest = Object.fromEntries(Object.entries(values).map(([term, numbers]) => [term, largest(numbers)]));
  for (const term of drawn) {
    let high = highest[term];
    if (state.range === "shared") high = Math.max(...Object.values(highest));
    if (state.range === "block") high = block.bound(term);
    const signed = block.mayBeNegative(term);
    const scale = new Scale(state.scale, high, signed);
    const colours = signed ? DIVERGING : state.colours;
    const draw = (heat) => heat.draw(block, frame, values[term], scale, tables[colours], state.smooth);
    if (terms.includes(term)) {
      const card = cards[term];
      draw(card.heat);
      card.describe(scale, content.colours[colours], block.uniform);
      card.canvas.dataset.query = `${query.row},${query.column}`;
      card.canvas.setAttribute("aria-label", `${term} attention, up to ${formatWeight(highest[term])}`);
      placeMarker(card.query, block.queries, frame, query);
    }
    if (term === state.over) draw(overlay);
  }
  placeMarker(pictureMarkers.query, block.queries, frame, query);
  describeQuery(block, query, values);
  drawnIn = performance.now() - start;
}

function describeQuery(block, query, values) {
  const index = indexOf(block.queries, query);
  const [x, y] = centreOf(block.queries, frame, query);
  const words = [`Query at pixel ${Math.round(x)}, ${Math.round(y)}`];
  if (pointed) {
    const key = nearestPosition(block.keys, frame, pointed);
    for (const marker of keyMarkers()) {
      marker.hidden = false;
      placeMarker(marker, block.keys, frame, key);
    }
    const at = indexOf(block.keys, key);
    words.push(`under the pointer ${shownTerms().map((term) => `${term} ${formatWeight(values[term][at])}`).join(", ")}`);
  } else {
    for (const marker of keyMarkers()) marker.hidden = true;
    if (block.pairwise && !block.signed) {
      words.push(`pairwise attention covers about ${Number(block.spread[index].toPrecision(3))} of ${Math.round(1 / block.uniform)} positions`);
      if (block.inside[index] < 0.9995) words.push(`${percent(block.inside[index])} of it in the picture, the rest in its padding`);
    }
  }
  byId("readout").textContent = `${words.join(" \u00b7 ")}.`;
}

const keyMarkers = () => [pictureMarkers.key, ...Object.values(cards).map((card) => card.key)];

// Everything that does not follow the pointer.
async function render() {
  const block = currentBlock();
  setTheme();
  for (const button of document.querySelectorAll("[data-key]")) {
    const current = state[button.dataset.key], value = button.dataset.value;
    const on = Array.isArray(current) ? current.includes(value) : value === undefined ? current : current === value;
    button.setAttribute("aria-pressed", String(on));
    if (button.dataset.key === "terms") button.disabled = !block.has(value);
  }
  for (const id of ["range", "colours", "opacity", "threshold", "over"]) byId(id).value = state[id];
  byId("smooth").checked = state.smooth;
  byId("threshold-value").textContent = state.threshold.toFixed(2);
  for (const option of byId("over").options) option.disabled = option.value !== "none" && !block.has(option.value);

  const terms = shownTerms();
  byId("maps").replaceChildren(...terms.map((term) => cards[term].root));
  byId("maps").dataset.count = terms.length;
  byId("overlay").hidden = state.over === "none" || !block.has(state.over);
  document.documentElement.style.setProperty("--opacity", state.opacity);
  drawDetections(byId("shapes"), byId("labels"), image, detections, state);
  const shown = listDetections(byId("list"), detections, state.threshold, (detection) => change(centreOfBox(detection)));
  byId("count").textContent = `${shown.length} of ${detections.length}`;
  byId("block-title").textContent = `Block ${block.name}`;
  byId("block-text").textContent = describeBlock(block);
  byId("block-text").title = block.module;
  byId("statistics").replaceChildren(...statisticsTables(block, blocks));
  const sampling = describeSampling(block);
  byId("sampling").textContent = sampling;
  byId("sampling").hidden = !sampling;
  try {
    await block.load();
    drawMaps();
  } catch (error) {
    byId("failure").textContent = `The maps cannot be read: ${error.message}.`;
    byId("failure").hidden = false;
  }
}

function setTheme() {
  if (state.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.theme;
  byId("theme").replaceChildren(element("span", { class: "long", text: "Theme: " }), state.theme);
}

// ---- changing

let writing = 0;
function change(changes) {
  Object.assign(state, changes);
  const moved = Object.keys(changes).every((key) => key === "x" || key === "y");
  if (moved) redraw();
  else render();
  // Browsers refuse an address that changes too often.
  clearTimeout(writing);
  writing = setTimeout(writeFragment, 250);
}

function writeFragment() {
  clearTimeout(writing);
  history.replaceState(null, "", stateToFragment(state, DEFAULTS));
}

function toggleTerm(term) {
  if (!currentBlock().has(term)) return;
  const shown = shownTerms();
  const terms = shown.includes(term) ? shown.filter((other) => other !== term) : [...shown, term];
  if (terms.length) change({ terms: TERMS.filter((other) => terms.includes(other) || (!currentBlock().has(other) && state.terms.includes(other))) });
}

// By so many recorded queries down and across.
function moveQuery(down, across) {
  const { queries } = currentBlock();
  hover = null;
  const { row, column } = currentQuery();
  const [x, y] = centreOf(queries, frame, {
    row: clamp(row + down, 0, queries.height - 1),
    column: clamp(column + across, 0, queries.width - 1),
  });
  change({ x: clamp(x, 0, image.width), y: clamp(y, 0, image.height) });
}

function next(list, current, by = 1) {
  return list[(list.indexOf(current) + by + list.length) % list.length];
}

let detection = -1;
function nextDetection(by) {
  const shown = detections.filter(({ score }) => score >= state.threshold);
  if (!shown.length) return;
  detection = (Math.max(detection, by > 0 ? -1 : 0) + by + shown.length) % shown.length;
  change(centreOfBox(shown[detection]));
}

async function copyLink() {
  writeFragment();
  let copied = true;
  try {
    await navigator.clipboard.writeText(location.href);
  } catch {
    copied = false; // not allowed here: the address bar has it all the same
  }
  const toast = byId("toast");
  toast.textContent = copied ? "Link copied." : "Copy the address of this page: it has the state.";
  toast.className = "shown";
  setTimeout(() => (toast.className = ""), 2500);
}

// What keys do: [shown, keys, meaning, action].
const step = (event) => (event.shiftKey ? 5 : 1);
const KEYS = [
  ["arrows", ["ArrowUp"], "move the query by a position; with Shift by 5", (event) => moveQuery(-step(event), 0)],
  [null, ["ArrowDown"], "", (event) => moveQuery(step(event), 0)],
  [null, ["ArrowLeft"], "", (event) => moveQuery(0, -step(event))],
  [null, ["ArrowRight"], "", (event) => moveQuery(0, step(event))],
  ["n  N", ["n"], "query the next detection, the previous", () => nextDetection(1)],
  [null, ["N"], "", () => nextDetection(-1)],
  ["1 \u2026 9", [..."123456789"], "choose the block", (event) => blocks[event.key - 1] && change({ block: blocks[event.key - 1].name })],
  ["[  ]", ["["], "previous and next block", () => change({ block: next(LIMITS.blocks, state.block, -1) })],
  [null, ["]"], "", () => change({ block: next(LIMITS.blocks, state.block) })],
  ["p  u  c", ["p", "u", "c"], "show or hide pairwise, unary, combined", (event) => toggleTerm(TERMS["puc".indexOf(event.key)])],
  ["o", ["o"], "the map over the picture", () => change({ over: next(["none", ...currentBlock().terms], state.over) })],
  ["s", ["s"], "scale: linear, square root, logarithmic", () => change({ scale: next(SCALES, state.scale) })],
  ["r", ["r"], "range of the scale", () => change({ range: next(["map", "shared", "block"], state.range) })],
  ["m", ["m"], "colour map", () => change({ colours: next(LIMITS.colours, state.colours) })],
  ["\u2212  +", ["-"], "opacity", () => change({ opacity: clamp(Math.round(100 * state.opacity - 10) / 100, 0, 1) })],
  [null, ["+", "="], "", () => change({ opacity: clamp(Math.round(100 * state.opacity + 10) / 100, 0, 1) })],
  ["i", ["i"], "smooth, or one cell a key", () => change({ smooth: !state.smooth })],
  ["b  k  l", ["b"], "boxes, masks, labels", () => change({ boxes: !state.boxes })],
  [null, ["k"], "", () => change({ masks: !state.masks })],
  [null, ["l"], "", () => change({ labels: !state.labels })],
  ["d", ["d"], "light, dark, or as the system", () => change({ theme: next(["system", "light", "dark"], state.theme) })],
  ["y", ["y"], "copy a link to this state", copyLink],
  ["?", ["?"], "this help", () => byId("dialog").showModal()],
];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("dialog").open) return;
  const inControl = event.target.matches?.("select, input[type=range]");
  if (inControl && (event.key.startsWith("Arrow") || event.target.matches("select"))) return;
  const found = KEYS.find(([, keys]) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found[3](event);
}

// ---- pointers

function pointIn(stage, event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  return [
    clamp(((event.clientX - left) / width) * image.width, 0, image.width),
    clamp(((event.clientY - top) / height) * image.height, 0, image.height),
  ];
}

const pin = ([x, y]) => change({ x: Math.round(10 * x) / 10, y: Math.round(10 * y) / 10 });

function watchPicture(stage) {
  stage.addEventListener("pointermove", (event) => {
    const point = pointIn(stage, event);
    if (event.pointerType === "mouse") {
      hover = point;
      redraw();
    } else if (event.buttons) pin(point); // a finger or pen that is dragged across
  });
  stage.addEventListener("pointerleave", () => {
    hover = null;
    redraw();
  });
  stage.addEventListener("click", (event) => pin(pointIn(stage, event)));
}

function watchMap(stage) {
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    pointed = pointIn(stage, event);
    redraw();
  });
  stage.addEventListener("pointerleave", () => {
    pointed = null;
    redraw();
  });
  stage.addEventListener("click", (event) => pin(pointIn(stage, event)));
}

// ---- start

// Buttons of which one is on, or, where each has a key of its own, any.
function segments(id, buttons) {
  byId(id).replaceChildren(...buttons.map(([key, value, text, title]) => {
    const button = element("button", { type: "button", "data-key": key, text });
    if (title) button.title = title;
    if (value !== undefined) button.dataset.value = value;
    button.addEventListener("click", () => {
      if (key === "terms") toggleTerm(value);
      else change({ [key]: value ?? !state[key] });
    });
    return button;
  }));
}

function start() {
  byId("title").textContent = content.title;
  byId("model").textContent = content.model;
  byId("photo").src = image.source;
  byId("photo").alt = content.title;
  document.documentElement.style.setProperty("--aspect", image.width / image.height);
  document.documentElement.style.setProperty("--aspect-ratio", `${image.width} / ${image.height}`);
  byId("picture").append(...Object.values(pictureMarkers));
  segments("blocks", blocks.map((block, index) => ["block", block.name, block.name, `${block.module} (${index + 1})`]));
  segments("terms", TERMS.map((term) => ["terms", term, term, `${ABOUT_TERMS[term]} (${term[0]})`]));
  segments("scale", [["scale", "linear", "linear"], ["scale", "root", "\u221a", "square root"], ["scale", "log", "log", `${DECADES} decades`]]);
  segments("layers", [["boxes", undefined, "boxes"], ["masks", undefined, "masks"], ["labels", undefined, "labels"]]);
  byId("colours").replaceChildren(...LIMITS.colours.map((name) => element("option", { value: name, text: name })));
  for (const id of ["range", "colours", "over"]) byId(id).addEventListener("change", () => change({ [id]: byId(id).value }));
  for (const id of ["opacity", "threshold"]) byId(id).addEventListener("input", () => change({ [id]: Number(byId(id).value) }));
  byId("smooth").addEventListener("change", () => change({ smooth: byId("smooth").checked }));
  byId("theme").addEventListener("click", () => change({ theme: next(["system", "light", "dark"], state.theme) }));
  byId("link").addEventListener("click", copyLink);
  byId("help").addEventListener("click", () => byId("dialog").showModal());
  byId("close").addEventListener("click", () => byId("dialog").close());
  byId("keys").replaceChildren(...KEYS.filter(([shown]) => shown).map(([shown, , meaning]) =>
    element("tr", {}, element("th", { scope: "row" }, ...shown.split("  ").map((key) => element("kbd", { text: key }))), element("td", { text: meaning })),
  ));
  watchPicture(byId("picture"));
  for (const card of Object.values(cards)) watchMap(card.stage);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => {
    state = stateFromFragment(location.hash, DEFAULTS, LIMITS);
    render();
  });
  new ResizeObserver(redraw).observe(byId("maps"));
  return render();
}

// For tests and the curious: what the page shows, to read only.
window.dnlExplorer = Object.freeze({
  ready: start(),
  state: () => ({ ...state, point: currentPoint(), query: currentQuery() }),
  values: (term) => Array.from(currentValues(term) ?? []),
  nearest: (x, y) => indexOf(currentBlock().queries, nearestPosition(currentBlock().queries, frame, [x, y])),
  milliseconds: () => drawnIn,
});
