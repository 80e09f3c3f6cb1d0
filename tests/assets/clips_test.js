/** Clips: which frame is shown when, and what is read of the bytes that Python sends. */

import assert from "node:assert/strict";
import { Clock, frameAt, HOLD, pictureAt } from "../../pages/assets/clip_clock.js";
import { readSheet, rgbaOf } from "../../pages/assets/clip_sheet.js";
import { Time } from "./time.js";

Deno.test("a clip plays its frames, holds the last one, and begins again", () => {
  const frames = 3, ticks = Array.from({ length: 2 * (frames + HOLD) }, (_, tick) => frameAt(tick, frames));
  assert.deepEqual(ticks, [0, 1, 2, 2, 2, 0, 1, 2, 2, 2]);
  assert.deepEqual([frameAt(0, 1), frameAt(7, 1)], [0, 0]);
});

Deno.test("where there are fewer pictures than frames, the last one before the frame is shown", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 9].map((frame) => pictureAt([0, 2, 4], frame)), [0, 0, 1, 1, 2, 2]);
  assert.equal(pictureAt([3, 5], 1), 0);
});

Deno.test("the clock counts while someone in the window wants it, at the speed that was chosen", () => {
  const time = new Time(), page = { isHidden: false }, clock = new Clock(() => page.isHidden, time);
  const player = { host: /** @type {Element} */ ({ isConnected: true }), isSeen: true, painted: 0, paint: () => {} };
  player.paint = () => player.painted += 1;
  clock.players.add(player);
  clock.set({ speed: 4 });
  time.pass(1000);
  assert.deepEqual([clock.tick, player.painted], [4, 5]);
  clock.set({ isPlaying: false });
  time.pass(1000);
  assert.equal(clock.tick, 5, "the frame on its way when it was paused");
  clock.set({ isPlaying: true });
  player.isSeen = false;
  time.pass(1000);
  assert.equal(clock.tick, 6, "nobody sees it");
  player.isSeen = page.isHidden = true;
  clock.wake();
  time.pass(1000);
  assert.equal(clock.tick, 6, "the tab is hidden");
  page.isHidden = false;
  clock.wake();
  time.pass(250);
  assert.equal(clock.tick, 7);
  Object.assign(player.host, { isConnected: false });
  time.pass(1000);
  assert.deepEqual([clock.tick, clock.players.size], [8, 0]);
});

/**
 * @param {object} head
 * @param {number[]} pixels
 */
const sent = (head, pixels) => {
  const json = new TextEncoder().encode(JSON.stringify(head)), bytes = new Uint8Array(4 + json.length + pixels.length);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  bytes.set(pixels, 4 + json.length);
  return bytes;
};

Deno.test("a sheet is read where it stands in its buffer", () => {
  const bytes = sent({ layout: "film", alt: "β", rows: [] }, [7, 8]), larger = new Uint8Array(bytes.length + 3);
  larger.set(bytes, 3);
  for (const data of [bytes, bytes.buffer, larger.subarray(3)]) {
    const { layout, alt, pixels } = readSheet(data);
    assert.deepEqual([layout, alt, [...pixels]], ["film", "β", [7, 8]]);
  }
});

Deno.test("a picture is that of its clip and frame; grey is grey, and more than three channels are the first three", () => {
  const pixels = Uint8Array.from({ length: 40 }, (_, place) => place);
  assert.deepEqual([...rgbaOf(pixels, { shape: [2, 1, 2, 1], offset: 4 }, 1, 1)], [10, 10, 10, 255, 11, 11, 11, 255]);
  assert.deepEqual([...rgbaOf(pixels, { shape: [2, 1, 1, 3], offset: 0 }, 1, 0)], [6, 7, 8, 255]);
  assert.deepEqual([...rgbaOf(pixels, { shape: [1, 1, 2, 4], offset: 1 }, 0, 0)], [1, 2, 3, 255, 5, 6, 7, 255]);
});
