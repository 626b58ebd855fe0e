// What must hold for any view, asked inside the page: each function lists what breaks its rule.
({
  // Texts whose contrast to what is behind them is below 4.5, as WCAG 2.2 (AA) asks.
  lowContrast() {
    const channel = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const luminance = (color) => {
      const [red, green, blue] = color.match(/[\d.]+/g).map((part) => channel(Number(part) / 255));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (element) => {
      for (let one = element; one; one = one.parentElement) {
        const color = getComputedStyle(one).backgroundColor;
        if (!color.startsWith("rgba(0, 0, 0, 0")) return color;
      }
      return "rgb(255, 255, 255)";
    };
    const ratio = (element) => {
      const both = [getComputedStyle(element).color, behind(element)].map(luminance);
      return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return [...document.querySelectorAll("body *")]
      .filter((element) => element.checkVisibility() && !element.closest("svg, noscript") && hasText(element))
      .filter((element) => ratio(element) < 4.5)
      .map((element) => element.textContent.trim().slice(0, 40));
  },

  // Controls and links without a name that a screen reader could tell.
  unnamed() {
    const named = (element) =>
      element.labels?.length ||
      element.getAttribute("aria-label") ||
      (["A", "BUTTON"].includes(element.tagName) && element.textContent.trim());
    return [...document.querySelectorAll("input, select, textarea, button, a")]
      .filter((element) => element.checkVisibility() && !element.closest(".js-plotly-plot") && !named(element))
      .map((element) => element.outerHTML);
  },

  // The name of what has the focus.
  focused() {
    const element = document.activeElement;
    return (element.labels?.[0]?.textContent || element.getAttribute("aria-label") || element.textContent).trim();
  },
});
