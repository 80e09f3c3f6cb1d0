/** How a chart makes do with a narrow place: Python, which makes the figure, does not know how wide it will be. */

/** Width of a digit, and of a letter, in the height of the text. */
const DIGIT = 0.6, LETTER = 0.54;
/** What an entry of a legend takes beside its text, and the height of a row of them; px, as Plotly draws them. */
const SYMBOL = 45, ROW = 19;
/** Room that a chart needs beside its axes where it does not say how much. */
const MARGIN = 80;

/**
 * Hide numbers that are wider than the cells they stand in, and show them again where they fit.
 * @param {any} figure changed in place
 * @param {number} width of the chart, px
 */
export const fitNumbers = ({ data, layout }, width) => {
  const { l = MARGIN, r = MARGIN } = layout.margin ?? {}, inside = Math.max(0, width - l - r);
  for (const trace of data) {
    if (trace.type !== "scatter" || trace.mode !== "text") continue;
    const axis = layout[(trace.xaxis ?? "x").replace("x", "xaxis")] ?? {}, [from, to] = axis.domain ?? [0, 1];
    const map = data.find((/** @type {any} */ one) =>
      one.type === "heatmap" && (one.xaxis ?? "x") === (trace.xaxis ?? "x")
    );
    const columns = columnsOf(map?.z);
    if (!columns) continue;
    const longest = Math.max(0, ...trace.text.map((/** @type {string} */ text) => text.length));
    trace.visible = longest * DIGIT * (trace.textfont?.size ?? 12) <= inside * (to - from) / columns;
  }
};

/**
 * @param {any} z rows of numbers, or Plotly's packed array with its shape
 * @returns {number} 0 where it is not known
 */
const columnsOf = (z) => z?.shape ? Number(z.shape.split(",")[1]) : z?.[0]?.length ?? 0;

/**
 * Make a chart taller by the rows into which its legend breaks: below the curves, they would lie on the axis's title.
 * @param {any} figure changed in place
 * @param {number} width of the chart, px
 */
export const fitLegend = ({ data, layout }, width) => {
  const { legend, margin } = layout;
  if (!layout.showlegend || !margin || legend?.orientation !== "h" || !(legend.y < 0)) return;
  const named = data.filter((/** @type {any} */ { name, showlegend }) => name && showlegend !== false);
  const widths = named.map((/** @type {any} */ { name }) => SYMBOL + LETTER * (legend.font?.size ?? 12) * name.length);
  const inside = Math.max(1, width - margin.l - margin.r);
  const whole = widths.reduce((/** @type {number} */ sum, /** @type {number} */ one) => sum + one, 0);
  if (whole <= inside) return;
  // Plotly gives all entries the width of the widest as soon as they need more than one row.
  const rows = Math.ceil(named.length / Math.max(1, Math.floor(inside / Math.max(...widths))));
  layout.height += ROW * (rows - 1);
  layout.margin = { ...margin, b: margin.b + ROW * (rows - 1) };
};
