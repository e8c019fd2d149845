// Loads the widgets of amp/ on pages that have one. Where it cannot, it says why, and the players
// inside the widgets stay. No module, so that it also runs on file://.
(() => {
  const here = document.currentScript.src;
  const tell = (text) => {
    for (const place of document.querySelectorAll(".ta-why")) place.textContent = text;
  };
  const start = () => {
    if (!document.querySelector("tinyamp-bench, tinyamp-live")) return;
    if (location.protocol === "file:")
      tell("You opened this page as a file, and browsers do not let a file load what this needs. Run make serve in the book's folder and open the address that it names.");
    else if (typeof WebAssembly !== "object" || typeof customElements !== "object")
      tell("This browser has no WebAssembly, so the networks cannot run on the page. A newer browser can.");
    else
      import(new URL("amp/main.js", here)).catch((error) => tell(`This could not be loaded (${error.message}). Load the page again.`));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
