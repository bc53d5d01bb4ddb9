// What changes the state: buttons, keys, pointers, the address; and the start of it all.

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
