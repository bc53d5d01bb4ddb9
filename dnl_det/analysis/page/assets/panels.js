// The cards beside the picture: maps with their legends, statistics, the list of detections.

const ABOUT_TERMS = {
  pairwise: "of this query",
  unary: "of all queries",
  combined: "\u03b3 \u00d7 pairwise + unary",
};

// Keys of BlockStatistics (dnl_det/analysis/statistics.py): what they are, and what they mean.
const STATISTICS = [
  ["Do queries differ?", "cosine distance: 0 the same, 0.5 orthogonal, 1 opposite", [
    ["input_distance", "of the input", "Distance between the features that enter the block."],
    ["pairwise_distance", "of pairwise attention", "Near 0, all queries attend alike: the term has degenerated."],
    ["combined_distance", "of combined attention", "Distance between the rows that values are weighted with."],
    ["context_distance", "of what the block adds", "Distance between the contexts y - x."],
    ["output_distance", "of the output", "Distance between the features that leave the block."],
    ["pairwise_divergence", "divergence of pairwise, bits", "Jensen-Shannon: 0 the same, 1 disjoint."],
  ]],
  ["How focused is attention?", "entropy: 0 one position, 1 all alike", [
    ["pairwise_entropy", "of pairwise", "Mean over queries, divided by that of uniform attention."],
    ["unary_entropy", "of unary", "Divided by that of uniform attention."],
  ]],
  ["How much does it weigh?", "", [
    ["context_share", "context / input", "Mean of |y - x| / |x|."],
    ["pairwise_share", "pairwise in the context", "Mean of |gamma P v| / (|gamma P v| + |U v|)."],
  ]],
];

// The card of one term's map: picture in grey, heat, markers, legend.
class MapCard {
  constructor(term, source) {
    this.term = term;
    this.title = element("h2", { text: term });
    this.note = element("span", { class: "muted", text: ABOUT_TERMS[term] });
    this.canvas = element("canvas", { class: "heat", role: "img", "data-term": term });
    this.heat = new Heat(this.canvas);
    this.query = element("i", { class: "marker query" });
    this.key = element("i", { class: "marker key", hidden: "" });
    this.stage = element(
      "div", { class: "stage" },
      element("img", { src: source, alt: "", draggable: "false" }), this.canvas, this.query, this.key,
    );
    this.ramp = element("div", { class: "ramp" });
    this.uniform = element("i", { class: "uniform", title: "uniform attention" });
    this.numbers = element("div", { class: "numbers" });
    this.legend = element("div", { class: "legend" }, element("div", { class: "track" }, this.ramp, this.uniform), this.numbers);
    this.root = element(
      "article", { class: "map card", "aria-label": `${term} attention` },
      element("div", { class: "map-head" }, this.title, this.note), this.stage, this.legend,
    );
  }

  // One term that is not split is the paper's joint attention.
  name(block) {
    const joint = this.term === "pairwise" && !block.unary && block.mode !== "pairwise";
    this.title.textContent = joint ? "joint" : this.term;
    this.root.setAttribute("aria-label", `${this.title.textContent} attention`);
  }

  describe(scale, table, uniform) {
    this.ramp.style.background = gradient(table);
    const at = scale.unit(uniform);
    this.uniform.style.left = `${100 * at}%`;
    this.uniform.title = `uniform attention: ${formatWeight(uniform)}`;
    const units = [0, 0.5, 1];
    this.numbers.replaceChildren(...units.map((unit) => {
      const below = unit === 0 && scale.kind === "log" ? "\u2264 " : "";
      return element("span", { text: below + formatWeight(unit === 0 && scale.kind !== "log" && !scale.signed ? 0 : scale.weight(unit)) });
    }));
    this.legend.setAttribute("aria-label", `legend, ${scale.kind}: ${this.numbers.textContent}`);
  }
}

function percent(share) {
  return `${Number((100 * share).toPrecision(3))}\u00a0%`;
}

function describeBlock(block) {
  const kind = block.kind === "dnl" ? `DNL, ${block.mode}` : block.kind.toUpperCase() + (block.mode ? `, ${block.mode}` : "");
  const words = [kind, `${block.positions[0]} \u00d7 ${block.positions[1]} positions, stride ${block.stride}`];
  if (block.hasGamma) words.push(`\u03b3 = ${Number(block.gamma.toPrecision(3))}`);
  if (!block.unary) words.push("one term, not split: values are weighted with " + (block.hasGamma ? "\u03b3 times it" : "it"));
  if (!block.pairwise) words.push("no pairwise term: every query attends to the same");
  if (block.signed) words.push("dot product without softmax: weights may be negative, sums are free");
  return words.join(" \u00b7 ");
}

function describeSampling(block) {
  const words = [];
  const [down, across] = block.step;
  if (across > 1) {
    words.push(
      `Of the positions, ${block.queries.height} \u00d7 ${block.queries.width} were recorded as queries ` +
      `(every ${ordinal(across)} across${down > 1 ? `, every ${ordinal(down)} down` : ""}); the nearest of them is shown.`,
    );
  }
  if (block.pool > 1) words.push(`A cell is the mean weight of ${block.pool} \u00d7 ${block.pool} keys.`);
  return words.join(" ");
}

function ordinal(number) {
  return { 2: "second", 3: "third" }[number] ?? `${number}th`;
}

function statisticsTables(block, blocks) {
  const groups = [];
  for (const [title, note, rows] of STATISTICS) {
    const known = rows.filter(([key]) => block.statistics[key] !== null);
    if (!known.length) continue;
    const table = element("table", {}, element("caption", {}, element("b", { text: title }), ` ${note}`));
    for (const [key, name, meaning] of known) {
      const value = block.statistics[key];
      const bar = element("div", { class: "bar-track" }, element("div", { class: "bar-fill" }));
      bar.firstChild.style.width = `${100 * clamp(value, 0, 1)}%`;
      for (const other of blocks) {
        const theirs = other.statistics[key];
        if (other === block || theirs === null) continue;
        const tick = element("i", { title: `${other.name}: ${theirs.toFixed(3)}` });
        tick.style.left = `${100 * clamp(theirs, 0, 1)}%`;
        bar.append(tick);
      }
      table.append(element(
        "tr", { title: meaning },
        element("th", { scope: "row", text: name }), element("td", { class: "number", text: value.toFixed(3) }),
        element("td", { class: "bar-cell" }, bar),
      ));
    }
    groups.push(table);
  }
  const { queries } = block.statistics;
  const more = `Over ${queries} queries${queries < 256 ? "" : " by chance"}.` + (blocks.length > 1 ? " Small marks: the other blocks." : "");
  return [...groups, element("p", { class: "muted", text: more })];
}

function listDetections(list, detections, threshold, choose) {
  const shown = detections.filter((detection) => detection.score >= threshold);
  list.replaceChildren(...shown.map((detection) => {
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = detection.colour;
    const button = element("button", { type: "button" }, swatch, className(detection), element("span", { class: "muted", text: ` ${Math.round(100 * detection.score)}` }));
    button.addEventListener("click", () => choose(detection));
    return element("li", {}, button);
  }));
  return shown;
}
