// What the widgets share: elements, files that are loaded once, models, the worker, the audio.

import { hasVectors } from "./amp.js";

export const PLAY = new URL("../play/", import.meta.url);
export const RATE = 44100;
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

// An element; attributes that begin with "on" are listeners, `false` and null are left out.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let numbers = 0;
export const newId = (name) => `tinyamp-${name}-${++numbers}`;

// A labelled <select>. `options` are [value, text] pairs.
export function choice(label, options, chosen, onchange) {
  const id = newId("choice");
  const select = h("select", { id, onchange: () => onchange(select.value) });
  for (const [value, text] of options) select.append(h("option", { value }, text));
  select.value = chosen;
  return h("div", { class: "ta-field" }, h("label", { for: id }, label), select);
}

// A labelled slider that says in words where it stands.
export function slider(label, { min, max, step = 1, value, words, oninput }) {
  const id = newId("slider");
  const said = h("span", { class: "ta-said", "aria-hidden": "true" }); // aria-valuetext says it
  const input = h("input", { type: "range", id, min, max, step });
  const set = (number) => {
    input.value = number;
    const text = words(Number(input.value));
    input.setAttribute("aria-valuetext", text);
    said.textContent = text;
  };
  input.addEventListener("input", () => {
    set(input.value);
    oninput(Number(input.value));
  });
  set(value);
  const field = h("div", { class: "ta-field ta-slider" }, h("label", { for: id }, label), said, input);
  return { field, input, set };
}

const loaded = new Map();
// What `make` returns for `key`, made once; a failure may be tried again.
function once(key, make) {
  if (!loaded.has(key)) {
    const made = make();
    loaded.set(key, made);
    made.catch(() => loaded.delete(key));
  }
  return loaded.get(key);
}

async function get(name) {
  const answer = await fetch(new URL(name, PLAY));
  if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status}).`);
  return answer;
}

const loadManifest = () => once("manifest.json", async () => (await get("manifest.json")).json());

export const loadModule = (name) =>
  once(name, async () => WebAssembly.compile(await (await get(name)).arrayBuffer()));

// The samples of a sound of the manifest, { file, gain }, at the level that it had before `gain`.
export const loadSound = ({ file, gain }) =>
  once(file, async () => {
    const bytes = await (await get(file)).arrayBuffer();
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
    return decoded.getChannelData(0).map((value) => value / gain);
  });

let worker = null;
const waiting = new Map();
// Have the worker do a job; see worker.js.
export function work(job, module, signal = null) {
  if (!worker) {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    });
    worker.addEventListener("error", (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message || "no worker"));
      waiting.clear();
      worker = null;
    });
  }
  const id = newId("job");
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, job, module, signal });
  });
}

// The output of a module for a loop, computed once.
export const renderOnce = (name, loop, signal) =>
  once(`${name} ${loop}`, async () => work("render", await loadModule(name), signal));

// One thing is heard at a time: whoever starts, a widget or a player, says so, and all others stop.
const starters = new Set();
let last = null;
export function stopWhenOthersStart(owner, stop) {
  starters.add({ owner, stop });
}
export function iStart(owner) {
  last = owner;
  for (const audio of document.querySelectorAll("audio")) if (audio !== owner) audio.pause();
  for (const other of starters) if (other.owner !== owner) other.stop();
}
// A widget takes time to start, and something else may have been started since.
export const startedLast = (owner) => last === owner;
document.addEventListener("play", ({ target }) => target.tagName === "AUDIO" && iStart(target), true);

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const stageName = ({ number, sparsity }) =>
  number === 0 ? "stage 0, unpruned" : `stage ${number}, ${percent(sparsity)} pruned`;

// What a stage has left, in words.
export const stageWords = (stage, whole) =>
  `${stage.units} of ${whole.units} units, ${stage.active} of ${whole.active} weights`;

// The slider over the stages of a device, with buttons to its two ends. `device()` is asked anew,
// as it may change: call `update` then.
export function stageSlider(label, device, chosen, oninput) {
  const stages = () => device().stages;
  const made = slider(label, {
    min: 0,
    max: stages().length - 1,
    value: chosen,
    words: (index) => {
      const stage = stages()[index] ?? stages()[0];
      return `${stageName(stage)}: ${stageWords(stage, stages()[0])}`;
    },
    oninput,
  });
  const update = (index) => {
    made.input.max = stages().length - 1;
    made.input.disabled = stages().length < 2;
    made.set(Math.min(index, stages().length - 1));
  };
  update(chosen);
  return { ...made, update };
}

// The index of the stage that is shown as "pruned", or 0 when there is only the unpruned model.
export const prunedIndex = (device) =>
  Math.max(0, device.stages.findIndex((stage) => stage.number === device.pruned));

// The manifest, if `widget` can work here; else null, and the widget says why: what stands in it,
// players, stays.
export async function manifestFor(widget, needs) {
  let manifest = null, why;
  try {
    manifest = await loadManifest();
    why = missing(manifest, needs);
  } catch (error) {
    why = `The sounds of this page are not here (${error.message}) Build the book with make book.`;
  }
  if (why) widget.querySelector(".ta-why")?.replaceChildren(why);
  return why ? null : manifest;
}

// Without an audio output some browsers wait for one, in silence: then say so.
export function wake(context) {
  const late = new Promise((_, refuse) => {
    const words = "the browser has found no audio output. Connect headphones or a loudspeaker, and try again.";
    setTimeout(() => refuse(new Error(words)), 5000);
  });
  return Promise.race([context.resume(), late]);
}

// Why a widget cannot work here, as a sentence, or null.
function missing(manifest, { worklet = false } = {}) {
  if (typeof WebAssembly !== "object")
    return "This browser has no WebAssembly, so the networks cannot run on the page.";
  if (!hasVectors())
    return "This browser's WebAssembly has no 128-bit vectors, so the networks cannot run on the page: a newer browser can.";
  if (!manifest.compiled)
    return `The networks were not compiled when this book was built. ${manifest.reason}`;
  if (worklet && !("audioWorklet" in BaseAudioContext.prototype))
    return isSecureContext
      ? "This browser has no AudioWorklet, so the live amp cannot run: a newer browser can."
      : "Browsers run a live amp only on https:// or localhost: run make serve, and open the page there.";
  return null;
}
