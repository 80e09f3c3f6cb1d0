/**
 * Draws the curves of a report: those beside the loss when their part is opened. It stands in the file behind the
 * figures and the charting library, as a script of its own.
 */

const figures = JSON.parse(document.getElementById("figures")?.textContent ?? "[]");
const style = getComputedStyle(document.documentElement);

/** @param {string} name of a colour of the stylesheet */
const color = (name) => style.getPropertyValue(name).trim();

/** @type {WeakSet<Element>} */
const drawn = new WeakSet();

/** @param {HTMLElement} host */
const draw = (host) => {
  const part = host.closest("details");
  if (drawn.has(host) || (part && !part.open)) return;
  drawn.add(host);
  const { data, layout } = figures[Number(host.dataset.figure)];
  const axis = { gridcolor: color("--line"), zerolinecolor: color("--line") };
  layout.template = { layout: { font: { color: color("--text") }, xaxis: { ...axis, showgrid: false }, yaxis: axis } };
  Reflect.get(globalThis, "Plotly").newPlot(host, data, layout, {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
  });
};

/** @param {ParentNode} part */
const drawAll = (part) => {
  for (const host of part.querySelectorAll(".plot")) draw(/** @type {HTMLElement} */ (host));
};

drawAll(document);
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", () => drawAll(part));
