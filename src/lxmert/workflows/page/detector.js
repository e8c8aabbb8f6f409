// Finds the regions of an image: the rules of lxmert.regions.exported, around the same two graphs.
// An image is {data: RGBA bytes, width, height}; boxes are [x1, y1, x2, y2] in pixels.

const ANCHOR_WEIGHTS = [1, 1, 1, 1];
const REGION_WEIGHTS = [10, 10, 5, 5];
const SMALLEST_INPUT = 3; // pixels per side that the first layers need

/** Resize an image by the exact scale with antialiasing, and normalize it: [3, height, width]. */
export function prepare(image, config) {
  const sides = [image.height, image.width];
  let scale = config.shorter_side / Math.min(...sides);
  if (Math.max(...sides) * scale > config.longer_side) scale = config.longer_side / Math.max(...sides);
  const [height, width] = sides.map((side) => Math.max(1, roundHalfEven(side * scale)));
  const rgb = new Float32Array(3 * image.width * image.height);
  for (let place = 0; place < image.width * image.height; place++) {
    for (let color = 0; color < 3; color++) rgb[3 * place + color] = image.data[4 * place + color];
  }
  let values = rgb;
  if (height !== image.height || width !== image.width) {
    values = average(values, image.height, image.width, 3, width, scale);
    values = average(values, 1, image.height, 3 * width, height, scale);
  }
  const rows = Math.max(height, SMALLEST_INPUT), columns = Math.max(width, SMALLEST_INPUT);
  const pixels = new Float32Array(3 * rows * columns);
  for (let channel = 0; channel < 3; channel++) {
    const color = config.channel_order === "BGR" ? 2 - channel : channel;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = values[3 * (y * width + x) + color] - config.pixel_mean[channel];
        pixels[(channel * rows + y) * columns + x] = value / config.pixel_std[channel];
      }
    }
  }
  return { pixels, rows, columns, height, width, scale };
}

/** Resize the middle axis of [outer, length, inner] with a triangular filter. */
function average(values, outer, length, inner, size, scale) {
  const step = 1 / scale, support = Math.max(step, 1);
  const result = new Float32Array(outer * size * inner);
  for (let target = 0; target < size; target++) {
    const center = (target + 0.5) * step;
    const first = Math.max(Math.floor(center - support + 0.5), 0);
    const last = Math.min(Math.floor(center + support + 0.5), length);
    const weights = [];
    for (let place = first; place < last; place++) {
      weights.push(Math.max(1 - Math.abs(place + 0.5 - center) / support, 0));
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    for (let row = 0; row < outer; row++) {
      const to = (row * size + target) * inner;
      weights.forEach((weight, index) => {
        const share = weight / sum, from = (row * length + first + index) * inner;
        for (let k = 0; k < inner; k++) result[to + k] += share * values[from + k];
      });
    }
  }
  return result;
}

/** Return the regions of an image: {boxes, features, names, found}. */
export async function findRegions(run, image, page) {
  const config = page.detector, input = prepare(image, config);
  const trunk = await run("trunk", { pixel_values: [input.pixels, [1, 3, input.rows, input.columns]] });
  const map = [trunk.feature_map.data, trunk.feature_map.dims];
  const describe = (boxes) => {
    const cells = Float32Array.from(boxes.flat(), (side) => side / config.stride);
    return run("heads", { feature_map: map, boxes: [cells, [boxes.length, 4]] });
  };
  const proposals = propose(trunk, input, page);
  let boxes = [];
  if (proposals.length) boxes = select(await describe(proposals), proposals, input, config);
  const found = boxes.length > 0;
  if (!found) boxes = [[0, 0, input.width, input.height]];
  const heads = await describe(boxes);
  const limits = [image.width, image.height, image.width, image.height];
  return {
    boxes: found
      ? boxes.map((box) => box.map((side, k) => Math.min(side / input.scale, limits[k])))
      : [[0, 0, image.width, image.height]],
    features: heads.features.data,
    names: found ? nameRegions(heads, boxes.length, config) : ["whole image"],
    found,
  };
}

/** Return the attributes and the most confident class of each region, such as "small red ball". */
function nameRegions(heads, number, config) {
  const classes = heads.probabilities.dims[1], groups = heads.attribute_ids.dims[1];
  return Array.from({ length: number }, (_, region) => {
    const row = heads.probabilities.data.subarray(region * classes, (region + 1) * classes - 1);
    const attributes = config.attribute_order.map(
      (group) => config.attributes[Number(heads.attribute_ids.data[region * groups + group])]);
    return [...attributes, config.object_names[argmax(row)]].join(" ");
  });
}

/** Return the proposals, best first. */
function propose({ feature_map, logits, deltas }, input, page) {
  const config = page.detector, [, , , columns] = feature_map.dims, shapes = page.cell_anchors;
  const anchor = (index) => {
    const cell = Math.floor(index / shapes.length);
    const x = ((cell % columns) + page.anchor_offset) * config.stride;
    const y = (Math.floor(cell / columns) + page.anchor_offset) * config.stride;
    const shape = shapes[index % shapes.length];
    return [x + shape[0], y + shape[1], x + shape[2], y + shape[3]];
  };
  const order = descending(logits.data).slice(0, config.proposal_candidates);
  const boxes = [], scores = [];
  for (const index of order) {
    const delta = deltas.data.subarray(4 * index, 4 * index + 4);
    const box = decode(delta, anchor(index), ANCHOR_WEIGHTS, input, config);
    const sides = [box[2] - box[0], box[3] - box[1]];
    if (sides.every((side) => side >= config.proposal_min_side && side > 0)) {
      boxes.push(box);
      scores.push(logits.data[index]);
    }
  }
  const kept = suppress(boxes, scores, config.proposal_nms_threshold);
  return kept.slice(0, config.proposals).map((index) => boxes[index]);
}

/** Return the refined boxes of the selected proposals, best first. */
function select({ probabilities, deltas }, proposals, input, config) {
  const classes = probabilities.dims[1], boxes = [], scores = [];
  proposals.forEach((proposal, index) => {
    const row = probabilities.data.subarray(index * classes, (index + 1) * classes - 1);
    const score = row[argmax(row)];
    if (score >= Math.fround(config.score_threshold)) {
      const delta = deltas.data.subarray(4 * index, 4 * index + 4);
      boxes.push(decode(delta, proposal, REGION_WEIGHTS, input, config));
      scores.push(score);
    }
  });
  const kept = suppress(boxes, scores, config.nms_threshold);
  return kept.slice(0, config.num_regions).map((index) => boxes[index]);
}

/** Apply deltas to a box and clip the result to the image. */
function decode(deltas, box, weights, { height, width }, config) {
  const low = [], high = [], limit = config.max_log_scale ?? Infinity;
  for (let axis = 0; axis < 2; axis++) {
    const side = box[axis + 2] - box[axis];
    const center = (box[axis] + box[axis + 2]) / 2 + (deltas[axis] / weights[axis]) * side;
    const half = (side * Math.exp(Math.min(deltas[axis + 2] / weights[axis + 2], limit))) / 2;
    const end = axis ? height : width;
    low.push(Math.min(Math.max(center - half, 0), end));
    high.push(Math.min(Math.max(center + half, 0), end));
  }
  return [...low, ...high];
}

/** Return the boxes that no stronger kept box overlaps by more than a threshold, best first. */
export function suppress(boxes, scores, threshold) {
  const kept = [];
  for (const index of descending(scores)) {
    if (kept.every((other) => overlap(boxes[other], boxes[index]) <= threshold)) kept.push(index);
  }
  return kept;
}

function overlap(one, other) {
  const area = (box) => Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
  const common = area([
    Math.max(one[0], other[0]), Math.max(one[1], other[1]),
    Math.min(one[2], other[2]), Math.min(one[3], other[3]),
  ]);
  return common / Math.max(area(one) + area(other) - common, 1e-38);
}

function descending(scores) {
  return Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one]);
}

function argmax(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}

function roundHalfEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}
