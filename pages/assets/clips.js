/**
 * Clips that play in the browser, all in step. The server sends the frames once for each change of the data; the
 * browser animates them by itself, so that a playing page costs the server nothing.
 */

import { Clock, frameAt, pictureAt, SPEEDS } from "./clip_clock.js";
import { readSheet, rgbaOf } from "./clip_sheet.js";
import { offer } from "./hub.js";

const ICON = '<svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true"><path fill="currentColor" d="';
const ICONS = { Play: `${ICON}M2 1v10l9-5z"/></svg>`, Pause: `${ICON}M2 1h3v10H2zM7 1h3v10H7z"/></svg>` };
const MOST_IN_A_ROW = 8, MOST_IN_A_STRIP = 16;
/** Clips shrink where there are many. */
const MANY = 4, WIDTH = "132px", WIDTH_OF_MANY = "88px";
/** Painted before they are scrolled into the window. */
const NEAR = "100px";

const clock = new Clock(() => document.hidden);
const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");
const obey = () => clock.set({ isPlaying: !lessMotion.matches });
lessMotion.addEventListener("change", obey);
document.addEventListener("visibilitychange", () => clock.wake());
obey();

/**
 * @typedef {import("./clip_sheet.js").Sheet} Sheet
 * @typedef {import("./clip_sheet.js").Row} Row
 * @typedef {import("./clip_clock.js").Player & {sheet: Sheet, kind?: string}} Player
 */

/** @type {WeakMap<Element, Player>} */
const players = new WeakMap();

/**
 * A new element at the end of another one.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} name its class; none when empty
 * @param {Element} parent
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[T]}
 */
const append = (tag, name, parent, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};

/**
 * The controls of the clock.
 * @param {Player} player
 * @returns {() => void} brings them to the frame of now
 */
const controls = (player) => {
  const line = append("div", "bar", player.host), button = append("button", "", line);
  const slider = append("input", "", line), count = append("span", "count", line), speed = append("select", "", line);
  button.type = "button";
  button.onclick = () => clock.set({ isPlaying: !clock.isPlaying });
  Object.assign(slider, { type: "range", min: 1, step: 1 });
  slider.setAttribute("aria-label", "Frame");
  slider.oninput = () => clock.set({ isPlaying: false, tick: Number(slider.value) - 1 });
  speed.setAttribute("aria-label", "Frames a second");
  for (const each of SPEEDS) append("option", "", speed, `${each} frames/s`).value = String(each);
  speed.onchange = () => clock.set({ speed: Number(speed.value) });
  return () => {
    const frames = Math.max(1, ...player.sheet.rows.map((row) => row.frames));
    const frame = frameAt(clock.tick, frames) + 1, word = clock.isPlaying ? "Pause" : "Play";
    if (button.dataset.word !== word) {
      button.innerHTML = ICONS[word] + word;
      button.setAttribute("aria-label", `${word} clips`);
      button.dataset.word = word;
    }
    slider.max = String(frames);
    slider.value = String(frame);
    speed.value = String(clock.speed);
    count.textContent = `frame ${frame} of ${frames}`;
  };
};

/**
 * The clips of a row side by side, or the frames of its first one.
 * @param {Player} player
 * @param {Row} row
 * @param {number} index of the row: a later sheet of the same kind has another one there
 * @returns {() => void} brings them to the frame of now
 */
const grid = (player, row, index) => {
  const place = append("div", "", player.host), isStrip = player.sheet.layout === "strip";
  const label = append("div", "label", place, row.label);
  if (row.hint) append("span", "", label, ` · ${row.hint}`);
  const cells = append("div", "grid", place), many = isStrip ? row.shape[0] : row.count;
  const wide = Math.max(1, Math.min(many, isStrip ? MOST_IN_A_STRIP : MOST_IN_A_ROW));
  cells.style.setProperty("--wide", String(wide));
  cells.style.setProperty("--narrow", String(Math.min(wide, MOST_IN_A_ROW)));
  cells.style.setProperty("--most", many > MANY ? WIDTH_OF_MANY : WIDTH);
  const shown = Array.from({ length: many }, (_, cell) => {
    const figure = append("figure", "", cells), canvas = append("canvas", "", figure);
    const caption = append("figcaption", "", figure);
    [canvas.height, canvas.width] = [row.shape[1], row.shape[2]];
    canvas.setAttribute("role", "img");
    const each = isStrip ? `frame ${row.places[cell] + 1}` : `clip ${cell + 1} of ${many}`;
    canvas.setAttribute("aria-label", `${row.label}, ${each}`);
    return { figure, canvas, caption, draw: painter(player, canvas, index) };
  });
  return () => {
    const now = player.sheet.rows[index], current = pictureAt(now.places, frameAt(clock.tick, now.frames));
    shown.forEach(({ figure, caption, draw }, cell) => {
      const text = now.captions[cell] ?? (isStrip ? String(now.places[cell] + 1) : "");
      if (caption.textContent !== text) caption.textContent = text;
      caption.hidden = !text;
      if (isStrip) figure.classList.toggle("now", cell === current && now.frames > 1);
      if (isStrip) draw(0, cell);
      else draw(cell, current);
    });
  };
};

/**
 * @param {Player} player
 * @param {HTMLCanvasElement} canvas
 * @param {number} index of the row
 * @returns {(clip: number, picture: number) => void} draws a picture, unless it is there already
 */
const painter = (player, canvas, index) => {
  /** @type {Map<number, ImageData>} */
  const images = new Map();
  /** @type {Sheet | undefined} */
  let sheet;
  let drawn = -1;
  return (clip, picture) => {
    if (sheet !== player.sheet) {
      images.clear();
      sheet = player.sheet;
      drawn = -1;
    }
    if (drawn === picture) return;
    const row = sheet.rows[index], [, height, width] = row.shape;
    const image = images.get(picture) ?? new ImageData(rgbaOf(sheet.pixels, row, clip, picture), width, height);
    images.set(picture, image);
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    drawn = picture;
  };
};

/**
 * @param {Element} host
 * @param {Sheet} sheet
 * @returns {Player}
 */
const playerOf = (host, sheet) => {
  const found = players.get(host);
  if (found) return found;
  /** @type {Player} */
  const player = { host, sheet, isSeen: false, paint: () => {} };
  players.set(host, player);
  new IntersectionObserver((entries) => {
    player.isSeen = entries.at(-1)?.isIntersecting ?? false;
    if (player.isSeen) clock.set({});
  }, { rootMargin: NEAR }).observe(host);
  return player;
};

/**
 * @param {Element} host
 * @param {Sheet} sheet
 */
const display = (host, sheet) => {
  const player = playerOf(host, sheet);
  const kind = JSON.stringify([sheet.layout, sheet.rows.map((row) => [row.label, row.hint, row.count, row.shape])]);
  player.sheet = sheet;
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", sheet.alt);
  if (player.kind !== kind) {
    player.kind = kind;
    host.replaceChildren();
    const moves = sheet.rows.some((row) => row.frames > 1);
    const parts = sheet.layout === "film" && moves ? [controls(player)] : [];
    sheet.rows.forEach((row, index) => {
      if (row.count && row.shape[0]) parts.push(grid(player, row, index));
    });
    player.paint = () => parts.forEach((paint) => paint());
  }
  clock.players.add(player);
  player.paint();
  clock.wake();
};

/** @param {{data: Uint8Array | ArrayBuffer, parentElement: HTMLElement}} mounted */
export default ({ data, parentElement }) => {
  const host = /** @type {Element} */ (parentElement.querySelector(".lab-clips")), sheet = readSheet(data);
  offer(host, () => display(host, sheet));
};
