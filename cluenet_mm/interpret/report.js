"use strict";
(async () => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const $ = (id) => document.getElementById(id);
  const KINDS = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array };
  const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
  const OPAQUE = 0xff000000;
  const DIM = 0.36; // brightness of what is not lit
  const GLOW = [230, 159, 0]; // on what is lit, the more the darker it is
  const GLOW_STRENGTH = 0.32;
  const EDGE_SCALE = 4; // pixels of the screen a point, below which lines are fainter
  const FAINT = 0.4;
  const WHOLE = 0.9; // a cluster with a larger share of the image shows little
  const MAX_TILE = 136;
  const MIN_TILE = 44;
  const KEPT_MEASURES = 200;
  const COLORINGS = { feature: "by feature", distinct: "distinct", mean: "mean of the photo" };

  const state = {
    image: 0,
    step: 0, // an entry of scene.layers
    head: 0,
    shown: [], // per stage, the entry of scene.layers in the matrix
    point: null, // pixel of the photo, {x, y}
    held: false,
    focus: null, // a cluster chosen in the list, {step, head, cluster}
    focusHeld: false,
    coloring: "feature",
    opacity: 0.55,
  };
  const scenes = [];
  let scene = null;
  let main = null;
  let tiles = [];
  let waiting = false;

  // ---- what the report holds ------------------------------------------------------

  async function unpack({ kind, data }) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new KINDS[kind](await new Response(stream).arrayBuffer());
  }

  /** One image with its maps decoded; `cells` leads from a point to its stage's map. */
  async function open(record) {
    const photo = new Image();
    photo.src = record.photo;
    const [rows, columns, pools, layers] = await Promise.all([
      unpack(record.rows),
      unpack(record.columns),
      Promise.all(record.pools.map(unpack)),
      Promise.all(record.layers.map(openLayer)),
      photo.decode(),
    ]);
    const width = record.sizes[0][1];
    const cells = [null];
    for (const pool of pools) {
      const before = cells[cells.length - 1];
      cells.push(before ? pool.constructor.from(before, (cell) => pool[cell]) : pool);
    }
    const weight = new Float32Array(record.sizes[0][0] * width);
    for (const row of rows) for (const column of columns) weight[row * width + column] += 1;
    return { record, photo, rows, columns, cells, layers, weight, width };
  }

  async function openLayer(layer) {
    const [index, similarity, feature] = await Promise.all(
      [layer.index, layer.similarity, layer.colors].map(unpack),
    );
    return { ...layer, index, similarity, points: index.length / layer.heads, colors: { feature } };
  }

  const layerName = (layer) =>
    `stage ${layer.stage + 1}` + (scene.blocks[layer.stage] > 1 ? `, block ${layer.block + 1}` : "");

  /** Point of the layer's map that a pixel went into. */
  function pointOf(layer, { x, y }) {
    const point = scene.rows[y] * scene.width + scene.columns[x];
    const cells = scene.cells[layer.stage];
    return cells ? cells[point] : point;
  }

  const clusterAt = (layer, head, pixel) => layer.index[head * layer.points + pointOf(layer, pixel)];

  /** Share of the image's pixels of every cluster: one entry a head and cluster. */
  function areas(layer) {
    if (layer.areas) return layer.areas;
    layer.areas = new Float32Array(layer.heads * layer.clusters);
    const cells = scene.cells[layer.stage];
    const pixels = scene.rows.length * scene.columns.length;
    for (let head = 0; head < layer.heads; head++) {
      for (let p = 0; p < scene.weight.length; p++) {
        const cluster = layer.index[head * layer.points + (cells ? cells[p] : p)];
        layer.areas[head * layer.clusters + cluster] += scene.weight[p] / pixels;
      }
    }
    return layer.areas;
  }

  /** Colors of all clusters of a layer, three bytes each. */
  function colorsOf(layer) {
    layer.colors[state.coloring] ??= { distinct: distinctColors, mean: meanColors }[state.coloring](layer);
    return layer.colors[state.coloring];
  }

  /** The largest cluster gets the first color of the palette, and so on. */
  function distinctColors(layer) {
    const colors = new Uint8Array(layer.heads * layer.clusters * 3);
    for (let head = 0; head < layer.heads; head++) {
      byArea(layer, head).forEach(({ cluster }, rank) => {
        const color = report.palette[rank % report.palette.length];
        const turn = 0.72 ** Math.floor(rank / report.palette.length);
        colors.set(color.map((v) => v * turn), (head * layer.clusters + cluster) * 3);
      });
    }
    return colors;
  }

  function meanColors(layer) {
    const canvas = document.createElement("canvas");
    const [width, height] = [scene.columns.length, scene.rows.length];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(scene.photo, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data;
    const sums = new Float64Array(layer.heads * layer.clusters * 4);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const point = pointOf(layer, { x, y });
        const from = (y * width + x) * 4;
        for (let head = 0; head < layer.heads; head++) {
          const to = (head * layer.clusters + layer.index[head * layer.points + point]) * 4;
          for (let c = 0; c < 3; c++) sums[to + c] += pixels[from + c];
          sums[to + 3] += 1;
        }
      }
    }
    return Uint8Array.from({ length: sums.length * 0.75 }, (_, i) => {
      const at = Math.floor(i / 3) * 4;
      return sums[at + 3] ? sums[at + (i % 3)] / sums[at + 3] : 0;
    });
  }

  const byArea = (layer, head) =>
    Array.from(areas(layer).subarray(head * layer.clusters, (head + 1) * layer.clusters))
      .map((area, cluster) => ({ head, cluster, area }))
      .filter(({ area }) => area > 0)
      .sort((a, b) => b.area - a.area);

  // ---- drawing --------------------------------------------------------------------

  const luminance = (r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b;
  const color = (r, g, b) => OPAQUE | (b << 16) | (g << 8) | r;

  /** A canvas that shows the clusters of one layer and head, or one of them lit. */
  class View {
    constructor(canvas, line) {
      this.canvas = canvas;
      this.line = line; // width of the lines in CSS pixels
      this.context = canvas.getContext("2d", { willReadFrequently: true });
    }

    /** Take the photo in, at the size of the canvas on the screen. */
    fit(cssWidth, cssHeight) {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.max(1, Math.round(cssWidth * ratio));
      const height = Math.max(1, Math.round(cssHeight * ratio));
      Object.assign(this.canvas, { width, height });
      Object.assign(this.canvas.style, { width: `${cssWidth}px`, height: `${cssHeight}px` });
      Object.assign(this, { width, height, key: "", lit: NaN });
      this.thick = Math.max(1, Math.round(this.line * ratio));
      // Enlarged pixels stay square: they are what the network saw.
      this.context.imageSmoothingEnabled = width < 2 * scene.columns.length;
      this.context.imageSmoothingQuality = "high";
      this.context.drawImage(scene.photo, 0, 0, width, height);
      this.pixels = this.context.getImageData(0, 0, width, height);
      this.out = new Uint32Array(this.pixels.data.buffer);
      this.photo = this.out.slice();
      this.dim = new Uint32Array(width * height);
      this.glow = new Uint32Array(width * height);
      this.edge = new Uint32Array(width * height);
      const line = width / scene.width < EDGE_SCALE * ratio ? FAINT : 1;
      this.ratio = ratio;
      this.photo.forEach((v, i) => {
        const rgb = [v & 255, (v >> 8) & 255, (v >> 16) & 255];
        const grey = luminance(...rgb);
        const glow = GLOW_STRENGTH * (1 - grey / 255) ** 8;
        this.dim[i] = color(DIM * grey, DIM * grey, DIM * grey);
        const lit = rgb.map((value, c) => value + glow * (GLOW[c] - value));
        this.glow[i] = color(...lit);
        this.edge[i] = color(...lit.map((value) => value + line * (255 - value)));
      });
      this.base = new Uint32Array(width * height);
      this.ids = new Uint32Array(width * height);
      const at = (lookup, count) =>
        Uint32Array.from({ length: count }, (_, i) => lookup[Math.floor(((i + 0.5) * lookup.length) / count)]);
      this.xs = at(scene.columns, width);
      this.ys = at(scene.rows, height).map((row) => row * scene.width);
    }

    /** Choose layer and head; cheap where nothing changed. */
    show(step, head) {
      const key = [step, head, state.coloring, state.opacity].join();
      if (key === this.key) return;
      Object.assign(this, { key, step, head, lit: NaN });
      const layer = scene.layers[step];
      const cells = scene.cells[layer.stage];
      const { ids, xs, ys, width, height } = this;
      const first = head * layer.points;
      for (let y = 0, i = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) {
          const point = ys[y] + xs[x];
          ids[i] = layer.index[first + (cells ? cells[point] : point)];
        }
      }
      this.paint(colorsOf(layer).subarray(head * layer.clusters * 3));
    }

    paint(colors) {
      const { ids, base, photo, width, height } = this;
      const [over, under] = [state.opacity, 1 - state.opacity];
      const line = width / scene.width < EDGE_SCALE * this.ratio ? FAINT : 0.85;
      const edge = Math.min(1, 2 * state.opacity) * line;
      for (let y = 0, i = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) {
          const [id, v] = [ids[i], photo[i]];
          const border = (x > 0 && ids[i - 1] !== id) || (y > 0 && ids[i - width] !== id);
          const c = id * 3;
          const [red, green, blue] = [v & 255, (v >> 8) & 255, (v >> 16) & 255];
          // The stronger the clusters' colors, the greyer the photo: hues do not mix.
          const grey = over * luminance(red, green, blue);
          let r = under * (under * red + grey) + over * colors[c];
          let g = under * (under * green + grey) + over * colors[c + 1];
          let b = under * (under * blue + grey) + over * colors[c + 2];
          if (border) {
            r += edge * (255 - r);
            g += edge * (255 - g);
            b += edge * (255 - b);
          }
          base[i] = color(r, g, b);
        }
      }
    }

    /** Light one cluster, or none with -1. */
    light(cluster) {
      if (cluster === this.lit) return;
      this.lit = cluster;
      if (cluster < 0) this.out.set(this.base);
      else this.cut(cluster);
      this.context.putImageData(this.pixels, 0, 0);
    }

    cut(cluster) {
      const { ids, out, glow, edge, dim, width, height, thick } = this;
      const down = thick * width;
      for (let y = 0, i = 0; y < height; y++) {
        const [above, below] = [y >= thick, y < height - thick];
        for (let x = 0; x < width; x++, i++) {
          if (ids[i] !== cluster) {
            out[i] = dim[i];
          } else if (
            (x >= thick && ids[i - thick] !== cluster) ||
            (x < width - thick && ids[i + thick] !== cluster) ||
            (above && ids[i - down] !== cluster) ||
            (below && ids[i + down] !== cluster)
          ) {
            out[i] = edge[i];
          } else {
            out[i] = glow[i];
          }
        }
      }
    }
  }

  /** The cluster to light in a view: the list's choice goes before the pixel's. */
  function litIn(step, head) {
    const { focus, point } = state;
    if (focus) return focus.step === step && focus.head === head ? focus.cluster : -1;
    return point ? clusterAt(scene.layers[step], head, point) : -1;
  }

  function draw() {
    waiting = false;
    const begin = performance.now();
    for (const tile of tiles) {
      const step = state.shown[tile.stage];
      const lit = litIn(step, tile.head);
      tile.view.show(step, tile.head);
      tile.view.light(lit);
      tile.button.dataset.cluster = lit;
    }
    const { step, head } = state.focus ?? state;
    main.show(step, head);
    main.light(litIn(step, head));
    $("main").dataset.cluster = main.lit;
    describe(step, head);
    place($("cross"), state.focus ? null : state.point);
    markList();
    performance.measure("cluenet-draw", { start: begin, end: performance.now() });
    if (performance.getEntriesByName("cluenet-draw").length > KEPT_MEASURES) {
      performance.clearMeasures("cluenet-draw");
    }
  }

  function later() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  function place(cross, point) {
    cross.hidden = !point;
    if (!point) return;
    const scale = $("main").clientWidth / scene.columns.length;
    cross.style.left = `${(point.x + 0.5) * scale}px`;
    cross.style.top = `${(point.y + 0.5) * scale}px`;
    cross.style.opacity = state.held ? 1 : 0.55;
  }

  const percent = (share) =>
    share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const length = (share) => `${100 * Math.max(0, Math.min(1, share))}%`;
  const signed = (drop) => (drop < 0 ? `+${(-drop).toFixed(3)}` : `−${drop.toFixed(3)}`);

  function element(tag, { text, data, ...options } = {}, ...children) {
    const made = Object.assign(document.createElement(tag), options);
    if (text !== undefined) made.textContent = text;
    Object.assign(made.dataset, data);
    made.append(...children);
    return made;
  }

  /** Say in words what is lit. */
  function describe(step, head) {
    const readout = $("readout");
    const layer = scene.layers[step];
    const lit = main.lit;
    Object.assign(readout.dataset, { stage: layer.stage, block: layer.block, head, cluster: lit });
    if (lit < 0) {
      readout.replaceChildren(
        `${scene.columns.length} × ${scene.rows.length} pixels. Point at the photo: `,
        "every stage and head lights the cluster of that pixel. Click or tap to hold it.",
      );
      return;
    }
    const parts = [];
    if (!state.focus) {
      const { x, y } = state.point;
      parts.push(`Row ${y}, column ${x}${state.held ? " (held; Esc lets go)" : ""}: `);
    }
    parts.push(element("b", { text: `cluster ${lit}` }), ` of ${layerName(layer)}, head ${head + 1}: `);
    parts.push(`${percent(areas(layer)[head * layer.clusters + lit])} of the pixels`);
    if (!state.focus) {
      const similarity = layer.similarity[head * layer.points + pointOf(layer, state.point)] / 255;
      parts.push(`, similarity to its center ${similarity.toFixed(2)}`);
    }
    const found = scene.ranked.get(`${step},${head},${lit}`);
    if (found) {
      parts.push(`. Without it the probability of “${scene.record.importance.name}” changes by `);
      parts.push(element("b", { text: signed(found.drop) }), `; with it alone it is ${found.kept.toFixed(3)}`);
    }
    readout.replaceChildren(...parts, ".");
  }

  // ---- controls -------------------------------------------------------------------

  function buildMatrix() {
    const matrix = $("matrix");
    const columns = Math.max(...scene.layers.map((layer) => layer.heads));
    const aspect = scene.rows.length / scene.columns.length;
    const wide = matrix.parentElement.clientWidth - 112 - 6 * columns;
    const tall = (0.5 * window.innerHeight) / scene.stages.length / aspect;
    const side = Math.max(MIN_TILE, Math.min(MAX_TILE, wide / columns, Math.max(tall, 64)));
    matrix.style.gridTemplateColumns = `auto repeat(${columns}, ${Math.floor(side)}px)`;
    matrix.replaceChildren(element("span"));
    for (let head = 0; head < columns; head++) {
      matrix.append(element("span", { className: "head", text: `head ${head + 1}` }));
    }
    tiles = [];
    for (const stage of scene.stages) {
      const layer = scene.layers[state.shown[stage]];
      const [height, width] = scene.record.sizes[stage];
      const name = element("div", { className: "name" });
      name.append(element("b", { text: `Stage ${stage + 1}` }));
      name.append(element("span", { text: `${width} × ${height} points` }), element("br"));
      name.append(element("span", { text: `${layer.clusters} clusters` }));
      matrix.append(name);
      for (let head = 0; head < columns; head++) {
        if (head >= layer.heads) {
          matrix.append(element("span"));
          continue;
        }
        const canvas = element("canvas");
        const button = element("button", { type: "button", data: { stage, head } }, canvas);
        button.setAttribute("aria-label", `Stage ${stage + 1}, head ${head + 1}`);
        button.addEventListener("click", () => choose(state.shown[stage], head));
        follow(canvas);
        matrix.append(button);
        const view = new View(canvas, 1);
        view.fit(Math.floor(side), Math.max(1, Math.round(side * aspect)));
        tiles.push({ stage, head, button, view });
      }
    }
  }

  function fitMain() {
    const frame = $("stage-view");
    const [width, height] = [scene.columns.length, scene.rows.length];
    frame.style.height = ""; // as the style sheet has it
    const scale = Math.min(frame.clientWidth / width, frame.clientHeight / height);
    frame.style.height = "auto";
    main = new View($("main"), 1.5);
    main.fit(Math.round(width * scale), Math.round(height * scale));
  }

  function buildSteps() {
    const [step, ticks] = [$("step"), $("ticks")];
    const last = scene.layers.length - 1;
    step.max = last;
    step.disabled = last === 0;
    const first = scene.stages.map((stage) => scene.layers.findIndex((layer) => layer.stage === stage));
    ticks.replaceChildren(
      ...first.map((at, i) => {
        const tick = element("span", { text: scene.stages[i] + 1, data: { stage: scene.stages[i] } });
        tick.style.left = `${last ? (100 * at) / last : 0}%`;
        return tick;
      }),
    );
  }

  function buildHeads() {
    const count = scene.layers[state.step].heads;
    $("heads").replaceChildren(
      element("span", { text: "Head" }),
      ...Array.from({ length: count }, (_, head) => {
        const button = element("button", { type: "button", text: head + 1 });
        button.setAttribute("role", "radio");
        button.setAttribute("aria-checked", head === state.head);
        button.addEventListener("click", () => choose(state.step, head));
        return button;
      }),
    );
  }

  function buildPredictions() {
    const { predictions, truth } = scene.record;
    $("truth").hidden = truth === null;
    $("truth").textContent = `Labeled ${truth}`;
    $("predictions-title").textContent = report.titles.predictions;
    $("scores").replaceChildren(
      ...predictions.map(({ name, score, box }) => {
        const bar = element("i");
        bar.style.width = length(score);
        const text = element("div", { className: "text" });
        text.append(element("span", { text: name, title: name }), element("span", { text: percent(score) }));
        const item = element("li", {}, text, element("div", { className: "bar" }, bar));
        if (box) {
          item.addEventListener("pointerenter", () => showBox(box));
          item.addEventListener("pointerleave", () => showBox(null));
        }
        return item;
      }),
    );
    if (!predictions.length) $("scores").append(element("li", { text: "Nothing was found." }));
  }

  function showBox(box) {
    $("box").hidden = !box;
    if (!box) return;
    const scale = $("main").clientWidth / scene.columns.length;
    const [left, top, right, bottom] = box.map((v) => `${v * scale}px`);
    Object.assign($("box").style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
  }

  function buildList() {
    const layer = scene.layers[state.step];
    const importance = scene.record.importance;
    const rows = byArea(layer, state.head).map((row) => ({
      ...row,
      found: scene.ranked.get(`${state.step},${row.head},${row.cluster}`),
    }));
    const ranked = rows.length > 0 && rows.every((row) => row.found);
    if (ranked) rows.sort((a, b) => b.found.score - a.found.score);
    $("clusters-title").textContent = `Clusters of ${layerName(layer)}, head ${state.head + 1}`;
    const note = $("clusters-note");
    if (ranked) {
      note.replaceChildren(
        `By importance for ${importance.name} (${importance.probability.toFixed(3)}): `,
        element("span", { className: "key-drop", text: "drop without it" }),
        ", ",
        element("span", { className: "key-keep", text: "probability of it alone" }),
      );
    } else {
      note.textContent = `By size. ${report.titles.unranked}`;
    }
    const colors = colorsOf(layer);
    $("list").replaceChildren(
      ...rows.map(({ cluster, area, found }, i) => {
        const swatch = element("span", { className: "swatch" });
        const at = (state.head * layer.clusters + cluster) * 3;
        swatch.style.background = `rgb(${colors.subarray(at, at + 3).join()})`;
        const name = element("span", { text: `cluster ${cluster} ` }, element("small", { text: percent(area) }));
        const button = element("button", { type: "button", data: { cluster } });
        button.append(element("span", { className: "rank", text: i + 1 }), swatch, name);
        if (ranked) {
          const meter = element("span", { className: "meter" });
          for (const [key, value] of [["drop", found.drop], ["keep", found.kept]]) {
            const bar = element("i", { className: key });
            bar.style.width = length(value);
            meter.append(bar);
          }
          button.append(meter, element("span", { className: "number", text: signed(found.drop) }));
          button.title = `score ${found.score.toFixed(3)}: mean of drop ${found.drop.toFixed(3)} and kept ${found.kept.toFixed(3)}`;
        } else {
          button.className = "plain";
        }
        const chosen = { step: state.step, head: state.head, cluster };
        button.addEventListener("pointerenter", (event) => {
          if (event.pointerType === "mouse") focusOn(chosen, false);
        });
        button.addEventListener("pointerleave", () => state.focusHeld || focusOn(null, false));
        button.addEventListener("focus", () => button.matches(":focus-visible") && focusOn(chosen, false));
        button.addEventListener("blur", () => focusOn(null, false));
        button.addEventListener("click", () => focusOn(chosen, !(state.focusHeld && same(state.focus, chosen))));
        return element("li", {}, button);
      }),
    );
    $("list").scrollTop = 0;
  }

  const same = (a, b) => a && b && a.step === b.step && a.head === b.head && a.cluster === b.cluster;

  function focusOn(chosen, held) {
    state.focus = chosen;
    state.focusHeld = held;
    later();
  }

  function markList() {
    for (const button of $("list").querySelectorAll("button")) {
      button.classList.toggle("lit", Number(button.dataset.cluster) === main.lit);
    }
  }

  /** Choose layer and head, and bring all controls in line. */
  function choose(step, head) {
    const layer = scene.layers[step];
    state.step = step;
    state.head = Math.max(0, Math.min(head, layer.heads - 1));
    state.shown[layer.stage] = step;
    state.focus = null;
    state.focusHeld = false;
    $("step").value = step;
    $("step").setAttribute("aria-valuetext", layerName(layer));
    for (const tick of $("ticks").children) {
      tick.classList.toggle("now", Number(tick.dataset.stage) === layer.stage);
    }
    $("view-title").textContent =
      `${scene.record.name}: ${layerName(layer)}, head ${state.head + 1} of ${layer.heads}`;
    $("main").setAttribute("aria-label", `${scene.record.name} with the clusters of ${layerName(layer)}, head ${state.head + 1}`);
    for (const { button, stage, head: at } of tiles) {
      button.setAttribute("aria-pressed", stage === layer.stage && at === state.head);
    }
    buildHeads();
    buildList();
    later();
  }

  function look(point, held) {
    state.point = point;
    state.held = held;
    state.focus = null;
    state.focusHeld = false;
    later();
  }

  /** Pixel of the photo under the pointer. */
  function pixelAt(event, canvas) {
    const bounds = canvas.getBoundingClientRect();
    const at = (from, size, count) => Math.max(0, Math.min(count - 1, Math.floor((from / size) * count)));
    return {
      x: at(event.clientX - bounds.left, bounds.width, scene.columns.length),
      y: at(event.clientY - bounds.top, bounds.height, scene.rows.length),
    };
  }

  /** A canvas whose pixel under the mouse is looked at. */
  function follow(canvas) {
    canvas.addEventListener("pointermove", (event) => {
      const dragged = event.pointerType !== "mouse" && canvas === $("main");
      if (dragged) look(pixelAt(event, canvas), true);
      else if (event.pointerType === "mouse" && !state.held) look(pixelAt(event, canvas), false);
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !state.held) look(null, false);
    });
  }

  function connect() {
    const canvas = $("main");
    follow(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      const point = pixelAt(event, canvas);
      if (event.pointerType !== "mouse") look(point, true);
      else if (event.button === 0) look(point, !state.held);
    });
    $("step").addEventListener("input", (event) => choose(Number(event.target.value), state.head));
    $("opacity").addEventListener("input", (event) => {
      state.opacity = event.target.value / 100;
      later();
    });
    for (const [value, text] of Object.entries(COLORINGS)) $("colors").append(element("option", { value, text }));
    $("colors").addEventListener("change", (event) => recolor(event.target.value));
    $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
    $("help-button").addEventListener("click", () => help($("help").hidden));
    document.addEventListener("keydown", key);
    let resized = 0;
    window.addEventListener("resize", () => {
      clearTimeout(resized);
      resized = setTimeout(layout, 120);
    });
  }

  function recolor(name) {
    state.coloring = name;
    $("colors").value = name;
    buildList();
    later();
  }

  function theme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light" : "Dark";
  }

  function help(open) {
    $("help").hidden = !open;
    $("help-button").setAttribute("aria-expanded", open);
  }

  function walk(by) {
    choose(Math.max(0, Math.min(scene.layers.length - 1, state.step + by)), state.head);
  }

  function key(event) {
    const { target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (target.matches("select, #opacity") && event.key !== "Escape") return;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const colorings = Object.keys(COLORINGS);
    if (arrow && event.shiftKey) move(...arrow);
    else if (arrow && arrow[0]) walk(arrow[0]);
    else if (arrow) choose(state.step, state.head + arrow[1]);
    else if (event.key >= "1" && event.key <= "9") choose(state.step, Number(event.key) - 1);
    else if (event.key === "[") select(state.image - 1);
    else if (event.key === "]") select(state.image + 1);
    else if (event.key.toLowerCase() === "c") {
      recolor(colorings[(colorings.indexOf(state.coloring) + 1) % colorings.length]);
    } else if (event.key === "?") help($("help").hidden);
    else if (event.key === "Escape") {
      help(false);
      look(null, false);
    } else return;
    event.preventDefault();
  }

  /** Move the pixel that is looked at by a point of the first map. */
  function move(right, down) {
    const [width, height] = [scene.columns.length, scene.rows.length];
    const by = Math.max(1, Math.round(width / scene.width));
    const { x, y } = state.point ?? { x: width >> 1, y: height >> 1 };
    const into = (v, count) => Math.max(0, Math.min(count - 1, v));
    look({ x: into(x + by * right, width), y: into(y + by * down, height) }, true);
  }

  /** Layer and head to begin with: where the most important cluster is in the last stage. */
  function telling() {
    const last = scene.layers.length - 1;
    const share = areas(scene.layers[last]);
    const ranked = [...scene.ranked.values()].filter(
      (c) => c.layer === last && share[c.head * scene.layers[last].clusters + c.cluster] < WHOLE,
    );
    return [last, ranked.sort((a, b) => b.score - a.score)[0]?.head ?? 0];
  }

  function layout() {
    fitMain();
    buildMatrix();
    choose(state.step, state.head);
  }

  async function select(number) {
    if (number < 0 || number >= report.images.length) return;
    const opened = await (scenes[number] ??= open(report.images[number]));
    const begin = scene === null;
    state.image = number;
    scene = opened;
    scene.stages ??= [...new Set(scene.layers.map((layer) => layer.stage))];
    scene.blocks ??= scene.stages.map((stage) => scene.layers.filter((layer) => layer.stage === stage).length);
    scene.ranked ??= new Map(
      (scene.record.importance?.clusters ?? []).map((c) => [`${c.layer},${c.head},${c.cluster}`, c]),
    );
    if (begin) {
      state.shown = scene.stages.map((stage) => scene.layers.findLastIndex((layer) => layer.stage === stage));
      [state.step, state.head] = telling();
    }
    Object.assign(state, { point: null, held: false });
    [...$("film").children].forEach((button, i) => button.setAttribute("aria-current", i === number));
    buildSteps();
    buildPredictions();
    layout();
  }

  function buildFilm() {
    $("film").hidden = report.images.length < 2;
    report.images.forEach((record, i) => {
      const button = element("button", { type: "button", title: record.name });
      button.append(element("img", { src: record.photo, alt: record.name }));
      button.addEventListener("click", () => select(i));
      $("film").append(button);
    });
  }

  try {
    if (!LITTLE_ENDIAN || typeof DecompressionStream === "undefined") {
      throw new Error("this browser is too old: it cannot unpack the maps");
    }
    theme(window.matchMedia("(prefers-color-scheme: dark)").matches);
    $("model").textContent = report.model;
    buildFilm();
    connect();
    $("colors").value = state.coloring;
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
