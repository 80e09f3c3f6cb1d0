/**
 * Which addresses become entries of the browser's history. Back leads to another page or another run: whatever else
 * changes in an address is no place of its own.
 */

/**
 * What to do with the address that a page would add.
 * @param {URL} now
 * @param {URL} next
 * @returns {"push" | "replace" | "ignore"}
 */
export const entryOf = (now, next) => {
  const run = now.searchParams.get("run"), nextRun = next.searchParams.get("run");
  if (next.pathname !== now.pathname) return "push";
  if (run === null) return "replace";
  // Streamlit takes what a page has added out of its address before it goes to the next one: the page is left as it was.
  if (nextRun === null) return "ignore";
  return run === nextRun ? "replace" : "push";
};

/** From now on the history of this tab holds pages and runs alone. */
export const keepPlaces = () => {
  const push = history.pushState, replace = history.replaceState;
  /** @type {typeof history.pushState} */
  history.pushState = function (state, unused, address) {
    const now = new URL(location.href), kind = entryOf(now, new URL(address ?? now, now));
    if (kind !== "ignore") (kind === "push" ? push : replace).call(history, state, unused, address);
  };
};
