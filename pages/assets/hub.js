/**
 * The moments of this page: one hub for all of its parts, whichever module draws them. A module is evaluated once a
 * page, so this one connects `Moments` to the browser and to Streamlit's word on whether its script runs.
 */

import { keepPlaces } from "./browser_history.js";
import { Moments } from "./moments.js";
import { markShownSteps } from "./step_mark.js";

/** @returns {HTMLElement | null} */
const app = () => document.querySelector('[data-testid="stApp"]');
const isRunning = () => app()?.dataset.testScriptState === "running";
let isPressed = false;
const onShown = () => {
  if (!isPressed) markShownSteps(); // a slider in a person's hand is ahead of what was asked for
};
/** @param {Element} root Streamlit itself marks what an earlier run of the script has left. */
const isStale = (root) => root.closest('[data-stale="true"]') !== null;
const moments = new Moments(isRunning, onShown, isStale);

// Streamlit may put a slider in place, or in the place of another, a little after its script has ended.
setInterval(() => {
  if (!isPressed && !isRunning()) markShownSteps(true);
}, 500);

const observer = new MutationObserver(() => moments.look());
/** @type {HTMLElement | null | undefined} */
let observed;
const observe = () => {
  const found = app();
  if (observed === found) return;
  observed = found;
  observer.disconnect();
  if (found) observer.observe(found, { attributes: true, attributeFilter: ["data-test-script-state"] });
  moments.look();
};

// Who holds a button or a slider down keeps it: a page that runs its script again would take it away.
/** @param {boolean} isDown */
const press = (isDown) => () => {
  isPressed = isDown;
};
globalThis.addEventListener("pointerdown", press(true), true);
for (const kind of ["pointerup", "pointercancel"]) globalThis.addEventListener(kind, press(false), true);
globalThis.addEventListener("blur", press(false));
keepPlaces();

/**
 * Show a part of the page together with all else of its moment.
 * @param {Element} root the element that it is drawn in
 * @param {() => void} show draws it
 */
export const offer = (root, show) => {
  observe();
  moments.offer(root, show);
};

/** Resolves when the page's script rests. */
export const ended = () => {
  observe();
  return moments.ended();
};

/**
 * Resolves when a rerun of the script disturbs nobody: no press is on its way, and no script runs.
 * @param {AbortSignal} signal
 */
export const calm = async (signal) => {
  while (isPressed && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100));
  await ended();
};
