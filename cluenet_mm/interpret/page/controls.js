// How something is chosen: pointer, keys and buttons; and the start of the page.

const WHOLE = 0.9; // a cluster with a larger share of the image shows little
const COLORINGS = { feature: "by feature", distinct: "distinct", mean: "mean of the photo" };

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
  if ($("segments").hidden) return;
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
