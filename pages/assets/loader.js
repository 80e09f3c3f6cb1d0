// All that Streamlit is given of a component: it sends a component's script with every element, so this one is short,
// and the browser fetches the module that it names once. Python writes the module's address in place of the word below.
const address = new URL("MODULE_ADDRESS", document.baseURI).href;
const ATTEMPTS = 4, PAUSE = 1000;

/**
 * The module, asked for again when the server does not answer: a page that comes up while it is busy is not lost.
 * @param {number} left how many more times it may be asked for
 * @returns {Promise<{default: (mounted: object) => unknown}>}
 */
const fetched = async (left) => {
  try {
    // A browser may remember that an address has failed; with a number behind it, it is another one.
    return await import(left === ATTEMPTS ? address : `${address}?${left}`);
  } catch (problem) {
    if (!left) throw problem;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    return fetched(left - 1);
  }
};

export default (await fetched(ATTEMPTS)).default;
