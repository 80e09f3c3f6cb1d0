/** A clock that stands still until a test lets time pass. */

export class Time {
  #now = 0;
  #next = 1;
  /** @type {Map<number, {at: number, done: () => void}>} */
  #timers = new Map();

  /**
   * @param {() => void} done
   * @param {number} ms
   */
  setTimeout(done, ms) {
    this.#timers.set(this.#next, { at: this.#now + ms, done });
    return this.#next++;
  }

  /** @param {number | undefined} timer */
  clearTimeout(timer) {
    if (timer !== undefined) this.#timers.delete(timer);
  }

  /**
   * Let milliseconds pass, with all that is due in them, in its order.
   * @param {number} ms
   */
  pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) =>
        at <= end
      ).sort(([, one], [, other]) => one.at - other.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = due[1].at;
      due[1].done();
    }
    this.#now = end;
  }
}
