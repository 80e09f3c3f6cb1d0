/**
 * The part of a chart that a person has zoomed into, kept for as long as the tab is open: a page that is left and
 * opened again draws new elements, of which Plotly knows nothing. Every axis has a name for what it shows (Plotly's
 * `uirevision`); a view outlives new data, and not another run or another scale.
 */

const AXIS = /^([xy]axis\d*)\./, MOST = 200;

/**
 * @typedef {readonly [unknown, unknown]} Range
 * @typedef {{range: Range, revision: unknown}} View of an axis
 */

/**
 * @param {any} axis
 * @param {any} layout
 */
const revisionOf = (axis, layout) => axis?.uirevision ?? layout.uirevision;

/**
 * The ranges that a figure itself asks for, by axis. To be taken before it is drawn: Plotly writes into its layout.
 * @param {any} layout
 * @returns {Record<string, Range>}
 */
export const givenRanges = (layout) =>
  Object.fromEntries(
    Object.entries(layout)
      .filter(([name, axis]) => AXIS.test(`${name}.`) && Array.isArray(axis?.range))
      .map(([name, axis]) => [name, [axis.range[0], axis.range[1]]]),
  );

export class Views {
  /** @type {Map<string, Map<string, View>>} */
  #kept = new Map();

  /**
   * A person has zoomed, moved or reset a chart.
   * @param {string} chart its name
   * @param {object} event Plotly's: what has changed
   * @param {any} layout as it is now
   * @param {Record<string, Range>} given of `givenRanges`: an axis that is back there is no view of a person
   */
  note(chart, event, layout, given) {
    const views = this.#kept.get(chart) ?? new Map();
    for (const name of Object.keys(event).map((key) => AXIS.exec(key)?.[1] ?? "")) {
      const axis = layout[name];
      if (!axis?.range) continue;
      const [from, to] = axis.range, isGiven = given[name]?.[0] === from && given[name]?.[1] === to;
      if (axis.autorange || isGiven) views.delete(name);
      else views.set(name, { range: [from, to], revision: revisionOf(axis, layout) });
    }
    this.#kept.delete(chart); // what was seen last is forgotten last
    if (views.size) this.#kept.set(chart, views);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MOST) break;
      this.#kept.delete(oldest);
    }
  }

  /**
   * The ranges that a person has chosen and that still hold for a figure, as Plotly's changes of a layout.
   * @param {string} chart
   * @param {any} layout of the figure
   * @returns {Record<string, [unknown, unknown]>} empty where there is none
   */
  changes(chart, layout) {
    /** @type {Record<string, [unknown, unknown]>} */
    const found = {};
    for (const [name, { range, revision }] of this.#kept.get(chart) ?? []) {
      if (name in layout && revisionOf(layout[name], layout) === revision) {
        found[`${name}.range`] = [range[0], range[1]];
      }
    }
    return found;
  }
}
