// Pictures of the clusters of one layer and head.

const DIM = 0.36; // brightness of what is not lit
const GLOW = [230, 159, 0]; // on what is lit, the more the darker it is
const GLOW_STRENGTH = 0.32;
const EDGE_SCALE = 4; // pixels of the screen a point, below which lines are fainter
const FAINT = 0.4;

/** The photo in another size: its bytes, as it looks lit and dimmed, and its pixels. */
function rasterOf(width, height) {
  const name = key(width, height);
  if (scene.rasters.has(name)) return scene.rasters.get(name);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  // Enlarged pixels stay square: they are what the network saw.
  context.imageSmoothingEnabled = width < 2 * scene.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(scene.photo, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const rgba = image.data;
  const [lit, dim] = [rgba.slice(), rgba.slice()];
  const grey = new Float32Array(width * height);
  const at = new Uint32Array(width * height);
  for (let i = 0; i < at.length; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    at[i] =
      Math.floor(((row + 0.5) * scene.height) / height) * scene.width +
      Math.floor(((column + 0.5) * scene.width) / width);
    grey[i] = 0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2];
    const glow = GLOW_STRENGTH * (1 - grey[i] / 255) ** 8;
    for (let c = 0; c < 3; c++) {
      lit[4 * i + c] += glow * (GLOW[c] - rgba[4 * i + c]);
      dim[4 * i + c] = DIM * grey[i];
    }
  }
  const words = (bytes) => new Uint32Array(bytes.buffer);
  const raster = { image, rgba, grey, at, lit: words(lit), dim: words(dim) };
  scene.rasters.set(name, raster);
  return raster;
}

const pixelRatio = () => Math.min(window.devicePixelRatio || 1, 2);

/** Context of a canvas, which gets as many pixels as it has on the screen. */
function fit(canvas) {
  const ratio = pixelRatio();
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round((canvas.width * scene.height) / scene.width));
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** A canvas that shows the clusters of one layer and head, or one of them lit. */
class View {
  constructor(canvas, points, line) {
    const ratio = pixelRatio();
    this.canvas = canvas;
    this.context = fit(canvas);
    this.raster = rasterOf(canvas.width, canvas.height);
    this.image = new ImageData(canvas.width, canvas.height);
    this.out = new Uint32Array(this.image.data.buffer);
    this.base = this.out.slice();
    this.ids = this.out.slice();
    this.borders = new Uint8Array(this.out.length); // 1 where thin lines are, 2 where thick
    this.thick = Math.max(1, Math.round(line * ratio));
    this.line = canvas.width / points < EDGE_SCALE * ratio ? FAINT : 0.85;
  }

  /** Show the clusters, with one of them lit unless it is -1; cheap if nothing changed. */
  show(layer, head, cluster) {
    const now = key(layer.number, layer.clusters, head, state.coloring, state.opacity);
    if (now !== this.now) this.paint(layer, head);
    if (now !== this.now || cluster !== this.cluster) this.light(cluster);
    Object.assign(this, { now, cluster });
  }

  paint(layer, head) {
    const { ids, borders, thick, raster } = this;
    const { width, height } = this.canvas;
    for (let i = 0; i < ids.length; i++) ids[i] = clusterAt(layer, head, raster.at[i]);
    const colors = colorsOf(layer).subarray(head * layer.clusters * 3);
    const bytes = new Uint8ClampedArray(this.base.buffer);
    const [over, under] = [state.opacity, 1 - state.opacity];
    const line = Math.min(1, 2 * over) * this.line;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const id = ids[i];
        const differs = (by) =>
          (x >= by && ids[i - by] !== id) || (y >= by && ids[i - by * width] !== id);
        const ahead =
          (x + thick < width && ids[i + thick] !== id) || (y + thick < height && ids[i + thick * width] !== id);
        const thin = differs(1);
        borders[i] = (thin ? 1 : 0) | (ahead || differs(thick) ? 2 : 0);
        for (let c = 0; c < 3; c++) {
          // The stronger the clusters' colors, the greyer the photo: hues do not mix.
          const photo = under * raster.rgba[4 * i + c] + over * raster.grey[i];
          const value = under * photo + over * colors[3 * id + c];
          bytes[4 * i + c] = thin ? value + line * (255 - value) : value;
        }
        bytes[4 * i + 3] = 255;
      }
    }
  }

  light(cluster) {
    const { ids, out, borders, thick } = this;
    const { width } = this.canvas;
    const { lit, dim } = this.raster;
    if (cluster < 0) out.set(this.base);
    else for (let i = 0; i < ids.length; i++) out[i] = ids[i] === cluster ? lit[i] : dim[i];
    const near = (i) => ids[i] === cluster;
    for (let i = 0; cluster >= 0 && i < ids.length; i++) {
      // The line is drawn around what is lit: even single points keep their color.
      if (!(borders[i] & 2) || near(i)) continue;
      if (!(near(i - thick) || near(i + thick) || near(i - thick * width) || near(i + thick * width))) continue;
      for (let c = 4 * i; c < 4 * i + 3; c++) this.image.data[c] += this.line * (255 - this.image.data[c]);
    }
    this.context.putImageData(this.image, 0, 0);
  }
}
