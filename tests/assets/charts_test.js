/** Charts: to which step they go, what they say when they are behind, and which part of them a person looks at. */

import assert from "node:assert/strict";
import { numbers, reachOf, wordsBehind } from "../../pages/assets/chart_reach.js";
import { fitLegend, fitNumbers } from "../../pages/assets/chart_fit.js";
import { givenRanges, Views } from "../../pages/assets/chart_views.js";

/** @param {Float64Array | Float32Array | Int32Array} array */
const packed = (array, dtype = "f8") => ({ dtype, bdata: btoa(String.fromCharCode(...new Uint8Array(array.buffer))) });

/** @param {{x?: any, name?: string}[]} data */
const figure = (data, title = "Loss", axis = "step") => ({
  data,
  layout: { title: { text: title }, xaxis: { title: { text: axis } } },
});

Deno.test("packed numbers are the ones that were packed", () => {
  assert.deepEqual(Array.from(numbers(packed(Int32Array.of(1, -2), "i4"))), [1, -2]);
  assert.deepEqual(Array.from(numbers(packed(Float64Array.of(0.1)))), [0.1]);
  assert.deepEqual(Array.from(numbers(packed(Float32Array.of(0.5), "f4"))), [0.5]);
  assert.deepEqual([numbers([3, 4]), numbers(undefined)], [[3, 4], []]);
});

Deno.test("a chart goes to the last step of its longest curve; lines that mark changes are none", () => {
  const data = [{ x: packed(Int32Array.of(0, 50), "i4") }, { x: [0, 70] }, { x: [] }, {}, {
    x: [0, 999],
    name: "changes",
  }];
  assert.equal(reachOf(figure(data)), 70);
  assert.equal(reachOf(figure(data, "Loss", "step, logarithmic")), 70);
  assert.equal(reachOf(figure(data, "Loss", "frame")), undefined);
  assert.equal(reachOf(figure([])), undefined);
});

Deno.test("a chart says what it lacks, and nothing when a newer drawing would show the same", () => {
  const drawn = figure([{ x: [0, 1200] }]), later = figure([{ x: [0, 1300] }]);
  assert.equal(wordsBehind(drawn, drawn, 1200, "Loss"), "");
  assert.equal(wordsBehind(drawn, drawn, undefined, "Loss, before Plotly has cut it"), "");
  assert.equal(wordsBehind(drawn, later, 1200, "Loss"), "curve to step 1,200");
  assert.equal(wordsBehind(drawn, figure([{ x: [5, 1200] }]), 1200, "Loss"), "");
  const picture = figure([], "Waves, step 10", "x"), next = figure([], "Waves, step 20", "x");
  assert.equal(wordsBehind(picture, next, undefined, "Waves, step 10"), "earlier picture");
  assert.equal(wordsBehind(picture, figure([], "Waves, step 10", "x"), undefined, "Waves, step 10"), "");
});

/**
 * @param {[number, number] | undefined} range
 * @param {boolean} autorange
 */
const layout = (range, autorange, uirevision = "run:false") => ({ xaxis: { uirevision, range, autorange }, yaxis: {} });
const ZOOM = { "xaxis.range[0]": 2, "xaxis.range[1]": 5 };

Deno.test("a view that a person has chosen holds for another drawing of the same chart", () => {
  const views = new Views();
  views.note("/ loss", ZOOM, layout([2, 5], false), {});
  assert.deepEqual(views.changes("/ loss", layout(undefined, true)), { "xaxis.range": [2, 5] });
  assert.deepEqual(views.changes("/phase loss", layout(undefined, true)), {});
  assert.deepEqual(views.changes("/ loss", layout(undefined, true, "another run:false")), {});
  views.note("/ bars", ZOOM, { uirevision: "run", xaxis: { range: [2, 5] } }, {});
  assert.deepEqual(views.changes("/ bars", { uirevision: "run", xaxis: {} }), { "xaxis.range": [2, 5] });
  assert.deepEqual(views.changes("/ bars", { uirevision: "run" }), {}, "drawn without axes by now");
});

Deno.test("a chart that a person has reset has no view, whether it finds its range itself or is given one", () => {
  const views = new Views();
  views.note("a", ZOOM, layout([2, 5], false), {});
  views.note("a", { "xaxis.autorange": true }, layout([0, 9], true), {});
  assert.deepEqual(views.changes("a", layout(undefined, true)), {});
  const given = givenRanges({ ...layout([0, 9], false), legend: { range: [1, 2] } });
  assert.deepEqual(given, { xaxis: [0, 9] });
  views.note("a", ZOOM, layout([2, 5], false), given);
  assert.deepEqual(views.changes("a", layout([0, 9], false)), { "xaxis.range": [2, 5] });
  views.note("a", ZOOM, layout([0, 9], false), given);
  assert.deepEqual(views.changes("a", layout([0, 9], false)), {});
});

Deno.test("what is no axis is no view, and the charts that were seen long ago are forgotten", () => {
  const views = new Views();
  views.note("a", { autosize: true, "polar.angularaxis.rotation": 3 }, layout([2, 5], false), {});
  assert.deepEqual(views.changes("a", layout(undefined, true)), {});
  const numbered = Array.from({ length: 200 }, (_, chart) => String(chart));
  for (const chart of [...numbered, "0", "new"]) views.note(chart, ZOOM, layout([2, 5], false), {});
  const known = ["0", "1", "2", "new"].filter((chart) =>
    "xaxis.range" in views.changes(chart, layout(undefined, true))
  );
  assert.deepEqual(known, ["0", "2", "new"]);
});

Deno.test("numbers are left out where their cells are too narrow, and come back where they are not", () => {
  const map = { type: "heatmap", z: { dtype: "f4", bdata: "", shape: "2, 10" } };
  const second = { type: "heatmap", xaxis: "x2", z: [[1, 2]] };
  const text = { type: "scatter", mode: "text", text: ["0.12", "−0.5"], textfont: { size: 10 }, visible: undefined };
  const other = { ...text, xaxis: "x2" }, curve = { type: "scatter", mode: "lines", visible: undefined };
  const layout = { margin: { l: 20, r: 30 }, xaxis: { domain: [0, 0.5] }, xaxis2: { domain: [0.6, 1] } };
  const visible = (/** @type {number} */ width) => {
    fitNumbers({ data: [map, text, second, other, curve], layout }, width);
    return [text.visible, other.visible, curve.visible];
  };
  // A text of four digits takes 24 px; a cell of the first map has a twentieth of what is inside, one of the other a fifth.
  assert.deepEqual(visible(50 + 480), [true, true, undefined]);
  assert.deepEqual(visible(50 + 470), [false, true, undefined]);
  assert.deepEqual(visible(50 + 110), [false, false, undefined]);
  assert.deepEqual(visible(50 + 480), [true, true, undefined]);
  const words = { ...text, visible: "legendonly" };
  fitNumbers({ data: [words], layout: {} }, 0);
  assert.equal(words.visible, "legendonly", "they stand in no map");
});

Deno.test("a chart grows by the rows of its legend, and keeps the room of its curves", () => {
  const named = ["training", "held out", "of the strictest prediction"].map((name) => ({ name }));
  const data = [...named, { name: "changes", showlegend: false }];
  const fitted = (/** @type {number} */ width, change = {}) => {
    const legend = { orientation: "h", y: -0.2, font: { size: 10 } };
    const layout = { showlegend: true, height: 300, margin: { l: 50, r: 50, t: 0, b: 46 }, legend, ...change };
    fitLegend({ data, layout }, width);
    return [layout.height, layout.margin.b];
  };
  // The widest entry takes 45 px and 27 letters of 5.4 px: 190.8; all of them together 367.2.
  assert.deepEqual(fitted(100 + 368), [300, 46]);
  assert.deepEqual(fitted(100 + 366), [338, 84], "one to a row");
  assert.deepEqual(fitted(100), [338, 84]);
  assert.deepEqual(fitted(100, { showlegend: false }), [300, 46]);
  assert.deepEqual(fitted(100, { legend: { orientation: "h", y: 1 } }), [300, 46], "it stands above them");
  data.splice(2, 1);
  assert.deepEqual(fitted(100 + 176), [319, 65]);
  assert.deepEqual(fitted(100 + 177, { showlegend: undefined }), [300, 46]);
});
