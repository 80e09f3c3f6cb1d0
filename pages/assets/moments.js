/**
 * When the parts of a page change: what a run of the script has sent waits until it has ended, and is then shown in one
 * task, so that no two parts are of different moments. A part in an empty page is shown at once, and nothing waits
 * longer than LONGEST: a script may take its time. Nothing here knows of a browser: `hub.js` connects it to one.
 */

/** Milliseconds that a part waits at most. */
export const LONGEST = 10000;
/** Milliseconds after a script's end: its last elements may come a little after the word that it has ended. */
export const LATE = 40;

/**
 * @typedef {{isConnected: boolean}} Root the element that a part is drawn in
 * @typedef {{setTimeout: (done: () => void, ms: number) => any, clearTimeout: (timer: any) => void}} Timers
 */

export class Moments {
  /** @type {Map<Root, () => void>} */
  #waiting = new Map();
  /** What is on the page, with the run of the script that sent it. @type {Map<Root, number>} */
  #shown = new Map();
  /** @type {(() => void)[]} */
  #ends = [];
  #run = 0;
  #wasRunning = false;
  /** @type {any} */
  #late;
  /** @type {any} */
  #limit;
  #isRunning;
  #onShown;
  #isStale;
  #timers;

  /**
   * @param {() => boolean} isRunning whether the page's script runs
   * @param {() => void} onShown called in the task that shows parts, after all of them
   * @param {(root: any) => boolean} isStale whether a part is left from a run of the script before the present one
   * @param {Timers} timers
   */
  constructor(isRunning, onShown = () => {}, isStale = () => false, timers = globalThis) {
    this.#isRunning = isRunning;
    this.#onShown = onShown;
    this.#isStale = isStale;
    this.#timers = timers;
  }

  /** The script's state may have changed. */
  look() {
    const isRunning = this.#isRunning();
    if (isRunning && !this.#wasRunning) this.#run += 1;
    this.#wasRunning = isRunning;
    this.#timers.clearTimeout(this.#late);
    if (isRunning) return;
    this.#late = this.#timers.setTimeout(() => {
      this.#flush();
      for (const done of this.#ends.splice(0)) done();
    }, LATE);
  }

  /**
   * Show a part with all else of its moment. What the root was to show before is forgotten.
   * @param {Root} root
   * @param {() => void} show
   */
  offer(root, show) {
    // A script that is run again before it has ended does not always rest in between: who is sent twice tells it.
    if (this.#isRunning() && this.#shown.get(root) === this.#run) this.#run += 1;
    this.#waiting.set(root, show);
    const isFirst = !this.#isElsewhere(root) && !this.#shown.has(root);
    if (!this.#isRunning() || isFirst) this.#flush();
    else this.#limit ??= this.#timers.setTimeout(() => this.#flush(), LONGEST);
  }

  /**
   * Resolves when no script runs, at once if none does.
   * @returns {Promise<void>}
   */
  ended() {
    return this.#isRunning() ? new Promise((resolve) => this.#ends.push(resolve)) : Promise.resolve();
  }

  #flush() {
    this.#timers.clearTimeout(this.#limit);
    this.#limit = undefined;
    const parts = [...this.#waiting];
    this.#waiting.clear();
    for (const [root, show] of parts) {
      if (!root.isConnected) continue;
      this.#shown.set(root, this.#run);
      show();
    }
    for (const root of this.#shown.keys()) if (!root.isConnected) this.#shown.delete(root);
    this.#onShown();
  }

  /**
   * Whether another part on the page is of an earlier run of the script.
   * @param {Root} root
   */
  #isElsewhere(root) {
    return [...this.#shown].some(([other, run]) =>
      other !== root && other.isConnected && (run !== this.#run || this.#isStale(other))
    );
  }
}
