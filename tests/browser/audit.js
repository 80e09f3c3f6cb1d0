() => {
  const parse = (text) => {
    const found = text.match(/[\d.]+(?:e-?\d+)?/g);
    if (!found || text === "transparent") return [0, 0, 0, 0];
    const parts = found.map(Number);
    const scale = text.startsWith("color(srgb") ? 255 : 1;
    return [parts[0] * scale, parts[1] * scale, parts[2] * scale, parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, below) => {
    const alpha = top[3];
    return [0, 1, 2].map((i) => top[i] * alpha + below[i] * (1 - alpha)).concat(1);
  };
  const linear = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = (color) => 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
  const chain = (element) => { const found = []; for (let e = element; e; e = e.parentElement) found.push(e); return found; };
  const background = (element) => {
    let color = [255, 255, 255, 1];
    const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    const below = (one) => {  // what is drawn beside the text, such as the handle of a slider, is not behind it
      const own = one.getBoundingClientRect();
      return one === document.body || one === document.documentElement
        || (own.left <= x && x <= own.right && own.top <= y && y <= own.bottom);
    };
    for (const one of chain(element).reverse().filter(below)) color = over(parse(getComputedStyle(one).backgroundColor), color);
    return color;
  };
  const visible = (element) => {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    return box.width > 1 && box.height > 1 && style.visibility !== "hidden" && style.display !== "none"
      && !element.closest("[aria-hidden=true],[hidden],canvas,iframe,[data-testid=stToastContainer]");
  };
  const off = (element) => element.closest("[disabled],[aria-disabled=true],[data-stale=true]")
    || chain(element).some((e) => e.matches("label") && e.querySelector("[disabled],[aria-disabled=true]"));
  const faint = [], seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element || seen.has(element) || ["SCRIPT", "STYLE", "NOSCRIPT", "TITLE"].includes(element.tagName)) continue;
    seen.add(element);
    if (!visible(element) || off(element) || element.closest("[data-testid=stIconMaterial],.js-plotly-plot .slice,.treemaplayer")) continue;
    const style = getComputedStyle(element), svg = element instanceof SVGElement;
    const opacity = chain(element).reduce((all, one) => all * Number(getComputedStyle(one).opacity), 1);
    if (opacity < 0.05) continue;  // shown on hover only
    const ink = parse(svg ? style.fill : style.color);
    ink[3] *= opacity * (svg ? Number(style.fillOpacity) : 1);
    const below = background(element), shown = over(ink, below);
    const [high, low] = [light(shown), light(below)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005)
      faint.push(`${ratio.toFixed(2)} ${text.slice(0, 40)} <${element.tagName.toLowerCase()} ${(element.closest("[data-testid]")?.dataset.testid) || ""}>`);
  }
  const headings = [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")].filter(visible);
  const levels = headings.map((one) => [Number(one.tagName[1]), one.textContent.trim().slice(0, 40)]);
  const named = (one) => (one.getAttribute("aria-label") || one.getAttribute("alt") || one.getAttribute("title")
    || one.textContent || one.getAttribute("placeholder") || "").trim()
    || (one.labels && one.labels.length) || one.getAttribute("aria-labelledby");
  const nameless = [...document.querySelectorAll("img,[role=img],[role=figure],button,a[href],input,textarea,[role=slider]")]
    .filter((one) => visible(one) && !named(one) && !one.closest("label")).map((one) => one.outerHTML.slice(0, 120));
  return {faint, levels, nameless};
}
