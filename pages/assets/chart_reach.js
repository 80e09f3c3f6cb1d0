/** To which step a chart goes, and what it says while a newer picture of it waits. */

/** Plotly's typed arrays, as Python's `Figure` writes numbers. @type {Record<string, any>} */
const NUMBERS = { f8: Float64Array, f4: Float32Array, i4: Int32Array };

/**
 * @typedef {{dtype: string, bdata: string}} Packed base64 of a typed array
 * @typedef {{data: {x?: Packed | number[], name?: string}[], layout: any}} Figure
 */

/**
 * @param {Packed | readonly number[] | undefined} column
 * @returns {ArrayLike<number>}
 */
export const numbers = (column) => {
  if (!column || !("bdata" in column)) return column ?? [];
  const bytes = Uint8Array.from(atob(column.bdata), (letter) => letter.charCodeAt(0));
  return new NUMBERS[column.dtype](bytes.buffer);
};

/**
 * The last step of the curves of a figure over steps; nothing for pictures, whose titles name their step.
 * @param {Figure} figure
 * @returns {number | undefined}
 */
export const reachOf = (figure) => {
  if (!/^step/.test(figure.layout.xaxis?.title?.text ?? "")) return undefined;
  const ends = figure.data
    .filter(({ name }) => name !== "changes") // lines across the whole chart, where a person has changed something
    .map(({ x }) => numbers(x))
    .filter((column) => column.length)
    .map((column) => column[column.length - 1]);
  return ends.length ? Math.max(...ends) : undefined;
};

/**
 * What a chart says that could not be drawn since: to which step it goes, or that it is an earlier picture. Empty when
 * what is drawn is what a newer drawing would show.
 * @param {Figure} drawn
 * @param {Figure} latest
 * @param {number | undefined} reached the end of the drawn one: Plotly has unpacked its numbers by now
 * @param {string | undefined} title of the drawn one
 */
export const wordsBehind = (drawn, latest, reached, title) => {
  if (drawn === latest) return "";
  if (reached === undefined) return title === latest.layout.title?.text ? "" : "earlier picture";
  return reachOf(latest) === reached ? "" : `curve to step ${reached.toLocaleString("en")}`;
};
