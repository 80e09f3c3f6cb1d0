/** When parts of a page change: with a script that starts and ends, and a time that passes, as the tests say. */

import assert from "node:assert/strict";
import { LATE, LONGEST, Moments } from "../../pages/assets/moments.js";
import { Time } from "./time.js";

/** A page whose script runs when told; `shown` is what its parts have drawn, in order. */
const page = () => {
  const time = new Time();
  /** @type {string[]} */
  const shown = [];
  const script = { isRunning: true };
  /** @type {Set<unknown>} */
  const stale = new Set();
  const moments = new Moments(() => script.isRunning, () => shown.push("|"), (root) => stale.has(root), time);
  /** @param {boolean} isRunning */
  const run = (isRunning) => {
    script.isRunning = isRunning;
    moments.look();
  };
  /** @param {string} name */
  const part = (name) => {
    const root = { isConnected: true };
    return { root, offer: (/** @type {number} */ step) => moments.offer(root, () => shown.push(`${name}${step}`)) };
  };
  moments.look();
  return { time, shown, run, part, moments, stale };
};

Deno.test("parts of an empty page are shown at once", () => {
  const { shown, part } = page();
  part("a").offer(1);
  part("b").offer(1);
  assert.deepEqual(shown, ["a1", "|", "b1", "|"]);
});

Deno.test("a later run of the script shows all of its parts in one task, a little after its end", () => {
  const { time, shown, run, part } = page();
  const a = part("a"), b = part("b");
  a.offer(1);
  b.offer(1);
  run(false);
  time.pass(LATE);
  shown.length = 0;
  run(true);
  a.offer(2);
  time.pass(1000);
  b.offer(2);
  part("new").offer(2);
  assert.deepEqual(shown, []);
  run(false);
  time.pass(LATE - 1);
  assert.deepEqual(shown, []);
  time.pass(1);
  assert.deepEqual(shown, ["a2", "b2", "new2", "|"]);
});

Deno.test("a part that is sent twice shows the last of it alone", () => {
  const { time, shown, run, part } = page();
  const a = part("a");
  a.offer(1);
  run(false);
  run(true);
  a.offer(2);
  a.offer(3);
  run(false);
  time.pass(LATE);
  assert.deepEqual(shown, ["a1", "|", "a3", "|"]);
});

Deno.test("a script that starts anew before it has ended shows no new part beside one that waits", () => {
  const { time, shown, run, part } = page();
  const a = part("a"), b = part("b"), c = part("c");
  a.offer(1);
  c.offer(1);
  shown.length = 0;
  a.offer(2); // of the next run: the page has not rested in between
  b.offer(2);
  c.offer(2);
  assert.deepEqual(shown, []);
  run(false);
  time.pass(LATE);
  assert.deepEqual(shown, ["a2", "b2", "c2", "|"]);
});

Deno.test("a part that is new in a run waits while the page shows what Streamlit calls stale", () => {
  const { time, shown, run, part, stale } = page();
  const a = part("a");
  a.offer(1);
  shown.length = 0;
  stale.add(a.root);
  part("new").offer(2); // comes first in a run that began without a rest
  assert.deepEqual(shown, []);
  stale.delete(a.root);
  a.offer(2);
  run(false);
  time.pass(LATE);
  assert.deepEqual(shown, ["new2", "a2", "|"]);
});

Deno.test("nothing waits longer than the limit for a script that takes its time", () => {
  const { time, shown, run, part } = page();
  const a = part("a");
  a.offer(1);
  run(false);
  run(true);
  a.offer(2);
  time.pass(LONGEST - 1);
  assert.deepEqual(shown, ["a1", "|"]);
  time.pass(1);
  assert.deepEqual(shown, ["a1", "|", "a2", "|"]);
});

Deno.test("a part that has left the page is not drawn, and holds up nothing", () => {
  const { time, shown, run, part } = page();
  const a = part("a"), gone = part("gone");
  a.offer(1);
  gone.offer(1);
  run(false);
  run(true);
  gone.offer(2);
  gone.root.isConnected = false;
  run(false);
  time.pass(LATE);
  assert.deepEqual(shown, ["a1", "|", "gone1", "|", "|"]);
  run(true);
  a.root.isConnected = false;
  part("next").offer(3); // the page is empty again
  assert.deepEqual(shown.slice(5), ["next3", "|"]);
});

Deno.test("the end of a script is told after its parts are shown, and at once when none runs", async () => {
  const { time, shown, run, part, moments } = page();
  part("a").offer(1);
  const told = moments.ended().then(() => shown.push("end"));
  run(false);
  time.pass(LATE);
  await told;
  assert.deepEqual(shown, ["a1", "|", "|", "end"]);
  await moments.ended();
});
