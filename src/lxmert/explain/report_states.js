"use strict";

// Draws the states of one layer in a plane: words as text, regions as dots with hidden names.
// Returns each point with the word or region that it stands for.
function drawStates(svg, { words, regions }, names, element) {
  const [width, height, side, top] = [360, 320, 44, 20];
  // Both axes have the same scale, which is as large as fits.
  const [x, y] = [0, 1].map((axis) => {
    const values = [...words, ...regions].map((point) => point[axis]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return { middle: (least + most) / 2, range: Math.max(most - least, 1e-9) };
  });
  const scale = Math.min((width - 2 * side) / x.range, (height - 2 * top) / y.range);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const short = (name) => (name.length < 26 ? name : `${name.slice(0, 24).trim()}…`);
  const make = (group, kind) => ([across, up], index) => {
    const name = names[group][index];
    const place = [width / 2 + (across - x.middle) * scale, height / 2 - (up - y.middle) * scale];
    const made = element("svg:g", {
      class: `point ${kind}`, tabindex: -1, role: "button", "aria-label": name,
      transform: `translate(${place[0].toFixed(1)} ${place[1].toFixed(1)})`,
    });
    if (kind === "region-point") {
      const left = place[0] > width / 2;
      made.append(element("svg:circle", { r: 5 }));
      made.append(element("svg:text", { x: left ? -9 : 9, style: `text-anchor: ${left ? "end" : "start"}` }, short(name)));
    } else {
      made.append(element("svg:text", {}, short(name)));
    }
    return { made, target: { side: group, index } };
  };
  const points = [...regions.map(make("regions", "region-point")), ...words.map(make("words", "word-point"))];
  svg.replaceChildren(...points.map(({ made }) => made));
  return points;
}
