/**
 * One clock for all clips of a page: a count of frames, one speed, one pause, and who wants to hear of it. It stands
 * still in a hidden tab, when no clip is in the window, and from the start for people who ask for less motion.
 */

/** Frames a second that a person may choose. */
export const SPEEDS = [2, 4, 8, 16, 24];
/** Frames for which the last one is held, so that the end of a clip can be told from a jump in it. */
export const HOLD = 2;

/**
 * @typedef {object} Player
 * @property {Element} host
 * @property {boolean} isSeen it is in the window
 * @property {() => void} paint shows the frame of now
 */

/**
 * The frame that a clip of so many shows at a tick.
 * @param {number} tick
 * @param {number} frames
 */
export const frameAt = (tick, frames) => Math.min(tick % (frames + HOLD), frames - 1);

/**
 * Index of the picture that stands for a frame: the last one of a place at or before it.
 * @param {readonly number[]} places frames of which there are pictures, in ascending order
 * @param {number} frame
 */
export const pictureAt = (places, frame) => Math.max(0, places.findLastIndex((place) => place <= frame));

export class Clock {
  tick = 0;
  speed = 8;
  isPlaying = true;
  /** @type {Set<Player>} */
  players = new Set();
  /** @type {any} */
  #timer;
  #isHidden;
  #timers;

  /**
   * @param {() => boolean} isHidden whether nobody can see the page
   * @param {import("./moments.js").Timers} timers
   */
  constructor(isHidden, timers = globalThis) {
    this.#isHidden = isHidden;
    this.#timers = timers;
  }

  /**
   * Change what plays, for all players at once.
   * @param {Partial<Pick<Clock, "tick" | "speed" | "isPlaying">>} changes
   */
  set(changes) {
    Object.assign(this, changes);
    this.#paint();
    this.wake();
  }

  /** Go on, if there is anybody to go on for; it goes to sleep by itself. */
  wake() {
    const isWanted = this.isPlaying && !this.#isHidden() &&
      [...this.players].some(({ host, isSeen }) => host.isConnected && isSeen);
    if (this.#timer || !isWanted) return;
    this.#timer = this.#timers.setTimeout(() => {
      this.#timer = undefined;
      this.tick += 1;
      this.#paint();
      this.wake();
    }, 1000 / this.speed);
  }

  #paint() {
    for (const player of this.players) {
      if (!player.host.isConnected) this.players.delete(player);
      else if (player.isSeen) player.paint();
    }
  }
}
