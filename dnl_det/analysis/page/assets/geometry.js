// Where positions lie: the same arithmetic as Frame and Grid in dnl_det/analysis/geometry.py.
// Points are [x, y]; strides and offsets of a grid are [y, x], as there.

function toNetwork(frame, [x, y]) {
  return [(x * frame.width) / frame.original_width, (y * frame.height) / frame.original_height];
}

function toOriginal(frame, [x, y]) {
  return [(x * frame.original_width) / frame.width, (y * frame.original_height) / frame.height];
}

// Column and row of a point of the network's input, between positions.
function fractional(grid, [x, y]) {
  return [(x - grid.offset[1]) / grid.stride[1], (y - grid.offset[0]) / grid.stride[0]];
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// The position of a grid nearest to a point of the original image.
function nearestPosition(grid, frame, point) {
  const [column, row] = fractional(grid, toNetwork(frame, point));
  return {
    column: clamp(Math.floor(column + 0.5), 0, grid.width - 1),
    row: clamp(Math.floor(row + 0.5), 0, grid.height - 1),
  };
}

function indexOf(grid, position) {
  return position.row * grid.width + position.column;
}

// The centre of a position in the original image.
function centreOf(grid, frame, position) {
  return toOriginal(frame, [
    grid.offset[1] + position.column * grid.stride[1],
    grid.offset[0] + position.row * grid.stride[0],
  ]);
}

// For each of `count` pixels across the original image: the two positions it lies between, and how
// far it is from the first to the second. axis: 0 down, 1 across.
function samples(grid, frame, axis, count, smooth) {
  const last = (axis ? grid.width : grid.height) - 1;
  const size = axis ? frame.width : frame.height;
  const first = new Uint16Array(count), second = new Uint16Array(count), share = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = clamp((((i + 0.5) / count) * size - grid.offset[axis]) / grid.stride[axis], 0, last);
    const from = smooth ? Math.floor(at) : Math.floor(at + 0.5);
    first[i] = from;
    second[i] = Math.min(from + 1, last);
    share[i] = smooth ? at - from : 0;
  }
  return { first, second, share };
}
