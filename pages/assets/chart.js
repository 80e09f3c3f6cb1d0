/**
 * A Plotly chart that keeps its zoom, pan, hidden traces and a drag in progress while its data change: each new figure
 * goes to `Plotly.react` in place, and `uirevision` decides what outlives it. A chart outside the window or in a hidden
 * tab waits, because drawing is what watching costs the machine.
 */

import { fitLegend, fitNumbers } from "./chart_fit.js";
import { reachOf, wordsBehind } from "./chart_reach.js";
import { onThemeChange, themeOf } from "./chart_theme.js";
import { givenRanges, Views } from "./chart_views.js";
import { offer } from "./hub.js";
import { load, loaded } from "./plotly.js";

const CONFIG = {
  responsive: true,
  displaylogo: false,
  doubleClick: "reset+autosize",
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "sendChartToCloud"],
};
/** A double click is two presses: a chart is let go of when no second one can come any more. */
const DOUBLE_CLICK = 350;
/** Drawn before it is scrolled into the window. */
const NEAR = "100px";
const views = new Views();

/**
 * @typedef {import("./chart_reach.js").Figure} Figure
 *
 * @typedef {object} Sent as Python's `plot_json` writes it
 * @property {Figure} figure
 * @property {string} alt what it shows, for screen readers
 * @property {string} url of the library
 *
 * @typedef {object} Chart
 * @property {Figure} latest
 * @property {() => void} redraw draws the latest, if it may
 * @property {Figure} [drawn]
 * @property {number} [reached] the last step of what is drawn
 * @property {string} [title] of what is drawn
 * @property {string} [theme] of the page when it was drawn
 * @property {Record<string, import("./chart_views.js").Range>} given ranges that the drawn figure asks for
 * @property {boolean} isHeld a person drags in it
 * @property {boolean} isSeen it is in the window
 * @property {HTMLElement} [behind] says that a newer picture waits
 *
 * @typedef {HTMLElement & {on: (event: string, act: (detail: any) => void) => void, layout: any}} Drawn what Plotly makes
 * of an element
 */

/** @type {WeakMap<HTMLElement, Chart>} */
const charts = new WeakMap();

/**
 * A chart that could not be drawn says to which step it goes, or that it is an earlier picture, until it is.
 * @param {HTMLElement} host
 * @param {Chart} chart
 */
const tell = (host, chart) => {
  const { drawn, latest, reached, title } = chart;
  const text = drawn ? wordsBehind(drawn, latest, reached, title) : "";
  if (reached === undefined) delete host.dataset.reached;
  else host.dataset.reached = String(reached);
  if (!text) {
    chart.behind?.remove();
    return;
  }
  chart.behind ??= Object.assign(document.createElement("span"), { className: "lab-behind" });
  chart.behind.textContent = text;
  if (chart.behind.parentElement !== host) host.append(chart.behind);
};

/**
 * What a chart needs to know of its person: where they look, and whether they drag.
 * @param {HTMLElement} host
 * @param {Figure} figure
 * @returns {Chart}
 */
const watched = (host, figure) => {
  /** @type {Chart} */
  const chart = { latest: figure, redraw: () => {}, given: {}, isHeld: false, isSeen: false };
  charts.set(host, chart);
  new IntersectionObserver((entries) => {
    chart.isSeen = entries.at(-1)?.isIntersecting ?? false;
    chart.redraw();
  }, { rootMargin: NEAR }).observe(host);
  document.addEventListener("visibilitychange", () => chart.redraw());
  onThemeChange(host, () => chart.redraw());
  host.addEventListener("pointerdown", () => {
    chart.isHeld = true;
  }, true);
  const letGo = () => {
    chart.isHeld = false;
    chart.redraw();
  };
  for (const end of ["pointerup", "pointercancel"]) {
    globalThis.addEventListener(end, () => {
      if (chart.isHeld) setTimeout(letGo, DOUBLE_CLICK);
    }, true);
  }
  return chart;
};

/**
 * @param {any} Plotly
 * @param {HTMLElement} host
 * @param {Chart} chart
 * @param {string} name of the chart, for `Views`
 */
const draw = (Plotly, host, chart, name) => {
  const figure = chart.latest, { layout } = figure, isFirst = !chart.drawn;
  const changes = views.changes(name, layout);
  chart.drawn = figure;
  chart.reached = reachOf(figure);
  chart.title = layout.title?.text;
  chart.given = givenRanges(layout);
  for (const [key, range] of isFirst ? [] : Object.entries(changes)) {
    Object.assign(layout[key.split(".")[0]], { range, autorange: false });
  }
  fitNumbers(figure, host.clientWidth);
  fitLegend(figure, host.clientWidth);
  const theme = themeOf(host);
  chart.theme = JSON.stringify(theme);
  Plotly.react(host, figure.data, Object.assign(layout, theme), CONFIG);
  // Its tools are for the mouse: whoever tabs through a page would meet four stops a chart before the next control.
  for (const tool of host.querySelectorAll(".modebar-btn")) /** @type {HTMLElement} */ (tool).tabIndex = -1;
  if (isFirst) {
    new ResizeObserver(() => host.isConnected && host.offsetWidth && Plotly.Plots.resize(host)).observe(host);
    const plotted = /** @type {Drawn} */ (host);
    plotted.on("plotly_relayout", (event) => views.note(name, event, plotted.layout, chart.given));
    // Drawn whole before: the tool that leads back leads to what a chart was first drawn with.
    if (Object.keys(changes).length) Plotly.relayout(host, changes);
  }
  tell(host, chart);
};

/**
 * Bring what is drawn to the page's colours of now, and leave the person's view of it.
 * @param {any} Plotly
 * @param {HTMLElement} host
 * @param {Chart} chart
 */
const repaint = (Plotly, host, chart) => {
  const theme = themeOf(host), now = JSON.stringify(theme);
  if (now === chart.theme) return;
  chart.theme = now;
  Plotly.relayout(host, theme);
};

/**
 * Draw a figure, now or as soon as it may be drawn.
 * @param {HTMLElement} host
 * @param {Sent} sent
 * @param {string} key the chart's identity on its page
 */
export const drawChart = (host, { figure, alt, url }, key) => {
  host.setAttribute("role", "figure");
  host.setAttribute("aria-label", alt);
  host.style.minHeight = `${figure.layout.height}px`;
  host.style.position = "relative";
  const chart = charts.get(host) ?? watched(host, figure), name = `${location.pathname} ${key}`;
  chart.latest = figure;
  /** @param {any} Plotly */
  const drawLatest = (Plotly) => {
    // A figure is handed over once: Plotly writes a person's view into it. While a person drags, or cannot see the
    // chart, the newest one waits.
    if (chart.latest !== figure || chart.isHeld || !host.isConnected || !chart.isSeen || document.hidden) return;
    if (chart.drawn !== figure) draw(Plotly, host, chart, name);
    else repaint(Plotly, host, chart);
  };
  chart.redraw = () => {
    // At once where the library is there: a chart changes in the same task as the words around it.
    if (loaded()) drawLatest(loaded());
    else load(url).then(drawLatest);
  };
  chart.redraw();
  tell(host, chart);
};

/** @param {{data: BufferSource, parentElement: HTMLElement}} mounted */
export default ({ data, parentElement }) => {
  const host = /** @type {HTMLElement} */ (parentElement.querySelector(".lab-plot"));
  const sent = JSON.parse(new TextDecoder().decode(data));
  host.style.minHeight = `${sent.figure.layout.height}px`;
  offer(host, () => drawChart(host, sent, sent.key));
};
