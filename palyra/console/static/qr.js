/** A QR code, drawn from its rows of 0 and 1: black on white whatever the theme, as cameras want. */

const SVG = "http://www.w3.org/2000/svg";
const BORDER = 4;

/**
 * @param {string[]} rows `1` is dark, without the border
 * @param {string} alternative what who cannot see it does instead
 * @returns {SVGElement}
 */
export function qr(rows, alternative) {
  const size = rows.length + 2 * BORDER;
  const runs = rows.flatMap((row, y) => [...row.matchAll(/1+/g)].map(({ 0: run, index: x }) =>
    `M${x + BORDER} ${y + BORDER}h${run.length}v1h-${run.length}z`));
  const picture = element("svg", {
    class: "qr", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": alternative,
    "shape-rendering": "crispEdges",
  });
  picture.append(
    element("rect", { width: size, height: size, fill: "#fff" }),
    element("path", { d: runs.join(""), fill: "#000" }));
  return picture;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
