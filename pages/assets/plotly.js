/** The charting library: one script of the page, fetched when the first chart needs it. */

/** @type {Promise<any> | undefined} */
let loading;

/**
 * The library, if the page has it already.
 * @returns {any}
 */
export const loaded = () => Reflect.get(globalThis, "Plotly");

/**
 * @param {string} url
 * @returns {Promise<any>} the library; rejected where it cannot be fetched, and asked for anew the next time
 */
export const load = (url) =>
  loading ??= new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = url;
    tag.onload = () => resolve(loaded());
    tag.onerror = () => {
      loading = undefined;
      reject(new Error(`cannot load ${url}`));
    };
    document.head.append(tag);
  });
