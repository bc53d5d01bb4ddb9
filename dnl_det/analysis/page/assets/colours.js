// From weights to colours, and the numbers on a legend.

const SCALES = ["linear", "root", "log"];
const DECADES = 3; // of the logarithmic scale
const DIVERGING = "RdBu_r"; // for maps with negative weights, from blue (negative) to red

function parseTable(hexadecimal) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const rgb = parseInt(hexadecimal.slice(6 * i, 6 * i + 6), 16);
    // ImageData is r, g, b, a in memory, which a little-endian number has from its low end.
    table[i] = (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
  }
  return table;
}

function gradient(hexadecimal) {
  const stops = [];
  for (let i = 0; i < 256; i += 15) stops.push(`#${hexadecimal.slice(6 * i, 6 * i + 6)}`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

// From weights to 0 ... 1 and back. high: the weight at the end of the legend.
class Scale {
  constructor(kind, high, signed) {
    // A logarithm has no zero to diverge from.
    this.kind = signed && kind === "log" ? "root" : kind;
    this.high = high > 0 ? high : 1;
    this.signed = signed;
  }

  unit(weight) {
    const share = clamp(Math.abs(weight) / this.high, 0, 1);
    let unit = share;
    if (this.kind === "root") unit = Math.sqrt(share);
    if (this.kind === "log") unit = share > 0 ? Math.max(1 + Math.log10(share) / DECADES, 0) : 0;
    return this.signed ? (1 + Math.sign(weight) * unit) / 2 : unit;
  }

  weight(unit) {
    const at = this.signed ? 2 * unit - 1 : unit;
    let share = at;
    if (this.kind === "root") share = at * Math.abs(at);
    if (this.kind === "log") share = 10 ** (DECADES * (at - 1));
    return this.high * share;
  }
}

function formatWeight(weight) {
  const size = Math.abs(weight);
  if (size === 0) return "0";
  if (size >= 0.001 && size < 1000) return String(Number(weight.toPrecision(size >= 1 ? 3 : 2)));
  const exponent = Math.floor(Math.log10(size));
  const digits = [...String(exponent)].map((d) => (d === "-" ? "\u207b" : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[d]));
  return `${(weight / 10 ** exponent).toFixed(1)}\u00b710${digits.join("")}`;
}
