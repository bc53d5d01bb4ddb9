// Heat maps and detections over the picture.

const MOST_PIXELS = 640; // across a heat map; the browser enlarges it from there

// A canvas with a heat map. It remembers where its pixels lie between the keys.
class Heat {
  constructor(canvas) {
    this.canvas = canvas;
    this.key = "";
  }

  // values: of all keys of the block. table: 256 colours, see parseTable.
  draw(block, frame, values, scale, table, smooth) {
    const shown = this.canvas.clientWidth || 300;
    const width = Math.round(Math.min(shown * (window.devicePixelRatio || 1), MOST_PIXELS));
    const height = Math.max(Math.round((width * frame.original_height) / frame.original_width), 1);
    const key = [block.index, width, height, smooth].join();
    if (key !== this.key) {
      this.key = key;
      this.canvas.width = width;
      this.canvas.height = height;
      this.context = this.canvas.getContext("2d");
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.across = samples(block.keys, frame, 1, width, smooth);
      this.down = samples(block.keys, frame, 0, height, smooth);
    }
    const units = Float32Array.from(values, (weight) => 255 * scale.unit(weight));
    const columns = block.keys.width;
    const line = new Float32Array(columns);
    const { first, second, share } = this.across;
    for (let y = 0, pixel = 0; y < height; y++) {
      const above = this.down.first[y] * columns, below = this.down.second[y] * columns;
      const part = this.down.share[y];
      for (let c = 0; c < columns; c++) line[c] = units[above + c] + part * (units[below + c] - units[above + c]);
      for (let x = 0; x < width; x++, pixel++) {
        const from = line[first[x]];
        this.pixels[pixel] = table[(from + share[x] * (line[second[x]] - from) + 0.5) | 0];
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// The name of a class, shortened where it is long. Whatever turns its text leaves the score alone.
function className(detection) {
  return element("bdi", { text: detection.label, title: detection.label });
}

function svgElement(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// What has a score of the threshold or more, the best on top.
function drawDetections(svg, labels, image, detections, state) {
  svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  const shapes = [], texts = [];
  for (const detection of [...detections].reverse()) {
    if (detection.score < state.threshold) continue;
    const [x0, y0, x1, y1] = detection.box;
    if (state.masks && detection.rings.length) {
      const path = detection.rings.map((ring) => {
        const points = [];
        for (let i = 0; i < ring.length; i += 2) points.push(`${ring[i]} ${ring[i + 1]}`);
        return `M${points.join("L")}Z`;
      });
      shapes.push(svgElement("path", { d: path.join(""), fill: detection.colour, class: "mask" }));
    }
    if (state.boxes) {
      const size = { x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) };
      shapes.push(svgElement("rect", { ...size, class: "box-edge" }));
      shapes.push(svgElement("rect", { ...size, stroke: detection.colour, class: "box" }));
    }
    if (state.labels) {
      const label = element("span", {}, className(detection), ` ${Math.round(100 * detection.score)}`);
      // Near the right edge it ends where its box does.
      const atEnd = x0 > 0.7 * image.width;
      label.style.left = `${(100 * clamp(atEnd ? x1 : x0, 0, image.width)) / image.width}%`;
      label.style.top = `${(100 * clamp(y0, 0, image.height)) / image.height}%`;
      label.style.borderColor = detection.colour;
      // Where there is no room above the box, inside it.
      label.classList.toggle("inside", y0 < image.height * 0.06);
      label.classList.toggle("at-end", atEnd);
      texts.push(label);
    }
  }
  svg.replaceChildren(...shapes);
  labels.replaceChildren(...texts);
}

// Move a marker to a position: a ring at its centre, and the outline of the cell it stands for.
function placeMarker(marker, grid, frame, position) {
  const [x, y] = centreOf(grid, frame, position);
  marker.style.left = `${(100 * clamp(x, 0, frame.original_width)) / frame.original_width}%`;
  marker.style.top = `${(100 * clamp(y, 0, frame.original_height)) / frame.original_height}%`;
  marker.style.setProperty("--cell-width", `${(100 * grid.stride[1]) / frame.width}%`);
}
