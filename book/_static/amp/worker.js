// What takes longer than a frame, away from the page: rendering a loop, and measuring speed.

import { measureSpeed, renderLoop } from "./amp.js";

addEventListener("message", ({ data: { id, job, module, signal } }) => {
  try {
    const result = job === "render" ? renderLoop(module, signal) : measureSpeed(module);
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: String(error) });
  }
});
