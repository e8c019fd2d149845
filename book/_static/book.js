// What style alone cannot do: whatever scrolls sideways can be reached from the keyboard, and what
// can be pressed has a name.
(() => {
  const scrolling = "div.math mjx-container, mjx-container.tinyamp-wide, .bd-article pre, .cell_output, .pst-scrollable-table-container";
  const update = () => {
    // Formulas in a line scroll only where they are wider than the page.
    for (const formula of document.querySelectorAll("mjx-container:not([display])")) {
      formula.classList.remove("tinyamp-wide");
      formula.classList.toggle("tinyamp-wide", formula.scrollWidth > formula.clientWidth + 8);
    }
    for (const element of document.querySelectorAll(scrolling)) {
      if (element.scrollWidth > element.clientWidth + 1) {
        element.tabIndex = 0;
      } else if (element.getAttribute("tabindex") === "0") {
        element.removeAttribute("tabindex");
      }
    }
  };
  window.addEventListener("load", () => {
    // Sphinx calls its list of references a list, although there is more in it than its entries.
    document.querySelector(".citation-list")?.removeAttribute("role");
    // The theme's arrow that unfolds a part of the contents has no name.
    for (const arrow of document.querySelectorAll("nav details > summary")) {
      const name = arrow.closest("li")?.querySelector("a")?.textContent.trim();
      arrow.setAttribute("aria-label", `Pages of ${name ?? "this part"}`);
    }
    (window.MathJax?.startup?.promise ?? Promise.resolve()).then(update);
    window.addEventListener("resize", update);
  });
})();
