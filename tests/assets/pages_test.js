/** How often a panel asks, and which addresses the browser's Back leads to. */

import assert from "node:assert/strict";
import { entryOf } from "../../pages/assets/browser_history.js";
import { LONGEST, pace, QUIET_LIMIT, remember, restOf, SLOWEST, untilNext } from "../../pages/assets/pace.js";

Deno.test("cheap drawing asks as often as was chosen, dear drawing more rarely, within its limit", () => {
  assert.equal(pace(0.5, []), 0.5);
  assert.equal(pace(0.5, [10, 20, 10]), 0.5);
  assert.equal(pace(0.5, [100, 90, 5000]), 2, "one slow drawing does not count");
  assert.equal(pace(0.5, [1000, 1000, 1000]), LONGEST);
  assert.equal(pace(5, [1000, 1000, 1000]), 5);
});

Deno.test("the last five drawings count, whatever their order", () => {
  /** @type {number[]} */
  const spent = [];
  for (const milliseconds of [9, 1, 8, 2, 7, 3]) remember(spent, milliseconds);
  assert.deepEqual(spent, [1, 8, 2, 7, 3]);
  assert.equal(pace(0, spent), 3 / 1000 / 0.05);
  assert.deepEqual(spent, [1, 8, 2, 7, 3]);
});

Deno.test("a quiet run is asked four times more rarely, but no more rarely than was chosen", () => {
  assert.equal(untilNext(2, QUIET_LIMIT - 1), 2);
  assert.equal(untilNext(2, QUIET_LIMIT), 8);
  assert.equal(untilNext(5, QUIET_LIMIT), SLOWEST);
  assert.equal(untilNext(30, QUIET_LIMIT), 30);
});

Deno.test("a channel that is gone again and again is asked for ever more rarely", () => {
  assert.deepEqual([0, 1, 2, 6, 100].map(restOf), [0, 10, 20, 60, 60]);
});

Deno.test("Back leads to pages and runs, and to nothing else that an address says", () => {
  /**
   * @param {string} now
   * @param {string} next
   */
  const entry = (now, next) => entryOf(new URL(now, "http://lab/"), new URL(next, "http://lab/"));
  assert.equal(entry("/?run=a", "/phase?run=a"), "push");
  assert.equal(entry("/?run=a", "/phase"), "push");
  assert.equal(entry("/?run=a", "/?run=b"), "push");
  assert.equal(entry("/?run=a&step=1", "/?run=a&step=2"), "replace");
  assert.equal(entry("/", "/?run=a"), "replace");
  assert.equal(entry("/phase?run=a&step=1", "/phase"), "ignore");
});
