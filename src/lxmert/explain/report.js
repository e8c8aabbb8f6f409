"use strict";

// Draws the report of an explanation into the elements of report.html.
// `signal` (an AbortSignal) removes what the report listens to outside of these elements.
function drawReport(data, signal) {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const MEAN = -1; // the head index that stands for the mean of all heads
  const MOST_OUTLINED = 5;
  const TABS = ["why", "attention", "states"];
  const MOST_LAYERS = 3; // overlapping layers of full shade above which all are made lighter
  const names = {
    words: data.words.map((word) => word.text),
    regions: data.regions.map((region) => region.label),
  };
  const kinds = Object.fromEntries(data.maps.map((map) => [map.name, map]));
  for (const map of data.maps) map.at = reader(map);

  // The displayed state; every change goes through `change`, which redraws what depends on it.
  const state = {
    tab: "why", answer: 0, method: 0, pinned: null, hovered: null, cell: null,
    depth: (data.states ?? []).length - 1,
    kind: "text_over_regions", layer: kinds.text_over_regions.layers - 1, head: MEAN,
  };

  /* ---- numbers ---- */

  function reader(map) {
    const bytes = Uint8Array.from(atob(map.values), (sign) => sign.charCodeAt(0));
    const values = new DataView(bytes.buffer);
    const rows = names[map.rows].length, columns = names[map.columns].length;
    const one = (layer, head, row, column) =>
      values.getUint16(2 * (((layer * map.heads + head) * rows + row) * columns + column), true) / 65535;
    return (layer, head, row, column) => {
      if (head !== MEAN) return one(layer, head, row, column);
      let sum = 0;
      for (let each = 0; each < map.heads; each++) sum += one(layer, each, row, column);
      return sum / map.heads;
    };
  }

  // Same format as `text.py`, which the terminal and the figures use.
  function percent(share) {
    if (share > 0 && share < 0.0005) return "<0.1%";
    if (share >= 0.9995 && share < 1) return ">99.9%";
    return `${(Math.floor(1000 * share + 0.5) / 10).toFixed(1)}%`;
  }
  const signedPercent = (share) => `${share < 0 ? "-" : "+"}${percent(Math.abs(share))}`;
  const method = () => data.methods[state.method];
  const scores = (side) => method()[side][Math.min(state.answer, method()[side].length - 1)];
  const signed = () => ["words", "regions"].some((side) => method()[side].flat().some((x) => x < 0));
  const score = (value) => {
    if (["occlusion", "shapley"].includes(method().name)) return signedPercent(value);
    return value === 0 ? "0" : value.toPrecision(2).replace("-", "−").replace(/e(.*)/, "·10^$1");
  };
  const scaled = (values) => {
    const most = Math.max(...values.map(Math.abs));
    return most > 0 ? values.map((value) => value / most) : values.map(() => 0);
  };
  const best = (values) => values.reduce((top, value, i) => (value > values[top] ? i : top), 0);
  const quoted = (side, index) => `“${names[side][index]}”`;
  const headName = (map, head) => (head === MEAN ? `mean of ${map.heads} heads` : `head ${head + 1}`);

  /* ---- links between words and regions ---- */

  // The map for a link: the selected one if it has that side, otherwise the cross map.
  function mapOf(side) {
    const chosen = kinds[state.kind];
    if (state.tab === "attention" && [chosen.rows, chosen.columns].includes(side)) {
      return [chosen, state.layer, state.head];
    }
    const cross = kinds[side === "words" ? "text_over_regions" : "regions_over_text"];
    return [cross, cross.layers - 1, MEAN];
  }

  function linked({ side, index }) {
    const [map, layer, head] = mapOf(side);
    const reads = map.rows === side;
    const target = reads ? map.columns : map.rows;
    const values = names[target].map((_, other) =>
      reads ? map.at(layer, head, index, other) : map.at(layer, head, other, index));
    const top = best(values);
    const verb = reads ? "attends most to" : "gets most attention from";
    const text = `${quoted(side, index)} ${verb} ${quoted(target, top)}: ${percent(values[top])} of its ` +
      `attention (${map.title.split(":")[0].toLowerCase()} layer ${layer + 1}, ${headName(map, head)}).`;
    return { target, values, text };
  }

  function average() {
    const map = kinds[state.kind];
    const rows = names[map.rows].length;
    return names[map.columns].map((_, column) => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += map.at(state.layer, state.head, row, column);
      return sum / rows;
    });
  }

  // Shades of both sides in [-1, 1], their tones, and the sentence below the image.
  function shading() {
    const none = { words: names.words.map(() => 0), regions: names.regions.map(() => 0) };
    const active = state.hovered || state.pinned;
    const why = state.tab === "why";
    const shades = why
      ? { words: scaled(scores("words")), regions: scaled(scores("regions")) }
      : { ...none };
    const tones = { words: why ? "for" : "read", regions: why ? "for" : "read" };
    let text;
    if (active) {
      const link = linked(active);
      shades[link.target] = scaled(link.values);
      tones[link.target] = "read";
      text = state.cell ? cellText() : link.text;
    } else if (why) {
      text = reason();
    } else if (state.tab === "states") {
      text = "Point at a word, a region or a dot to find it in the plane, the question or the image.";
    } else {
      const map = kinds[state.kind];
      shades[map.columns] = scaled(average());
      text = `${map.title}, layer ${state.layer + 1}, ${headName(map, state.head)}: mean attention over all rows.`;
    }
    return { shades, tones, text, active };
  }

  // Only positive evidence: if all of it is negative, the top entry is negative too.
  function reason() {
    const answer = `“${data.answers[state.answer].text}”`;
    const found = [["regions", ""], ["words", "the word "]]
      .map(([side, kind]) => [side, kind, best(scores(side))])
      .filter(([side, , top]) => scores(side)[top] > 0)
      .map(([side, kind, top]) => `${kind}${quoted(side, top)}`);
    return found.length
      ? `Most relevant for ${answer} by ${method().title.toLowerCase()}: ${found.join(" and ")}.`
      : `${method().title} finds no evidence for ${answer}.`;
  }

  function cellText() {
    const map = kinds[state.kind], [row, column] = state.cell;
    const share = percent(map.at(state.layer, state.head, row, column));
    return `${quoted(map.rows, row)} puts ${share} of its attention on ${quoted(map.columns, column)}.`;
  }

  /* ---- drawing ---- */

  const vivid = (tone, value) => `var(--${tone === "read" ? tone : value < 0 ? "against" : "for"}-vivid)`;
  const pale = (tone, value) => `var(--${tone === "read" ? tone : value < 0 ? "against" : "for"})`;

  function element(kind, attributes, text) {
    const made = kind.startsWith("svg:")
      ? document.createElementNS(SVG, kind.slice(4))
      : document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shade() {
    const { shades, tones, text, active } = shading();
    const is = (target, side, index) => Boolean(target && same(target, { side, index }));
    const paint = (side, tone, least) => (made, index) => {
      const value = shades[side][index];
      made.style.setProperty("--r", Math.abs(value).toFixed(4));
      made.style.setProperty("--tone", tone(tones[side], value));
      made.classList.toggle("strong", Math.abs(value) > least);
      made.classList.toggle("active", is(active, side, index));
      made.setAttribute("aria-pressed", is(state.pinned, side, index));
    };
    wordElements.forEach(paint("words", pale, 0.2));
    // If many are equally relevant, only some are outlined, to keep the image visible.
    const limit = [...shades.regions].map(Math.abs).sort((a, b) => b - a)[MOST_OUTLINED] ?? 0;
    regionElements.forEach(paint("regions", vivid, Math.max(0.25, limit)));
    image.style.setProperty("--thin", Math.min(1, MOST_LAYERS / layers(shades.regions)).toFixed(4));
    for (const made of $("ranking").children) {
      made.classList.toggle("active", is(active, "regions", Number(made.dataset.index)));
    }
    $("status").textContent = text;
    legend(tones, active);
    tag(shades.regions, active);
    markMatrix(active);
    for (const { made, target } of pointElements) made.classList.toggle("active", Boolean(same(active, target)));
  }

  // The largest sum of overlapping shades; if it is too high, the image would be hidden.
  function layers(shades) {
    return Math.max(...data.regions.map(({ box }) => {
      const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
      return data.regions.reduce((sum, { box: [x1, y1, x2, y2] }, i) =>
        sum + (x1 <= x && x <= x2 && y1 <= y && y <= y2 ? Math.abs(shades[i]) : 0), 0);
    }));
  }

  function legend(tones, active) {
    const read = active || tones.regions === "read";
    const kind = read ? "read" : signed() ? "signed" : "";
    const [low, high] = read ? ["little attention", "much attention"] : signed() ? ["against", "for"] : ["little", "relevant"];
    $("legend").replaceChildren(low, element("i", { class: kind }), high);
  }

  // Names of the most relevant regions and of the active one, where they overlap no other name.
  function tag(shades, active) {
    const wanted = shades.map((_, index) => index).filter((i) => Math.abs(shades[i]) > 0.35)
      .sort((a, b) => Math.abs(shades[b]) - Math.abs(shades[a])).slice(0, 3);
    if (active && active.side === "regions") wanted.unshift(active.index);
    const { width, height } = data.image, stage = $("stage");
    $("tags").replaceChildren();
    const taken = [];
    for (const index of new Set(wanted)) {
      const [x1, y1, x2, y2] = data.regions[index].box;
      const [left, top] = [(100 * x1) / width, (100 * y1) / height];
      const made = element("div", { class: "tag" }, names.regions[index]);
      $("tags").append(made);
      let hides = false;
      if (data.cells) { // a name above its cell would seem to belong to the next cell
        Object.assign(made.style, { left: `${left}%`, top: `${top}%`, maxWidth: `${(100 * (x2 - x1)) / width}%` });
        hides = made.scrollWidth > made.clientWidth ||
          made.offsetHeight > ((y2 - y1) / height) * stage.offsetHeight;
      } else {
        made.style.top = `clamp(0px, calc(${top}% - 24px), calc(100% - 21px))`;
        const room = 100 * (1 - made.offsetWidth / stage.offsetWidth);
        made.style.left = `max(0%, min(${left}%, ${room}%))`;
      }
      const box = made.getBoundingClientRect();
      hides ||= taken.some((other) => box.left < other.right && other.left < box.right &&
        box.top < other.bottom && other.top < box.bottom);
      if (hides) made.remove();
      else taken.push(box);
    }
  }

  function drawWhy() {
    const chosen = data.answers[state.answer];
    $("answer").textContent = chosen.text;
    $("probability").textContent = percent(chosen.score);
    $("about").textContent = method().about;
    const values = scores("regions"), shades = scaled(values);
    const order = values.map((_, index) => index).sort((a, b) => values[b] - values[a]);
    $("ranking").replaceChildren(...order.map((index) => {
      const made = row(names.regions[index], Math.abs(shades[index]), score(values[index]));
      made.style.setProperty("--tone", vivid("for", values[index]));
      made.dataset.index = index;
      made.title = `detection score ${percent(data.regions[index].score)}`;
      follow(made, { side: "regions", index });
      return made;
    }));
    $("ranking").classList.toggle("many", order.length > 8);
    first($("ranking"));
  }

  function row(name, share, value) {
    const made = element("button", { type: "button", class: "row", tabindex: -1 });
    const bar = element("i", {});
    made.style.setProperty("--r", share.toFixed(4));
    made.append(element("span", { title: name }, name), bar, element("em", {}, value));
    return made;
  }

  function drawHeads() {
    const map = kinds[state.kind], canvas = $("heads");
    const rows = names[map.rows].length, columns = names[map.columns].length;
    const width = canvas.clientWidth;
    if (!width) return;
    const gap = 4, cell = Math.min((width - gap * (map.heads - 1)) / map.heads, 84);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = map.layers * (cell + gap) * ratio;
    canvas.style.height = `${map.layers * (cell + gap)}px`;
    const style = getComputedStyle(document.documentElement);
    const brush = canvas.getContext("2d");
    brush.scale(ratio, ratio);
    for (let layer = 0; layer < map.layers; layer++) {
      for (let head = 0; head < map.heads; head++) {
        const x = head * (cell + gap), y = layer * (cell + gap);
        brush.globalAlpha = 1;
        brush.fillStyle = style.getPropertyValue("--track");
        brush.fillRect(x, y, cell, cell);
        brush.fillStyle = style.getPropertyValue("--read-vivid");
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < columns; j++) {
            brush.globalAlpha = Math.sqrt(map.at(layer, head, i, j));
            brush.fillRect(x + (j * cell) / columns, y + (i * cell) / rows, cell / columns, cell / rows);
          }
        }
        if (layer === state.layer && [head, MEAN].includes(state.head)) {
          brush.globalAlpha = 1;
          brush.strokeStyle = style.getPropertyValue("--ink");
          brush.lineWidth = 2;
          brush.strokeRect(x + 1, y + 1, cell - 2, cell - 2);
        }
      }
    }
    canvas.dataset.cell = cell + gap;
  }

  let pointElements = []; // the points of the drawn plane, with what each stands for
  let matrix = null; // geometry of the drawn matrix, for the marks

  function drawMatrix() {
    const map = kinds[state.kind], image = $("matrix");
    const rows = names[map.rows], columns = names[map.columns];
    $("matrix-title").textContent = `Layer ${state.layer + 1}, ${headName(map, state.head)}`;
    const side = 166, top = 160;
    const space = image.parentElement.clientWidth - side;
    if (space <= 0) return;
    const cell = Math.max(11, Math.min(28, space / columns.length));
    matrix = { side, top, cell };
    const size = [side + cell * columns.length, top + cell * rows.length];
    image.setAttribute("width", size[0]);
    image.setAttribute("height", size[1]);
    const short = (name) => (name.length < 26 ? name : `${name.slice(0, 24).trim()}…`);
    const font = Math.min(12, cell);
    const parts = [element("svg:rect", { class: "ground", x: side, y: top, width: cell * columns.length, height: cell * rows.length })];
    const label = (attributes, name) => {
      const made = element("svg:text", { "dominant-baseline": "central", "font-size": font, ...attributes }, short(name));
      made.append(element("svg:title", {}, name));
      return made;
    };
    rows.forEach((name, i) => parts.push(
      label({ x: side - 6, y: top + cell * (i + 0.5), "text-anchor": "end" }, name)));
    columns.forEach((name, j) => parts.push(
      label({ transform: `translate(${side + cell * (j + 0.5)} ${top - 6}) rotate(-90)` }, name)));
    rows.forEach((_, i) => columns.forEach((_, j) => parts.push(element("svg:rect", {
      class: "cell", x: side + cell * j, y: top + cell * i, width: cell - 1, height: cell - 1,
      "fill-opacity": Math.sqrt(map.at(state.layer, state.head, i, j)).toFixed(4), "data-row": i, "data-column": j,
    }))));
    image.replaceChildren(...parts);
  }

  function markMatrix(active) {
    const map = kinds[state.kind];
    $("matrix").querySelectorAll(".mark").forEach((made) => made.remove());
    if (state.tab !== "attention" || !active || !matrix) return;
    const { side, top, cell } = matrix;
    const [wide, high] = [cell * names[map.columns].length, cell * names[map.rows].length];
    if (map.rows === active.side) {
      $("matrix").append(element("svg:rect", { class: "mark", x: side, y: top + cell * active.index, width: wide, height: cell }));
    } else if (map.columns === active.side) {
      $("matrix").append(element("svg:rect", { class: "mark", x: side + cell * active.index, y: top, width: cell, height: high }));
    }
  }

  function drawPlane() {
    const plane = data.states[state.depth];
    $("depth").value = state.depth;
    $("depth").setAttribute("aria-valuetext", plane.title);
    $("states-title").textContent = `After ${plane.title}`;
    $("states-about").textContent = `${percent(plane.shown)} of the variance is shown.`;
    const points = drawStates($("plane"), plane, names, element);
    for (const { made, target } of points) follow(made, target);
    pointElements = points;
    first($("plane"));
  }

  function drawTabs() {
    for (const name of TABS) {
      const chosen = state.tab === name;
      $(name).hidden = !chosen;
      $(`tab-${name}`).setAttribute("aria-selected", chosen);
      $(`tab-${name}`).tabIndex = chosen ? 0 : -1;
    }
  }

  function check(container, chosen) {
    [...container.children].forEach((made, index) => {
      made.setAttribute("aria-checked", index === chosen);
      made.tabIndex = index === chosen ? 0 : -1;
    });
  }

  function change(changes) {
    Object.assign(state, changes);
    if ("tab" in changes) drawTabs();
    if ("answer" in changes) check($("answers"), state.answer);
    if ("method" in changes) check($("methods"), state.method);
    if ("answer" in changes || "method" in changes) drawWhy();
    if (state.tab === "attention" && ["tab", "kind", "layer", "head"].some((name) => name in changes)) {
      drawHeads();
      drawMatrix();
    }
    if (state.tab === "states" && ["tab", "depth"].some((name) => name in changes)) drawPlane();
    shade();
  }

  /* ---- pointer, focus, keyboard ---- */

  const same = (one, other) => one && other && one.side === other.side && one.index === other.index;

  function follow(made, target) {
    const enter = () => change({ hovered: target, cell: null });
    const leave = () => same(state.hovered, target) && change({ hovered: null });
    made.addEventListener("pointerenter", enter);
    made.addEventListener("pointerleave", leave);
    made.addEventListener("focus", enter);
    made.addEventListener("blur", leave);
    const pin = () => change({ pinned: same(state.pinned, target) ? null : target, cell: null });
    made.addEventListener("click", pin);
    if (made instanceof SVGElement) {
      made.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pin();
      });
    }
  }

  // A group is one Tab stop; the arrow keys move inside it.
  function rove(container, choose) {
    container.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const items = [...container.querySelectorAll("button, .region, .point")].filter((item) => !item.hidden);
      const place = items.indexOf(document.activeElement);
      if (place < 0) return;
      let next = step ? (place + step + items.length) % items.length : -1;
      if (event.key === "Home") next = 0;
      if (event.key === "End") next = items.length - 1;
      if (next < 0) return;
      event.preventDefault();
      items[place].setAttribute("tabindex", -1);
      items[next].setAttribute("tabindex", 0);
      items[next].focus();
      if (choose) items[next].click();
    });
  }

  function first(container) {
    container.querySelector("button, .region, .point")?.setAttribute("tabindex", 0);
  }

  function options(select, texts, values, chosen) {
    select.replaceChildren(...texts.map((text, i) => element("option", { value: values[i] }, text)));
    select.value = chosen;
  }

  function chooseKind(kind) {
    const map = kinds[kind];
    const layer = Math.min(state.layer, map.layers - 1);
    const heads = [...Array(map.heads).keys()], layers = [...Array(map.layers).keys()];
    const head = state.head < map.heads ? state.head : MEAN;
    options($("layer"), layers.map((i) => String(i + 1)), layers, layer);
    options($("head"), ["mean of all", ...heads.map((i) => String(i + 1))], [MEAN, ...heads], head);
    change({ kind, layer, head, cell: null, pinned: null, hovered: null });
  }

  /* ---- setup ---- */

  $("question").textContent = data.question;
  document.title = `${data.question.slice(0, 120)} – explanation`;
  $("model").textContent = data.model;
  $("unread").hidden = !data.unread;
  $("unread").textContent = `Not read, since the model reads at most ${data.words.length} word pieces: “${data.unread.trim()}”`;

  const wordElements = data.words.map((word, index) => {
    const made = element("button", { type: "button", class: `word ${word.kind}`, tabindex: -1 }, word.text);
    made.classList.toggle("joined", word.joined);
    if (word.kind === "unknown") made.title = "a word outside the model's vocabulary";
    follow(made, { side: "words", index });
    return made;
  });
  $("words").append(...wordElements);
  first($("words"));

  const { source, width, height } = data.image;
  const image = $("image");
  $("stage").closest("figure").style.setProperty("--shape", width / height);
  image.setAttribute("viewBox", `0 0 ${width} ${height}`);
  image.classList.toggle("coarse", Math.min(width, height) < 48);
  image.append(element("svg:image", { href: source, width, height, preserveAspectRatio: "none" }));
  const regionElements = data.regions.map(({ label, box: [x1, y1, x2, y2] }, index) => {
    const made = element("svg:rect", {
      class: "region", x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0),
      tabindex: -1, role: "button", "aria-label": label,
    });
    follow(made, { side: "regions", index });
    return made;
  });
  // Smaller regions are on top, so that each can be pointed at.
  const area = (made) => made.getAttribute("width") * made.getAttribute("height");
  // Grid cells do not overlap, so their shades can be stronger.
  image.classList.toggle("tiled", data.cells);
  $("tags").classList.toggle("cells", data.cells);
  image.append(...[...regionElements].sort((a, b) => area(b) - area(a)));
  first(image);

  data.answers.forEach((answer, index) => {
    const made = row(answer.text, answer.score, percent(answer.score));
    made.setAttribute("role", "radio");
    made.addEventListener("click", () => change({ answer: index, pinned: null }));
    $("answers").append(made);
  });
  $("answers").classList.toggle("many", data.answers.length > 8);
  $("filter").hidden = data.answers.length < 12;
  $("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const made of $("answers").children) {
      made.hidden = !made.firstChild.textContent.toLowerCase().includes(wanted);
    }
  });
  data.methods.forEach(({ title }, index) => {
    const made = element("button", { type: "button", role: "radio" }, title);
    made.addEventListener("click", () => change({ method: index, pinned: null }));
    $("methods").append(made);
  });

  options($("kind"), data.maps.map((map) => map.title), data.maps.map((map) => map.name), state.kind);
  $("kind").addEventListener("change", (event) => chooseKind(event.target.value));
  $("layer").addEventListener("change", (event) => change({ layer: Number(event.target.value) }));
  $("head").addEventListener("change", (event) => change({ head: Number(event.target.value) }));
  $("heads").addEventListener("click", (event) => {
    const cell = Number($("heads").dataset.cell), map = kinds[state.kind];
    const head = Math.min(Math.floor(event.offsetX / cell), map.heads - 1);
    const layer = Math.min(Math.floor(event.offsetY / cell), map.layers - 1);
    $("layer").value = layer;
    $("head").value = head;
    change({ layer, head });
  });
  $("matrix").addEventListener("pointermove", (event) => {
    if (!event.target.dataset.row) return;
    const [index, column] = [Number(event.target.dataset.row), Number(event.target.dataset.column)];
    if (state.cell && state.cell[0] === index && state.cell[1] === column) return;
    change({ hovered: { side: kinds[state.kind].rows, index }, cell: [index, column] });
  });
  $("matrix").addEventListener("pointerleave", () => change({ hovered: null, cell: null }));

  $("tab-states").hidden = !(data.states ?? []).length;
  $("depth").max = state.depth;
  $("depth").addEventListener("input", (event) => change({ depth: Number(event.target.value) }));
  for (const name of TABS) {
    $(`tab-${name}`).addEventListener("click", () => change({ tab: name, pinned: null, cell: null }));
  }
  rove($("words"));
  rove(image);
  rove($("ranking"));
  rove($("plane"));
  rove($("answers"), true);
  rove($("methods"), true);
  rove($("views"), true);
  addEventListener("keydown", (event) => event.key === "Escape" && change({ pinned: null, hovered: null, cell: null }), { signal });
  const redraw = () => { if (state.tab === "attention") { drawHeads(); drawMatrix(); } shade(); };
  // In a notebook, the page may be laid out or shown only after this script has run: positions of
  // names and sizes of maps are measured again whenever their width changes.
  const observer = new ResizeObserver(() => requestAnimationFrame(redraw));
  for (const measured of [$("stage"), $("views")]) observer.observe(measured);
  signal?.addEventListener("abort", () => observer.disconnect());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });

  chooseKind(state.kind);
  change({ tab: "why", answer: 0, method: 0 });
}
