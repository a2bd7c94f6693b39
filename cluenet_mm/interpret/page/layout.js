// What the page shows: pictures, predictions, the list of clusters.

let waiting = false;

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
