/**
 * How often a panel asks for news. Every number is in seconds; a panel that asks more rarely shows words and charts
 * more rarely together.
 */

/** After so many answers without news it asks SLOWER times more rarely. */
export const QUIET_LIMIT = 8;
export const SLOWER = 4;
/** What is asked for rarely is still asked for so often. */
export const SLOWEST = 10;
/** After a press of a person it asks so soon. */
export const SOON = 0.5;
/** Part of the browser's time that the updates of a panel may take, as far as LONGEST allows. */
export const SHARE = 0.05;
/** To what dear drawing may stretch the time between two updates. */
export const LONGEST = 3;
/** The most that a panel waits whose channels are gone. */
export const LONGEST_LOST = 60;
const REMEMBERED = 5;

/**
 * Time between two updates where drawing takes as long as it lately did.
 * @param {number} seconds wanted
 * @param {readonly number[]} spent milliseconds that the last updates took to draw: their median counts
 */
export const pace = (seconds, spent) => {
  const sorted = [...spent].sort((one, other) => one - other);
  const median = sorted[sorted.length >> 1] ?? 0;
  return Math.max(seconds, Math.min(LONGEST, median / 1000 / SHARE));
};

/**
 * Time until the next question.
 * @param {number} each time between two, of `pace`
 * @param {number} quiet answers without news, in a row
 */
export const untilNext = (each, quiet) => quiet < QUIET_LIMIT ? each : Math.max(each, Math.min(SLOWEST, SLOWER * each));

/**
 * Time for which a panel rests after its channel was gone so many times in a row.
 * @param {number} times
 */
export const restOf = (times) => Math.min(LONGEST_LOST, SLOWEST * times);

/**
 * Remember how long an update took.
 * @param {number[]} spent the last ones, which it joins
 * @param {number} milliseconds
 */
export const remember = (spent, milliseconds) => {
  spent.push(milliseconds);
  if (spent.length > REMEMBERED) spent.shift();
};
