/** Charts in the colours of the page, whose theme a person may change at any time. */

/**
 * Colours and fonts of the page around a chart, as a layout takes them.
 * @param {Element} host
 */
export const themeOf = (host) => {
  const style = getComputedStyle(host);
  /** @param {string} name */
  const color = (name) => style.getPropertyValue(name).trim();
  const text = color("--st-text-color") || style.color, back = color("--st-background-color");
  const grid = color("--st-border-color") || "rgba(128,136,144,.3)";
  const panel = color("--st-secondary-background-color");
  const axis = {
    gridcolor: grid,
    linecolor: grid,
    zerolinecolor: grid,
    tickfont: { size: 12 },
    spikecolor: grid,
    spikethickness: 1,
    spikedash: "solid",
    title: { font: { size: 13 } },
  };
  const template = {
    layout: {
      font: { family: style.fontFamily, color: text },
      xaxis: { ...axis, showgrid: false },
      yaxis: axis,
      title: { font: { weight: 600 } },
      hoverlabel: { bgcolor: panel, bordercolor: grid, font: { color: text, family: style.fontFamily } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: text },
    },
  };
  return { ...(back && { paper_bgcolor: back, plot_bgcolor: back }), template };
};

/**
 * Act when the page around an element has changed its colours, whoever did it: a transition tells.
 * @param {HTMLElement} host
 * @param {() => void} act
 */
export const onThemeChange = (host, act) => {
  host.style.transition = "color 1ms";
  host.addEventListener("transitionend", (event) => {
    if (event.target === host && event.propertyName === "color") act();
  });
};
