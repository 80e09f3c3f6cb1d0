/**
 * A part of a page that follows its run without running the page's script: words and charts in one element, changed in
 * one task, so that no curve ends before the step that stands above it.
 */

import { drawChart } from "./chart.js";
import { follow } from "./follow.js";
import { offer } from "./hub.js";
import { remember } from "./pace.js";

/**
 * @typedef {object} Block as Python's `Block.to_json` writes it
 * @property {string} key its identity through all updates
 * @property {boolean} half of the panel's width, where there is room
 * @property {string} [html] in which all text is escaped
 * @property {import("./chart.js").Sent} [plot]
 *
 * @typedef {object} Panel
 * @property {Map<string, HTMLElement>} hosts element of each block
 * @property {Map<HTMLElement, string>} words what each block of words shows
 * @property {number[]} spent
 * @property {number} lost
 * @property {string} [address] of the channel that is followed
 * @property {AbortController} [line] ends the following
 * @property {number} mounts calls of the component that have not been taken back
 */

/** @type {WeakMap<HTMLElement, Panel>} */
const panels = new WeakMap();

/**
 * @param {HTMLElement} root
 * @returns {Panel}
 */
const panelOf = (root) => {
  const found = panels.get(root) ?? { hosts: new Map(), words: new Map(), spent: [], lost: 0, mounts: 0 };
  panels.set(root, found);
  return found;
};

/**
 * Words and charts of a moment. What drawing them took is remembered.
 * @param {HTMLElement} root
 * @param {readonly Block[]} blocks all of the panel, in their order
 */
const show = (root, blocks) => {
  const start = performance.now(), { hosts, words, spent } = panelOf(root);
  const shown = blocks.map(({ key, half, html, plot }) => {
    const host = hosts.get(key) ?? document.createElement("div");
    hosts.set(key, host);
    host.dataset.block = key;
    host.classList.toggle("half", half);
    if (plot) drawChart(host, plot, key);
    else if (html !== undefined && words.get(host) !== html) {
      host.innerHTML = html;
      words.set(host, html);
    }
    return host;
  });
  for (const [key, host] of hosts) {
    if (shown.includes(host)) continue;
    host.remove();
    hosts.delete(key);
    words.delete(host);
  }
  // Left alone where they stand already: an element that is moved loses the focus and its place of scrolling.
  if (shown.some((host, place) => root.children[place] !== host)) root.append(...shown);
  remember(spent, performance.now() - start);
};

/**
 * @param {{data: BufferSource, parentElement: HTMLElement, setTriggerValue: (name: string, value: string) => void}} mounted
 */
export default ({ data, parentElement, setTriggerValue }) => {
  const root = /** @type {HTMLElement} */ (parentElement.querySelector(".lab-panel")), panel = panelOf(root);
  const now = JSON.parse(new TextDecoder().decode(data));
  panel.mounts += 1;
  if (panel.address !== now.address || panel.line?.signal.aborted) {
    panel.address = now.address;
    panel.line?.abort();
    const { signal } = panel.line = new AbortController();
    const rerun = () => setTriggerValue("stale", now.address);
    offer(root, () => {
      show(root, now.blocks);
      if (now.seconds && !signal.aborted) follow(root, panel, now, signal, (blocks) => show(root, blocks), rerun);
    });
  }
  // Where a script is run again before it has ended, an earlier call may be taken back after a later one was made.
  return () => {
    panel.mounts -= 1;
    if (!panel.mounts) panel.line?.abort();
  };
};
