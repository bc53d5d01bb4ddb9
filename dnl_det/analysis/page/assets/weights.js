// What a query attends to, decoded from the page's data: see dnl_det/analysis/query_maps.py.

const TERMS = ["pairwise", "unary", "combined"];

function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

function toFloats(text) {
  return new Float32Array(fromBase64(text).buffer);
}

async function inflate(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old for this page: it has no DecompressionStream");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function largest(values) {
  let found = 0;
  for (const value of values) found = Math.max(found, Math.abs(value));
  return found;
}

class Block {
  constructor(about, index) {
    Object.assign(this, about);
    this.index = index;
    this.maxima = toFloats(about.maxima);
    this.inside = toFloats(about.inside);
    this.spread = toFloats(about.spread);
    this.unary = about.unary === null ? null : toFloats(about.unary);
    this.keyCount = this.keys.height * this.keys.width;
    this.terms = TERMS.filter((term) => this.has(term));
    this.codes = null;
    this.loading = null;
    // From a code to the share of a row's maximum.
    this.decoded = Float32Array.from({ length: 256 }, (_, code) => {
      const c = this.signed ? (code - 128) / 127 : code / 255;
      return c * Math.abs(c);
    });
  }

  has(term) {
    if (term === "pairwise") return this.pairwise;
    if (term === "unary") return this.unary !== null;
    return this.pairwise && this.unary !== null;
  }

  // Whether a term's weights may be negative.
  mayBeNegative(term) {
    return this.signed || (term === "combined" && this.gamma < 0);
  }

  get ready() {
    return !this.pairwise || this.codes !== null;
  }

  // Decoding takes a moment, so that it waits until the block is looked at.
  load() {
    this.loading ??= (async () => {
      if (this.pairwise) {
        this.codes = await inflate(fromBase64(document.getElementById(`codes-${this.index}`).textContent));
      }
    })();
    return this.loading;
  }

  // Weights of all keys, for the query with this index.
  values(term, query) {
    if (term === "unary") return this.unary;
    const row = this.codes.subarray(query * this.keyCount, (query + 1) * this.keyCount);
    const factor = this.maxima[query] * (term === "combined" ? this.gamma : 1);
    const values = new Float32Array(this.keyCount);
    for (let j = 0; j < values.length; j++) values[j] = factor * this.decoded[row[j]];
    if (term === "combined" && this.unary) {
      for (let j = 0; j < values.length; j++) values[j] += this.unary[j];
    }
    return values;
  }

  // No magnitude of this term is above it, whatever the query.
  bound(term) {
    const pairwise = this.pairwise ? largest(this.maxima) : 0;
    const unary = this.unary ? largest(this.unary) : 0;
    return { pairwise, unary, combined: Math.abs(this.gamma) * pairwise + unary }[term];
  }
}
