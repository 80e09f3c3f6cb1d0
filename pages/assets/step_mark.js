/**
 * The step slider is Streamlit's own, so it moves before the pictures of its step are shown. Until they are, it lacks
 * the attribute `data-shown`, and the stylesheet writes an arrow before its step: it says where the page is going.
 */

const SLIDER = ".st-key-step-slider", VALUE = '[data-testid="stSliderThumbValue"]';
/** The words of each slider when the page last was of one moment. @type {WeakMap<Element, string>} */
const agreed = new WeakMap();

/** @param {Element} slider */
const wordsOf = (slider) => slider.querySelector(VALUE)?.textContent ?? "";

/** @param {Element} slider */
const mark = (slider) => {
  slider.toggleAttribute("data-shown", wordsOf(slider) === agreed.get(slider));
};

/**
 * The pictures of the steps that the sliders stand at are on the page now.
 * @param {boolean} [onlyNew] leave those alone that have been marked before: a person may have moved them since
 */
export const markShownSteps = (onlyNew = false) => {
  for (const slider of document.querySelectorAll(SLIDER)) {
    if (onlyNew && agreed.has(slider)) continue;
    if (!agreed.has(slider)) {
      new MutationObserver(() => mark(slider)).observe(slider, { subtree: true, childList: true, characterData: true });
    }
    agreed.set(slider, wordsOf(slider));
    mark(slider);
  }
};
