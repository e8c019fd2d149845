// What style alone cannot do: whatever scrolls sideways can be reached from the keyboard.
(() => {
  const scrolling = "div.math mjx-container, .bd-article pre, .cell_output, .pst-scrollable-table-container";
  const update = () => {
    for (const element of document.querySelectorAll(scrolling)) {
      if (element.scrollWidth > element.clientWidth + 1) {
        element.tabIndex = 0;
      } else if (element.getAttribute("tabindex") === "0") {
        element.removeAttribute("tabindex");
      }
    }
  };
  window.addEventListener("load", () => {
    (window.MathJax?.startup?.promise ?? Promise.resolve()).then(update);
    window.addEventListener("resize", update);
  });
})();
