/** Charts in the colours of the page, whose theme a person may change at any time. */

/**
 * The layout with colours and fonts of the page around the chart.
 * @param {any} layout changed in place: a figure is drawn once
 * @param {Element} host
 */
export const themed = (layout, host) => {
  const style = getComputedStyle(host);
  /** @param {string} name */
  const color = (name) => style.getPropertyValue(name).trim();
  const text = color("--st-text-color") || style.color;
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
  layout.paper_bgcolor = layout.plot_bgcolor = color("--st-background-color") || layout.plot_bgcolor;
  layout.template = {
    layout: {
      font: { family: style.fontFamily, color: text },
      xaxis: { ...axis, showgrid: false },
      yaxis: axis,
      title: { font: { weight: 600 } },
      hoverlabel: { bgcolor: panel, bordercolor: grid, font: { color: text, family: style.fontFamily } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: text },
    },
  };
  return layout;
};
