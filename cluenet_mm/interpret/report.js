"use strict";
(async () => {
  const $ = (id) => document.getElementById(id);
  const read = (id) => JSON.parse($(id).textContent);
  const report = read("report");
  const KINDS = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array };
  const SEGMENTS = -1; // in the place of a stage; cells of poolings count down from there
  const DIM = 0.36; // brightness of what is not lit
  const GLOW = [230, 159, 0]; // on what is lit, the more the darker it is
  const GLOW_STRENGTH = 0.32;
  const EDGE_SCALE = 4; // pixels of the screen a point, below which lines are fainter
  const FAINT = 0.4;
  const WHOLE = 0.9; // a cluster with a larger share of the image shows little
  const COLORINGS = { feature: "by feature", distinct: "distinct", mean: "mean of the photo" };

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
  let waiting = false;

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const key = (...parts) => parts.join();

  // ---- what the report holds ------------------------------------------------------

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

  // ---- drawing --------------------------------------------------------------------

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

  /** The cluster to light in a view: the list's choice goes before the pixel's. */
  function litIn(network, layer, head) {
    const { focus, point } = state;
    if (focus) return focus.network === network && focus.layer === layer && focus.head === head ? focus.cluster : -1;
    return point === null ? -1 : clusterAt(layer, head, point);
  }

  function draw() {
    waiting = false;
    const start = performance.now();
    for (const network of scene.networks) {
      for (const { stage, head, view, button } of network.tiles) {
        const layer = network.shown.get(stage);
        button.dataset.cluster = litIn(network, layer, head);
        view.show(layer, head, Number(button.dataset.cluster));
      }
      const lit = litIn(network, network.layer, network.head);
      network.view.show(network.layer, network.head, lit);
      describe(network, lit);
    }
    const { width, height } = scene;
    const [row, column] = [Math.floor(state.point / width), state.point % width];
    const pointed = state.point !== null && !state.focus;
    $("views").classList.toggle("pointed", pointed);
    $("views").style.setProperty("--x", `${(100 * (column + 0.5)) / width}%`);
    $("views").style.setProperty("--y", `${(100 * (row + 0.5)) / height}%`);
    $("pointed").textContent = pointed
      ? `Row ${row}, column ${column}${state.held ? " (held; Esc lets go)" : ""}.`
      : `${width} × ${height} pixels. Point at a picture: every stage and head lights the cluster of that pixel. Click or tap to hold it.`;
    for (const button of $("list").querySelectorAll("button")) {
      const { view } = scene.networks[state.network];
      button.classList.toggle("lit", Number(button.dataset.cluster) === view.cluster);
    }
    performance.measure("cluenet-draw", { start });
    performance.clearMeasures("cluenet-draw"); // observers have it
  }

  function later() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  const percent = (share) =>
    share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const length = (share) => `${100 * clamp(share, 0, 1)}%`;
  const signed = (drop) => (drop < 0 ? `+${(-drop).toFixed(3)}` : `−${drop.toFixed(3)}`);

  function element(tag, { text, data, style, ...options } = {}, ...children) {
    const made = Object.assign(document.createElement(tag), options);
    if (text !== undefined) made.textContent = text;
    Object.assign(made.dataset, data);
    Object.assign(made.style, style);
    made.append(...children);
    return made;
  }

  const title = ({ layer, head }) => layer.name + (layer.stage < 0 ? "" : `, head ${head + 1}`);

  /** Say in words what is lit. */
  function describe({ layer, head, note, ranked, importance }, lit) {
    Object.assign(note.dataset, { stage: layer.stage, block: layer.block, head, cluster: lit });
    const parts = [element("b", { text: title({ layer, head }) })];
    if (lit < 0) parts.push(`: ${byArea(layer, head).length} clusters`);
    else {
      parts.push(": cluster ", element("b", { text: lit }), `, ${percent(areaOf(layer, head, lit))} of the pixels`);
      if (!state.focus && layer.similarity) {
        const similarity = layer.similarity[place(layer, head, state.point)] / 255;
        parts.push(`, similarity to its center ${similarity.toFixed(2)}`);
      }
      const found = ranked.get(key(layer.number, head, lit));
      if (found) {
        parts.push(`. Without it the probability of “${importance.name}” changes by `);
        parts.push(element("b", { text: signed(found.drop) }), `; with it alone it is ${found.kept.toFixed(3)}`);
      }
    }
    note.replaceChildren(...parts, ".");
  }

  /** Name of a network, where there are several. */
  const named = (number, alone) => (report.networks.length > 1 ? `Network ${"AB"[number]}` : alone);

  // ---- controls -------------------------------------------------------------------

  /** A picture with a cross where it is pointed at, and a line of text. */
  function buildPicture(name, canvas, note, network) {
    const frame = element("div", { className: "frame" }, canvas, element("i", { className: "cross" }));
    $("views").append(element("figure", {}, element("h3", { text: name }), frame, note));
    follow(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      const point = pixelAt(event, canvas);
      if (network && network !== active()) choose(network);
      if (event.pointerType !== "mouse") look(point, true);
      else if (event.button === 0) look(point, !state.held);
    });
    return frame;
  }

  /** Lay out the pictures of the image, at the size of the screen. */
  function build() {
    document.documentElement.style.setProperty("--aspect", scene.width / scene.height);
    const photo = element("canvas", { id: "photo", role: "img", ariaLabel: scene.name });
    $("views").replaceChildren();
    $("matrices").replaceChildren();
    buildPicture("Photo", photo, element("figcaption", { id: "pointed" })).append(element("i", { id: "box", hidden: true }));
    scene.networks.forEach((network, number) => {
      const canvas = element("canvas", { id: `main${number || ""}`, tabIndex: 0, role: "img" });
      network.note = element("figcaption", { id: `readout${number || ""}`, role: "status" });
      canvas.setAttribute("aria-describedby", network.note.id);
      buildPicture(named(number, "Clusters"), canvas, network.note, network);
      network.canvas = canvas;
      buildMatrix(network);
    });
    // From here on the canvases have their size on the screen.
    const context = fit(photo);
    context.putImageData(rasterOf(photo.width, photo.height).image, 0, 0);
    for (const network of scene.networks) {
      const points = network.sizes[0][1];
      network.view = new View(network.canvas, points, 1.5);
      for (const tile of network.tiles) tile.view = new View(tile.button.firstChild, points, 1);
    }
  }

  function buildMatrix(network) {
    const heads = Math.max(...network.layers.map((layer) => layer.heads));
    const name = element("b", { text: named(scene.networks.indexOf(network), "") });
    const matrix = element("div", { className: "matrix" }, name);
    matrix.style.setProperty("--heads", heads);
    for (let head = 1; head <= heads; head++) matrix.append(element("small", { text: `head ${head}` }));
    network.tiles = [];
    for (const [stage, layer] of network.shown) {
      const name = layer.stage < 0 ? layer.name[0].toUpperCase() + layer.name.slice(1) : `Stage ${stage + 1}`;
      const label = element("div", {}, element("b", { text: name }));
      if (stage >= 0) {
        const [height, width] = network.sizes[stage];
        label.append(element("small", { text: `${width} × ${height} points` }));
        label.append(element("small", { text: `${layer.clusters} clusters` }));
      }
      matrix.append(label);
      for (let head = 0; head < layer.heads; head++) {
        const canvas = element("canvas");
        const button = element("button", { type: "button", data: { stage, head } }, canvas);
        button.setAttribute("aria-label", `${name}, head ${head + 1}`);
        button.addEventListener("click", () => choose(network, network.shown.get(stage), head));
        follow(canvas);
        matrix.append(button);
        network.tiles.push({ stage, head, button });
      }
      label.style.gridColumn = 1;
    }
    $("matrices").append(matrix);
  }

  function buildPredictions() {
    $("truth").hidden = scene.truth === null;
    $("truth").textContent = `Labeled ${scene.truth}`;
    $("predictions-title").textContent = report.networks[0].title;
    $("scores").replaceChildren(
      ...scene.networks.map(({ predictions }, number) => {
        const list = element("ol");
        for (const { name, score, box } of predictions) {
          const text = element("div", { className: "text" });
          text.append(element("span", { text: name, title: name }), element("span", { text: percent(score) }));
          const bar = element("div", { className: "bar" }, element("i", { style: { width: length(score) } }));
          const item = element("li", {}, text, bar);
          item.addEventListener("pointerenter", () => showBox(box));
          item.addEventListener("pointerleave", () => showBox(null));
          list.append(item);
        }
        if (!predictions.length) list.append(element("li", { text: "Nothing was found." }));
        return element("div", {}, element("h3", { text: named(number, "") }), list);
      }),
    );
  }

  function showBox(box) {
    $("box").hidden = !box;
    if (!box) return;
    const [left, top, right, bottom] = box.map((v, i) => (100 * v) / (i % 2 ? scene.height : scene.width));
    const [width, height] = [right - left, bottom - top];
    for (const [side, value] of Object.entries({ left, top, width, height })) $("box").style[side] = `${value}%`;
  }

  function buildList() {
    const network = scene.networks[state.network];
    const { layer, head, importance } = network;
    const rows = byArea(layer, head).map((row) => ({
      ...row,
      found: network.ranked.get(key(layer.number, head, row.cluster)),
    }));
    const ranked = rows.every((row) => row.found);
    if (ranked) rows.sort((a, b) => b.found.score - a.found.score);
    $("clusters-title").textContent = `${named(state.network, "Clusters")}: ${title(network)}`;
    const note = $("clusters-note");
    if (ranked) {
      note.replaceChildren(
        `By importance for ${importance.name} (${importance.probability.toFixed(3)}), `,
        importance.blanked === "points" ? "its points blanked in front of the stage: " : "its pixels blanked: ",
        element("span", { className: "drop key", text: "drop without it" }),
        ", ",
        element("span", { className: "keep key", text: "probability of it alone" }),
      );
    } else {
      note.textContent = `By size. ${layer.stage < 0 ? "" : report.networks[state.network].unranked}`;
    }
    const colors = colorsOf(layer);
    $("list").replaceChildren(
      ...rows.map(({ cluster, area, found }, i) => {
        const at = (head * layer.clusters + cluster) * 3;
        const background = `rgb(${colors.subarray(at, at + 3).join()})`;
        const button = element("button", { type: "button", data: { cluster } });
        button.append(
          element("span", { className: "rank", text: i + 1 }),
          element("span", { className: "swatch", style: { background } }),
          element("span", { text: `cluster ${cluster} ` }, element("small", { text: percent(area) })),
        );
        if (ranked) {
          const bar = (className, value) => element("i", { className, style: { width: length(value) } });
          const meter = element("span", { className: "meter" }, bar("drop", found.drop), bar("keep", found.kept));
          button.append(meter, element("span", { className: "number", text: signed(found.drop) }));
          button.title = `score ${found.score.toFixed(3)}: mean of drop ${found.drop.toFixed(3)} and kept ${found.kept.toFixed(3)}`;
        }
        const focus = (held) => focusOn({ network, layer, head, cluster, held });
        const leave = () => state.focus?.held || focusOn(null);
        button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && focus(false));
        button.addEventListener("pointerleave", leave);
        button.addEventListener("focus", () => button.matches(":focus-visible") && focus(false));
        button.addEventListener("blur", () => focusOn(null));
        button.addEventListener("click", () => focus(!(state.focus?.held && state.focus.cluster === cluster)));
        return element("li", {}, button);
      }),
    );
    $("list").scrollTop = 0;
  }

  function focusOn(focus) {
    state.focus = focus;
    later();
  }

  /** Choose a network's layer and head, the same in the other one, and adapt the controls. */
  function choose(network, layer = network.layer, head = network.head) {
    const { stage, block } = layer;
    Object.assign(state, { network: scene.networks.indexOf(network), stage, block, head, focus: null });
    for (const other of scene.networks) {
      const same = other.layers.filter((found) => found.stage === stage);
      const found = same.find((found) => found.block === block) ?? same.at(-1) ?? other.layer;
      other.layer = found;
      other.head = clamp(head, 0, found.heads - 1);
      other.shown.set(found.stage, found);
      for (const { button, ...tile } of other.tiles) {
        button.setAttribute("aria-pressed", tile.stage === found.stage && tile.head === other.head);
      }
      other.canvas.setAttribute("aria-label", `${scene.name} with the clusters of ${title(other)}`);
    }
    $("step").max = network.layers.length - 1;
    $("step").value = layer.number;
    $("step").setAttribute("aria-valuetext", layer.name);
    $("view-title").textContent = `${scene.name}: ${title(network)}`;
    buildList();
    later();
  }

  function look(point, held) {
    Object.assign(state, { point, held, focus: null });
    later();
  }

  /** Pixel of the photo under the pointer. */
  function pixelAt(event, canvas) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const at = (share, count) => clamp(Math.floor(share * count), 0, count - 1);
    const column = at((event.clientX - left) / width, scene.width);
    return at((event.clientY - top) / height, scene.height) * scene.width + column;
  }

  /** A canvas whose pixel under the mouse is looked at. */
  function follow(canvas) {
    canvas.addEventListener("pointermove", (event) => {
      const mouse = event.pointerType === "mouse";
      const dragged = !mouse && canvas.parentElement.className === "frame";
      if (dragged || (mouse && !state.held)) look(pixelAt(event, canvas), dragged);
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !state.held) look(null, false);
    });
  }

  const active = () => scene.networks[state.network];

  function connect() {
    $("step").addEventListener("input", () => choose(active(), active().layers[$("step").value]));
    $("count").addEventListener("input", () => segment($("count").value));
    $("opacity").addEventListener("input", () => {
      state.opacity = $("opacity").value / 100;
      later();
    });
    for (const [value, text] of Object.entries(COLORINGS)) $("colors").append(element("option", { value, text }));
    $("colors").addEventListener("change", recolor);
    $("theme").addEventListener("click", () => theme(document.documentElement.style.colorScheme !== "dark"));
    $("help-button").addEventListener("click", () => help($("help").hidden));
    document.addEventListener("keydown", press);
    let resized = 0;
    window.addEventListener("resize", () => {
      clearTimeout(resized);
      resized = setTimeout(layout, 120);
    });
  }

  function cutAll(count) {
    $("count").value = count; // which keeps it in its range
    $("counted").textContent = $("count").value;
    for (const { layers } of scene.networks) {
      if (layers.at(-1).parents) cut(layers.at(-1), Number($("count").value));
    }
  }

  /** Show so many segments. */
  function segment(count) {
    cutAll(count);
    choose(active(), active().layers.at(-1));
  }

  function recolor() {
    state.coloring = $("colors").value;
    buildList();
    later();
  }

  function theme(dark) {
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light" : "Dark";
  }

  function help(open) {
    $("help").hidden = !open;
    $("help-button").setAttribute("aria-expanded", open);
  }

  function press(event) {
    const { target, key: name } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (target.matches("select, #opacity, #count") && name !== "Escape") return;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[name];
    const { layer, head, layers } = active();
    if (arrow && event.shiftKey) move(...arrow);
    else if (arrow) choose(active(), layers[layer.number + arrow[0]] ?? layer, head + arrow[1]);
    else if (name >= "1" && name <= "9") choose(active(), layer, Number(name) - 1);
    else if (name === "[") select(state.image - 1);
    else if (name === "]") select(state.image + 1);
    else if ("+-".includes(name)) segment(Number($("count").value) + (name === "+" ? 1 : -1));
    else if (name === "?") help($("help").hidden);
    else if (name.toLowerCase() === "n") choose(scene.networks.at(state.network - 1));
    else if (name.toLowerCase() === "c") {
      $("colors").selectedIndex = ($("colors").selectedIndex + 1) % $("colors").length;
      recolor();
    } else if (name === "Escape") {
      help(false);
      look(null, false);
    } else return;
    event.preventDefault();
  }

  /** Move the pixel that is looked at by a point of the first map. */
  function move(right, down) {
    const { width, height } = scene;
    const by = Math.max(1, Math.round(width / active().sizes[0][1]));
    const point = state.point ?? (height >> 1) * width + (width >> 1);
    const row = clamp(Math.floor(point / width) + by * down, 0, height - 1);
    look(row * width + clamp((point % width) + by * right, 0, width - 1), true);
  }

  /** Layer and head to begin with: where the most important cluster is in the last stage. */
  function telling({ layers, ranked }) {
    const layer = layers.findLast(({ stage }) => stage >= 0);
    const told = [...ranked.values()].filter(
      (c) => c.layer === layer.number && areaOf(layer, c.head, c.cluster) < WHOLE,
    );
    told.sort((a, b) => b.score - a.score);
    return { stage: layer.stage, block: layer.block, head: told[0]?.head ?? 0 };
  }

  /** Lay the image out, at what was looked at before. */
  function layout() {
    build();
    const { stage, block, head } = state;
    const layer = active().layers.findLast((layer) => layer.stage === stage && layer.block <= block);
    choose(active(), layer, head);
  }

  async function select(number) {
    if (number < 0 || number >= report.images.length) return;
    const begin = scene === null;
    scene = await (scenes[number] ??= open(number));
    Object.assign(state, { image: number, point: null, held: false });
    [...$("film").children].forEach((button, i) => button.setAttribute("aria-current", i === number));
    const hierarchies = scene.networks.map(({ layers }) => layers.at(-1)).filter(({ parents }) => parents);
    $("segments").hidden = !hierarchies.length;
    $("count").max = Math.max(2, ...hierarchies.map(({ parents }) => parents.length));
    cutAll($("count").value);
    if (begin) Object.assign(state, telling(active()));
    buildPredictions();
    layout();
  }

  function buildFilm() {
    $("film").hidden = report.images.length < 2;
    report.images.forEach(({ name, thumbnail }, i) => {
      const button = element("button", { type: "button", title: name });
      button.append(element("img", { src: thumbnail, alt: name }));
      button.addEventListener("click", () => select(i));
      $("film").append(button);
    });
  }

  try {
    if (!window.DecompressionStream || !CSS.supports("color", "light-dark(red, red)")) {
      throw new Error("this browser is too old");
    }
    theme(window.matchMedia("(prefers-color-scheme: dark)").matches);
    document.body.classList.toggle("two", report.networks.length > 1);
    report.networks.forEach(({ model }, i) => {
      const name = element("b", { text: named(i, "") });
      $("models").append(element("p", {}, name, " ", model));
    });
    buildFilm();
    connect();
    await select(0);
    document.querySelector("main").setAttribute("aria-busy", "false");
    performance.mark("cluenet-ready");
  } catch (error) {
    document.querySelector("main").replaceWith(
      element("p", { className: "fault", text: `The report cannot be shown: ${error.message}.` }),
    );
    throw error;
  }
})();
