// The page: its data, its one state, and what draws it. What changes the state: controls.js.

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
    button.disabled = button.dataset.key === "terms" && !block.has(value);
    button.setAttribute("aria-pressed", String(button.dataset.key === "terms" ? shownTerms().includes(value) : on));
  }
  for (const id of ["range", "colours", "opacity", "threshold", "over"]) byId(id).value = state[id];
  byId("smooth").checked = state.smooth;
  byId("threshold-value").textContent = state.threshold.toFixed(2);
  for (const option of byId("over").options) option.disabled = option.value !== "none" && !block.has(option.value);

  const terms = shownTerms();
  for (const term of terms) cards[term].name(block);
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
