// What a reader would see go wrong on a page: a list of problems, and every pair of text and
// background colours with the first words written in it. Run in the page by test_browser.py.
() => {
  const problems = [];
  const report = (problem, element) =>
    problems.push(`${problem}: <${element.localName}> ${element.textContent.trim().slice(0, 60)}`);
  document.querySelectorAll("details").forEach((details) => (details.open = true));

  // Nothing sticks out of the screen, and nothing is cut off where it cannot be scrolled to.
  const { scrollWidth } = document.scrollingElement;
  const outside = (element) => element.getBoundingClientRect().right > innerWidth + 1;
  if (scrollWidth > innerWidth)
    report(`${scrollWidth} wide`, [...document.querySelectorAll("body *")].findLast(outside));
  for (const element of document.querySelectorAll("article, article *")) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const hides = (overflow) => ["hidden", "clip"].includes(overflow);
    const wide = hides(overflowX) && element.scrollWidth > element.clientWidth + 1;
    if (wide || (hides(overflowY) && element.scrollHeight > element.clientHeight + 1))
      report("cut off", element);
  }

  // Formulas are set, and no LaTeX is left over.
  for (const formula of document.querySelectorAll("math")) {
    const { width, height } = formula.getBoundingClientRect();
    if (!width || !height) report("empty formula", formula);
    if (formula.querySelector("merror") || formula.textContent.includes("\\"))
      report("broken formula", formula);
    for (const fraction of formula.querySelectorAll("mfrac")) {
      const [over, under] = [...fraction.children].map((part) => part.getBoundingClientRect());
      if (over.bottom > under.top) report("fraction on one line", formula);
    }
  }

  for (const image of document.images)
    if (!image.naturalWidth) problems.push(`no picture: ${image.getAttribute("src")}`);

  const colors = {};
  const transparent = (color) => color.startsWith("rgba") && color.endsWith(" 0)");
  const background = (element) => {
    const color = element ? getComputedStyle(element).backgroundColor : "rgb(255, 255, 255)";
    return transparent(color) ? background(element.parentElement) : color;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    const hidden = { visibilityProperty: true, opacityProperty: true };
    if (!text || !element.checkVisibility(hidden) || element.closest("script, style")) continue;
    if (!element.closest("code, pre, math") && /\$|\\[a-z([]|[_^]\{/i.test(text))
      report("LaTeX", element);
    colors[`${getComputedStyle(element).color} on ${background(element)}`] ??= text.slice(0, 60);
  }
  return { problems, colors };
}
