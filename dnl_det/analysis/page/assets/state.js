// The state of the page, and its copy in the address's fragment: #block=res4.4&x=120&y=96&...

// How to read each key back; whatever is not allowed gives null and leaves the default.
const READERS = {
  block: (text, limits) => (limits.blocks.includes(text) ? text : null),
  x: (text, limits) => readNumber(text, 0, limits.width),
  y: (text, limits) => readNumber(text, 0, limits.height),
  terms: (text) => {
    const terms = text.split(",").filter((term) => TERMS.includes(term));
    return terms.length ? TERMS.filter((term) => terms.includes(term)) : null;
  },
  over: (text) => readOneOf(text, ["none", ...TERMS]),
  scale: (text) => readOneOf(text, SCALES),
  range: (text) => readOneOf(text, ["map", "shared", "block"]),
  colours: (text, limits) => readOneOf(text, limits.colours),
  opacity: (text) => readNumber(text, 0, 1),
  smooth: readSwitch,
  threshold: (text) => readNumber(text, 0, 1),
  boxes: readSwitch,
  masks: readSwitch,
  labels: readSwitch,
  theme: (text) => readOneOf(text, ["system", "light", "dark"]),
};

function readNumber(text, low, high) {
  const number = Number(text);
  return text !== "" && number >= low && number <= high ? number : null;
}

function readOneOf(text, allowed) {
  return allowed.includes(text) ? text : null;
}

function readSwitch(text) {
  return { 1: true, 0: false }[text] ?? null;
}

function stateFromFragment(fragment, defaults, limits) {
  const state = { ...defaults };
  for (const [key, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const value = READERS[key]?.(text, limits) ?? null;
    if (value !== null) state[key] = value;
  }
  return state;
}

// The block and the query always, the rest where it differs from the defaults.
function stateToFragment(state, defaults) {
  const words = new URLSearchParams();
  for (const key of Object.keys(READERS)) {
    const text = asText(state[key]);
    if (["block", "x", "y"].includes(key) || text !== asText(defaults[key])) words.set(key, text);
  }
  return `#${words.toString().replaceAll("%2C", ",")}`;
}

function asText(value) {
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value === "number") return String(Math.round(value * 100) / 100);
  return String(value);
}
