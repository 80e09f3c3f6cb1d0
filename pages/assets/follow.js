/**
 * A panel asks its channel for news: half a second after a press, more rarely when there is none, and not at all in a
 * hidden tab. When the rest of the page would look different it asks for a rerun of the script; so it does once when
 * its channel has ended, and goes on with the one that the rerun opens.
 */

import { calm, ended } from "./hub.js";
import { pace, QUIET_LIMIT, restOf, SOON, untilNext } from "./pace.js";

// What makes a page ask soon: a press of a person, and that a part of it has had news, which other parts may show.
const NEWS = "collapse-lab-news", PRESSES = ["pointerup", "keyup", NEWS];

/**
 * @param {number} seconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>} resolves when they have passed, soon after a press, or at once when it is aborted
 */
const wait = (seconds, signal) =>
  new Promise((resolve) => {
    /** @type {any} */
    let soon;
    const hasten = () => {
      clearTimeout(soon);
      soon = setTimeout(done, 1000 * SOON);
    };
    const done = () => {
      clearTimeout(timer);
      clearTimeout(soon);
      signal.removeEventListener("abort", done);
      for (const kind of PRESSES) globalThis.removeEventListener(kind, hasten, true);
      resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    signal.addEventListener("abort", done);
    for (const kind of PRESSES) globalThis.addEventListener(kind, hasten, true);
  });

/**
 * @param {AbortSignal} signal
 * @returns {Promise<void>} resolves when the tab is in view, or it is aborted
 */
const visible = (signal) =>
  new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });

/**
 * @typedef {object} Followed what a panel remembers between its channels
 * @property {number[]} spent milliseconds that its last updates took to draw
 * @property {number} lost how many channels in a row were gone
 *
 * @typedef {{address: string, seconds: number, tag: string}} Channel
 */

/**
 * Ask a channel until it is aborted or the panel has left the page.
 * @param {Element} root the panel
 * @param {Followed} state
 * @param {Channel} channel
 * @param {AbortSignal} signal
 * @param {(blocks: any[]) => void} show draws what an answer brought
 * @param {() => void} rerun asks for a rerun of the page's script
 */
export const follow = async (root, state, { address, seconds, tag }, signal, show, rerun) => {
  let quiet = 0, rest = restOf(state.lost);
  const runAgain = async () => {
    await calm(signal); // what runs now may be an answer that a person waits for
    if (!signal.aborted) rerun();
  };
  while (true) {
    const each = Math.max(pace(seconds, state.spent), rest);
    rest = 0;
    await wait(untilNext(each, quiet), signal);
    await visible(signal);
    if (signal.aborted || !root.isConnected) return;
    try {
      const headers = tag ? { "If-None-Match": tag } : undefined;
      const answer = await fetch(address, { cache: "no-store", headers, signal });
      if (answer.status === 205) {
        await runAgain();
        globalThis.dispatchEvent(new Event(NEWS));
        quiet = QUIET_LIMIT;
      } else if (answer.status === 410) {
        // Once at once; where the channel that the rerun opens is gone, too, or none comes, ever more rarely.
        await runAgain();
        state.lost += 1;
        rest = restOf(state.lost);
      } else if (answer.status === 200) {
        const blocks = await answer.json();
        tag = answer.headers.get("ETag") ?? "";
        quiet = state.lost = 0;
        await ended(); // a script on its way brings a moment of its own, and another line to follow
        if (!signal.aborted) show(blocks);
      } else {
        if (answer.status === 304) state.lost = 0;
        quiet += 1;
      }
    } catch (problem) {
      if (signal.aborted) return;
      // The server is away for a moment, or a proxy in front of it answers instead: asked again, and rarely.
      if (!(problem instanceof TypeError || problem instanceof SyntaxError)) console.error(problem);
      quiet = QUIET_LIMIT;
    }
  }
};
