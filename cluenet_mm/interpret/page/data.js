// What the report holds, and what is looked at.

const $ = (id) => document.getElementById(id);
const read = (id) => JSON.parse($(id).textContent);
const report = read("report");
const KINDS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };
const SEGMENTS = -1; // in the place of a stage; cells of poolings count down from there

const state = {
  image: 0,
  network: 0, // whose clusters are listed
  stage: 0,
  block: 0,
  head: 0,
  point: null, // pixel of the photo, counted row by row
  held: false,
  focus: null, // a cluster chosen in the list, {network, layer, head, cluster, held}
  coloring: "feature",
  opacity: 0.55,
};
const scenes = [];
let scene = null; // the image that is shown, with its networks

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const key = (...parts) => parts.join();

async function unpack({ kind, data }) {
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new KINDS[kind](await new Response(stream).arrayBuffer());
}

/** One image with its maps decoded. */
async function open(number) {
  const name = `image-${number}`; // all but the first come after this script
  if (!$(name)) await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
  const record = read(name);
  const photo = new Image();
  photo.src = record.photo;
  await photo.decode();
  const networks = await Promise.all(record.networks.map((network) => openNetwork(network, record)));
  return { ...record, ...report.images[number], photo, networks, rasters: new Map() };
}

async function openNetwork(record, { width, height }) {
  const [rows, columns, ...pools] = await Promise.all([record.rows, record.columns, ...record.pools].map(unpack));
  const pixels = new Uint32Array(width * height).map((_, pixel) => pixel);
  const across = record.sizes[0][1];
  // From every pixel to its point of a stage's map.
  const cells = [pixels.map((pixel) => rows[Math.floor(pixel / width)] * across + columns[pixel % width])];
  for (const pool of pools) cells.push(cells.at(-1).map((cell) => pool[cell]));
  const layers = await Promise.all(
    record.layers.map(async (layer) => {
      const [index, similarity, feature] = await Promise.all(
        [layer.index, layer.similarity, layer.colors].map(unpack),
      );
      return { ...layer, index, similarity, cells: cells[layer.stage], colors: { feature } };
    }),
  );
  if (record.cells) {
    // What a native segmentor hands a pixel's label back along: the points that joined it.
    pools.forEach((index, stage) => {
      const clusters = record.sizes[stage + 1][0] * record.sizes[stage + 1][1];
      const kind = { stage: SEGMENTS - 1 - stage, name: `cells of stage ${stage + 2}`, block: 0 };
      layers.push({ ...kind, heads: 1, clusters, index, cells: cells[stage], colors: {} });
    });
  }
  if (record.segments) {
    const { parents } = record.segments;
    const leaves = await unpack(record.segments.index);
    layers.push({ stage: SEGMENTS, name: "segments", block: 0, heads: 1, parents, leaves, cells: pixels });
  }
  const stages = [...new Set(layers.map((layer) => layer.stage))];
  layers.forEach((layer, number) => {
    const blocks = layers.filter(({ stage }) => stage === layer.stage).length;
    layer.name ??= `stage ${layer.stage + 1}`;
    if (blocks > 1) layer.name += `, block ${layer.block + 1}`;
    layer.number = number;
  });
  const ranked = new Map((record.importance?.clusters ?? []).map((c) => [key(c.layer, c.head, c.cluster), c]));
  const shown = new Map(stages.map((stage) => [stage, layers.findLast((layer) => layer.stage === stage)]));
  return { ...record, layers, stages, ranked, shown, layer: layers.at(-1), head: 0 };
}

/** Merge the finest segments to so many: each was split off from a lower number. */
function cut(layer, count) {
  const label = [];
  layer.parents.forEach((parent, leaf) => label.push(leaf < count ? leaf : label[parent]));
  const index = layer.leaves.map((leaf) => label[leaf]);
  Object.assign(layer, { index, clusters: Math.min(count, label.length), sums: null, colors: {} });
}

const place = (layer, head, pixel) => (head * layer.index.length) / layer.heads + layer.cells[pixel];
const clusterAt = (layer, head, pixel) => layer.index[place(layer, head, pixel)];

/** Sums of red, green and blue, and the number of pixels, of every head's clusters. */
function sumsOf(layer) {
  if (layer.sums) return layer.sums;
  const { rgba } = rasterOf(scene.width, scene.height);
  layer.sums = new Float64Array(layer.heads * layer.clusters * 4);
  for (let pixel = 0; pixel < layer.cells.length; pixel++) {
    for (let head = 0; head < layer.heads; head++) {
      const to = (head * layer.clusters + clusterAt(layer, head, pixel)) * 4;
      for (let c = 0; c < 3; c++) layer.sums[to + c] += rgba[pixel * 4 + c];
      layer.sums[to + 3] += 1;
    }
  }
  return layer.sums;
}

const areaOf = (layer, head, cluster) =>
  sumsOf(layer)[(head * layer.clusters + cluster) * 4 + 3] / layer.cells.length;

const byArea = (layer, head) =>
  Array.from({ length: layer.clusters }, (_, cluster) => ({ cluster, area: areaOf(layer, head, cluster) }))
    .filter(({ area }) => area > 0)
    .sort((a, b) => b.area - a.area);

/** Colors of all clusters of a layer, three bytes each. */
function colorsOf(layer) {
  const make = state.coloring === "mean" ? meanColors : distinctColors;
  return (layer.colors[state.coloring] ??= make(layer));
}

/** The largest cluster gets the first color; segments keep theirs when others split. */
function distinctColors(layer) {
  const colors = new Uint8Array(layer.heads * layer.clusters * 3);
  for (let head = 0; head < layer.heads; head++) {
    byArea(layer, head).forEach(({ cluster }, rank) => {
      const number = layer.stage === SEGMENTS ? cluster : rank;
      const turn = 0.72 ** Math.floor(number / report.palette.length);
      const color = report.palette[number % report.palette.length].map((v) => v * turn);
      colors.set(color, (head * layer.clusters + cluster) * 3);
    });
  }
  return colors;
}

function meanColors(layer) {
  const sums = sumsOf(layer);
  return new Uint8Array(layer.heads * layer.clusters * 3).map((_, i) => {
    const at = Math.floor(i / 3) * 4;
    return sums[at + (i % 3)] / Math.max(1, sums[at + 3]);
  });
}
