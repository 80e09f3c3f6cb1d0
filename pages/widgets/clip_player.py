"""Clips that play in the browser, all in step: a small element of our own, as the charts are.

The server sends the frames once for each change of the data, as raw bytes; the browser animates them by itself, so that
a playing page costs the server nothing. All players of a page share one clock, one speed and one pause button. They
stand still outside the window, in a hidden tab, and from the start for people who ask their system for less motion.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.session.moment import HUB
from qcore.viz import ClipRow, clip_bytes

_STYLE = """
.lab-clips{display:flex;flex-direction:column;gap:.7rem;color:var(--st-text-color);font-family:inherit}
.lab-clips .bar{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem .8rem;font-size:.85rem}
.lab-clips button,.lab-clips select{background:var(--st-secondary-background-color);color:var(--st-text-color);
border:1px solid var(--st-border-color);border-radius:.5rem;font:inherit;padding:.25rem .6rem;cursor:pointer;
min-height:2rem}
.lab-clips button{display:inline-flex;align-items:center;gap:.4rem;min-width:5.2rem}
.lab-clips :is(button,select,input):focus-visible{outline:2px solid var(--st-primary-color);outline-offset:2px}
.lab-clips input{flex:1 1 6rem;max-width:16rem;accent-color:var(--st-primary-color);min-width:5rem}
.lab-clips .count{font-variant-numeric:tabular-nums;white-space:nowrap}
.lab-clips .label{font-weight:600;font-size:.9rem;margin-bottom:.2rem}
.lab-clips .label span{font-weight:400;color:var(--lab-faint)}
.lab-clips .grid{display:grid;gap:.35rem;grid-template-columns:repeat(var(--wide),minmax(0,var(--most)))}
.lab-clips figure{margin:0;min-width:0}
.lab-clips canvas{display:block;width:100%;image-rendering:pixelated;border-radius:2px;
outline:1px solid var(--st-border-color)}
.lab-clips .now canvas{outline:2px solid var(--st-primary-color)}
.lab-clips figcaption{font-size:.75rem;color:var(--lab-faint);text-align:center;white-space:nowrap;overflow:hidden;
text-overflow:ellipsis;font-variant-numeric:tabular-nums}
@media (max-width:640px){.lab-clips .grid{grid-template-columns:repeat(var(--narrow),minmax(0,var(--most)))}}
"""
_SCRIPT = (
    HUB
    + """
const PLAY = '<svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true"><path fill="currentColor" d="';
const ICONS = {Play: PLAY + 'M2 1v10l9-5z"/></svg>', Pause: PLAY + 'M2 1h3v10H2zM7 1h3v10H7z"/></svg>'};
const SPEEDS = [2, 4, 8, 16, 24], HOLD = 2;

// One clock for all players of the page: a count of frames, and who wants to hear of it.
const clock = window.collapseLabClock ??= (() => {
  const less = matchMedia("(prefers-reduced-motion: reduce)");
  const it = {playing: !less.matches, speed: 8, tick: 0, hosts: new Set(), timer: 0};
  it.paint = () => it.hosts.forEach((host) => host.isConnected ? host.seen && host.paint() : it.hosts.delete(host));
  it.wake = () => {
    const wanted = it.playing && !document.hidden && [...it.hosts].some((host) => host.isConnected && host.seen);
    if (it.timer || !wanted) return;
    it.timer = setTimeout(() => { it.timer = 0; it.tick += 1; it.paint(); it.wake(); }, 1000 / it.speed);
  };
  it.set = (changes) => { Object.assign(it, changes); it.paint(); it.wake(); };
  less.addEventListener("change", () => it.set({playing: !less.matches}));
  document.addEventListener("visibilitychange", () => it.wake());
  return it;
})();

const make = (tag, name, parent, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  parent?.appendChild(node);
  return node;
};
const read = (data) => {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  return {...head, pixels: bytes.subarray(4 + size)};
};
const picture = (sheet, row, clip, frame) => {
  const [frames, height, width, channels] = row.shape, area = height * width;
  const image = new ImageData(width, height), out = image.data;
  let at = row.offset + (clip * frames + frame) * area * channels;
  for (let pixel = 0; pixel < area; pixel++, at += channels) {
    const to = 4 * pixel, last = channels - 1;
    out[to] = sheet.pixels[at];
    out[to + 1] = sheet.pixels[at + Math.min(1, last)];
    out[to + 2] = sheet.pixels[at + Math.min(2, last)];
    out[to + 3] = 255;
  }
  return image;
};
// The last frame is held for a moment, so that the end of a clip can be told from a jump in it.
const now = (places, frames) => {
  const frame = Math.min(clock.tick % (frames + HOLD), frames - 1);
  let best = 0;
  places.forEach((place, index) => { if (place <= frame) best = index; });
  return best;
};

const bar = (host) => {
  const line = make("div", "bar", host), button = make("button", "", line), slider = make("input", "", line);
  button.type = "button";
  button.onclick = () => clock.set({playing: !clock.playing});
  Object.assign(slider, {type: "range", min: 1, step: 1});
  slider.setAttribute("aria-label", "Frame");
  slider.oninput = () => clock.set({playing: false, tick: slider.value - 1});
  const count = make("span", "count", line), speed = make("select", "", line);
  speed.setAttribute("aria-label", "Frames a second");
  for (const each of SPEEDS) make("option", "", speed, each + " frames/s").value = each;
  speed.onchange = () => clock.set({speed: +speed.value});
  return () => {
    const frames = Math.max(1, ...host.sheet.rows.map((row) => row.frames));
    const frame = Math.min(clock.tick % (frames + HOLD), frames - 1) + 1, word = clock.playing ? "Pause" : "Play";
    if (button.dataset.word !== word) {
      button.innerHTML = ICONS[word] + word;
      button.setAttribute("aria-label", word + " clips");
      button.dataset.word = word;
    }
    slider.max = frames;
    slider.value = frame;
    speed.value = clock.speed;
    count.textContent = `frame ${frame} of ${frames}`;
  };
};
const grid = (host, row, index) => {
  const place = make("div", "", host), strip = host.sheet.layout === "strip";
  const label = make("div", "label", place, row.label);
  if (row.hint) make("span", "", label, " · " + row.hint);
  const cells = make("div", "grid", place), many = strip ? row.shape[0] : row.count;
  const wide = strip ? Math.min(many, 16) : Math.min(many, 8);
  cells.style.setProperty("--wide", Math.max(1, wide));
  cells.style.setProperty("--narrow", Math.max(1, Math.min(many, 8)));
  cells.style.setProperty("--most", many > 4 ? "88px" : "132px");
  const shown = [];
  for (let cell = 0; cell < many; cell++) {
    const figure = make("figure", "", cells), canvas = make("canvas", "", figure);
    const caption = make("figcaption", "", figure);
    canvas.width = row.shape[2];
    canvas.height = row.shape[1];
    canvas.setAttribute("role", "img");
    const each = strip ? `frame ${row.places[cell] + 1}` : `clip ${cell + 1} of ${many}`;
    canvas.setAttribute("aria-label", `${row.label}, ${each}`);
    shown.push({figure, canvas, caption, images: new Map()});
  }
  const draw = (cell, clip, frame) => {
    const known = shown[cell], sheet = host.sheet;
    if (known.of !== sheet) { known.images.clear(); known.of = sheet; known.frame = -1; }
    if (known.frame === frame) return;
    if (!known.images.has(frame)) known.images.set(frame, picture(sheet, sheet.rows[index], clip, frame));
    known.canvas.getContext("2d").putImageData(known.images.get(frame), 0, 0);
    known.frame = frame;
  };
  return () => {
    const row = host.sheet.rows[index], current = now(row.places, row.frames);
    shown.forEach(({figure, caption}, cell) => {
      const text = row.captions[cell] ?? (strip ? String(row.places[cell] + 1) : "");
      if (caption.textContent !== text) caption.textContent = text;
      caption.hidden = !text;
      if (strip) figure.classList.toggle("now", cell === current && row.frames > 1);
      if (strip) draw(cell, 0, cell);
      else draw(cell, cell, current);
    });
  };
};

const display = (host, sheet) => {
  const kind = JSON.stringify([sheet.layout, sheet.rows.map((row) => [row.label, row.hint, row.count, row.shape])]);
  host.sheet = sheet;
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", sheet.alt);
  if (host.kind !== kind) {
    host.kind = kind;
    host.replaceChildren();
    const moves = sheet.rows.some((row) => row.frames > 1);
    const parts = sheet.layout === "film" && moves ? [bar(host)] : [];
    sheet.rows.forEach((row, index) => { if (row.count && row.shape[0]) parts.push(grid(host, row, index)); });
    host.paint = () => parts.forEach((part) => part());
  }
  if (host.seen === undefined) {
    host.seen = false;
    new IntersectionObserver((entries) => {
      host.seen = entries.at(-1).isIntersecting;
      if (host.seen) clock.set({});
    }, {rootMargin: "100px"}).observe(host);
  }
  clock.hosts.add(host);
  host.paint();
  clock.wake();
};
export default function ({data, parentElement}) {
  const host = parentElement.querySelector(".lab-clips"), sheet = read(data);
  hub.offer(host, () => display(host, sheet));
}
"""
)
_mount = st.components.v2.component(
    "collapse_lab_clips",
    html='<div class="lab-clips"></div>',
    css=_STYLE,
    js=_SCRIPT,
    isolate_styles=False,
)


def film(rows: Sequence[ClipRow], key: str, alt: str) -> None:
    """Play all clips of all rows side by side, with pause, speed and a count of frames.

    Args:
        alt: for screen readers.
    """
    _mount(key=key, data=clip_bytes(rows, layout="film", alt=alt))


def strip(rows: Sequence[ClipRow], key: str, alt: str) -> None:
    """The frames of the first clip of each row side by side; the frame that a film on the page shows is outlined."""
    _mount(key=key, data=clip_bytes(rows, layout="strip", alt=alt))
