"use strict";
// A MUSHRA test in one page: no server, no library. The test itself, sounds and all, is the JSON
// in the page; which sound is which is in its key, decoded only to play and to save.

const FADE = 0.008; // seconds of cross-fade: neither a click nor a gap
const SHORTEST = 0.3; // seconds of the shortest loop
const WORDS = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const SLOTS = ["A", "B", "C", "D"];
const COLUMNS = ["test", "source", "listener", "seed", "device", "passage", "instrument",
  "position", "slot", "condition", "rating"];

// ---- Chance: the same numbers as tinyamp.listening.random_numbers ------------------------------

function randomNumbers(seed) { // mulberry32
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

function shuffled(count, number) { // Fisher and Yates
  const order = Array.from({ length: count }, (_, k) => k);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor((number() / 2 ** 32) * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

function presentation(seed, trials, conditions = SLOTS.length) {
  const number = randomNumbers(seed);
  return shuffled(trials, number).map((trial) => [trial, shuffled(conditions, number)]);
}

// ---- Sound: all of a trial's sounds run together, and one of them is heard ---------------------

function makeDeck(context, buffers, seconds) {
  const volume = new GainNode(context);
  const gains = buffers.map(() => new GainNode(context, { gain: 0 }));
  let stage = null, sources = [], from = 0, to = seconds, startedAt = 0, offset = 0, heard = -1;
  volume.connect(context.destination);

  const aims = new Map(); // not all browsers say where a ramp is, so where it went is kept here

  function ramp(parameter, value) {
    const now = context.currentTime;
    parameter.cancelScheduledValues(now);
    parameter.setValueAtTime(aims.get(parameter) ?? 0, now);
    parameter.linearRampToValueAtTime(value, now + FADE);
    aims.set(parameter, value);
  }
  function position() {
    if (!sources.length) return offset;
    const run = Math.max(0, context.currentTime - startedAt);
    return from + ((offset - from + run) % (to - from));
  }
  function play(at = offset) {
    if (sources.length) pause();
    offset = at >= from && at < to ? at : from;
    stage = new GainNode(context, { gain: 0 });
    stage.connect(volume);
    for (const gain of gains) gain.connect(stage);
    sources = buffers.map((buffer, k) => {
      const loop = { buffer, loop: true, loopStart: from, loopEnd: to };
      const source = new AudioBufferSourceNode(context, loop);
      source.connect(gains[k]);
      return source;
    });
    startedAt = context.currentTime;
    for (const source of sources) source.start(startedAt, offset); // one instant for all
    ramp(stage.gain, 1);
  }
  function pause() {
    offset = position();
    for (const source of sources) source.stop(context.currentTime + FADE);
    sources = [];
    if (!stage) return;
    ramp(stage.gain, 0);
    const old = stage;
    stage = null;
    setTimeout(() => {
      old.disconnect();
      aims.delete(old.gain);
    }, 1000 * FADE + 100);
  }
  function select(number) {
    heard = number;
    gains.forEach((gain, k) => ramp(gain.gain, k === number ? 1 : 0));
  }
  function loop(start, end) {
    const running = sources.length > 0, now = position();
    if (running) pause();
    from = start;
    to = end;
    offset = now >= from && now < to ? now : from;
    if (running) play();
  }
  return { play, pause, select, loop, position, volume,
    get playing() { return sources.length > 0; }, get heard() { return heard; } };
}

// ---- The page ----------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const test = JSON.parse($("test").textContent);
const key = JSON.parse(atob(test.key));
const trials = test.trials.length;
let context = null, deck = null, order = [], seed = 0, listener = "", at = -1, level = 0;
const answers = []; // by position: [rating or null, …] of A to D
let heardHere = new Set();

function show(section) {
  for (const one of document.querySelectorAll("main > section")) one.hidden = one.id !== section;
  $(section).querySelector("h2").focus();
}

function complain(text) {
  $("alert").textContent = text;
  $("alert").hidden = false;
}

async function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return context.decodeAudioData(bytes.buffer);
}

async function load(sounds) {
  deck?.pause();
  const buffers = await Promise.all(sounds.map(decode));
  deck = makeDeck(context, buffers, test.seconds);
  deck.volume.gain.value = level;
}

function hear(number, button) {
  context.resume();
  deck.select(number);
  if (!deck.playing) deck.play();
  const group = button.closest("section");
  for (const one of group.querySelectorAll("button[data-sound]"))
    one.setAttribute("aria-pressed", String(one === button));
  said();
}

function said() { // what the play button says
  $("play").textContent = deck?.playing ? "Pause" : "Play";
}

function setVolume() {
  const percent = Number($("volume").value);
  level = (percent / 100) ** 2; // the ear hears ratios
  $("volume").setAttribute("aria-valuetext", `${percent} per cent`);
  $("volume-said").textContent = `${percent} %`;
  if (deck) deck.volume.gain.value = level;
}

async function toTraining() {
  const Context = window.AudioContext || window.webkitAudioContext;
  if (!Context) return complain("This browser has no Web Audio, which the test needs.");
  const wanted = new URLSearchParams(location.search).get("seed") ?? test.seed;
  seed = wanted === null ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(wanted) >>> 0;
  listener = $("listener").value.trim().replace(/[^\p{L}\p{N}_-]+/gu, "-").slice(0, 40)
    || `listener-${seed.toString(16)}`;
  order = presentation(seed, trials);
  try {
    context ??= new Context({ sampleRate: test.rate });
    if (test.training.length) {
      await load(test.training.map((sound) => sound.audio));
      $("training-sounds").replaceChildren(...test.training.map((sound, k) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.sound = String(k);
        button.setAttribute("aria-pressed", "false");
        button.textContent = sound.label;
        button.addEventListener("click", () => hear(k, button));
        return button;
      }));
    }
  } catch (error) {
    return complain(`The sounds cannot be played in this browser: ${error.message}`);
  }
  setVolume();
  show("training");
}

// One row a sound: its button, its slider, its rating.
function makeRow(slot, number) {
  const row = document.createElement("div");
  row.className = "sound";
  row.innerHTML = `<button type="button" data-sound="${slot}" aria-pressed="false"
    aria-label="Hear ${slot}">${slot}</button>
    <label for="rate-${slot}">Rating of ${slot}</label>
    <span class="track"><input id="rate-${slot}" type="range" min="0" max="100" step="1"
    value="0"></span><output for="rate-${slot}"></output>`;
  const button = row.querySelector("button"), slider = row.querySelector("input");
  button.addEventListener("click", () => {
    heardHere.add(slot);
    hear(soundOf(number), button);
  });
  const rate = () => {
    answers[at][number] = Number(slider.value);
    showRating(row, answers[at][number]);
  };
  slider.addEventListener("input", rate);
  slider.addEventListener("pointerup", rate); // a press at 0 is a rating, too
  slider.addEventListener("keyup", (event) => {
    if (/^(Arrow|Page|Home|End)/.test(event.key)) rate();
  });
  return row;
}

function showRating(row, rating) {
  const word = rating === null ? "" : WORDS[Math.min(Math.floor(rating / 20), 4)];
  row.querySelector("output").textContent = rating === null ? "–" : String(rating);
  row.querySelector("input").setAttribute(
    "aria-valuetext", rating === null ? "not rated yet" : `${rating}, ${word}`);
}

// Where in the page's data the sound of a slot is; -1: the reference.
function soundOf(number) {
  const [trial, slots] = order[at];
  const condition = number < 0 ? key.conditions.indexOf("reference") : slots[number];
  return key.trials[trial].indexOf(condition);
}

async function toTrial(position) {
  at = position;
  answers[at] ??= SLOTS.map(() => null);
  heardHere = new Set();
  $("number").textContent = String(at + 1);
  $("next").textContent = at + 1 < trials ? "Next trial" : "Finish";
  $("missing").textContent = "";
  $("sounds").replaceChildren(...SLOTS.map(makeRow));
  for (const [k, row] of [...$("sounds").children].entries()) showRating(row, answers[at][k]);
  $("reference").setAttribute("aria-pressed", "false");
  for (const id of ["from", "to"]) $(id).max = String(test.seconds);
  $("from").value = "0";
  $("to").value = String(test.seconds);
  try {
    await load(test.trials[order[at][0]].sounds);
  } catch (error) {
    return complain(`The sounds of this trial cannot be played: ${error.message}`);
  }
  saidLoop();
  said();
  show("trial");
}

function saidLoop() {
  for (const id of ["from", "to"]) {
    $(`${id}-said`).textContent = `${Number($(id).value).toFixed(1)} s`;
    $(id).setAttribute("aria-valuetext", `${Number($(id).value).toFixed(1)} seconds`);
  }
}

function setLoop(moved) {
  const room = (value) => Math.min(Math.max(value, 0), test.seconds);
  if (Number($("to").value) - Number($("from").value) < SHORTEST) {
    const other = moved === "from" ? "to" : "from";
    const step = moved === "from" ? SHORTEST : -SHORTEST;
    $(other).value = String(room(Number($(moved).value) + step));
    if (Number($("to").value) - Number($("from").value) < SHORTEST)
      $(moved).value = String(room(Number($(other).value) - step));
  }
  deck.loop(Number($("from").value), Number($("to").value));
  saidLoop();
}

function next() {
  const unheard = ["Reference", ...SLOTS].filter((name) => !heardHere.has(name));
  const unrated = SLOTS.filter((_, k) => answers[at][k] === null);
  const parts = [];
  if (unheard.length) parts.push(`Not heard yet: ${unheard.join(", ")}.`);
  if (unrated.length) parts.push(`Not rated yet: ${unrated.join(", ")}.`);
  $("missing").textContent = parts.join(" ");
  if (parts.length) return;
  if (at + 1 < trials) toTrial(at + 1);
  else toEnd();
}

// ---- The ratings -------------------------------------------------------------------------------

function ratings() {
  return order.flatMap(([trial, slots], position) => slots.map((condition, k) => ({
    test: test.id,
    source: "listener",
    listener,
    seed,
    device: test.trials[trial].device,
    passage: test.trials[trial].passage,
    instrument: test.trials[trial].instrument,
    position: position + 1,
    slot: SLOTS[k],
    condition: key.conditions[condition],
    rating: answers[position][k],
  })));
}

function csvText() {
  const quoted = (value) => /[",\n\r]/.test(String(value))
    ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const lines = ratings().map((row) => COLUMNS.map((name) => quoted(row[name])).join(","));
  return [COLUMNS.join(","), ...lines].join("\n") + "\n";
}

function jsonText() {
  return JSON.stringify({ format: "tinyamp-ratings", ratings: ratings() }, null, 1) + "\n";
}

function save(text, kind, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = `ratings-${listener}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  $("saved").textContent = `${link.download} was handed to the browser to save.`;
}

function toEnd() {
  deck.pause();
  const rows = ratings();
  const devices = [...new Set(rows.map((row) => row.device))].sort();
  const mean = (list) => list.reduce((sum, row) => sum + row.rating, 0) / list.length;
  const table = document.querySelector("#end table");
  table.tHead.rows[0].replaceChildren(...["Sound", ...devices].map((text) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    return cell;
  }));
  table.tBodies[0].replaceChildren(...key.conditions.map((condition) => {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = condition;
    line.append(head, ...devices.map((device) => {
      const cell = document.createElement("td");
      const mine = rows.filter((r) => r.device === device && r.condition === condition);
      cell.textContent = mean(mine).toFixed(1);
      return cell;
    }));
    return line;
  }));
  const misses = rows.filter((row) => row.condition === "reference" && row.rating < 90).length;
  const kept = misses <= 0.15 * trials;
  $("screening").textContent = `You gave the hidden reference less than 90 in ${misses} of `
    + `${trials} trials. By the rule of the test (not in more than 15 %), your ratings would `
    + (kept ? "count." : "not count: that happens to good ears, too, when all sounds are alike.");
  $("text").value = csvText();
  show("end");
}

// ---- Wiring ------------------------------------------------------------------------------------

for (const one of document.querySelectorAll(".count")) one.textContent = String(trials);
$("reference").dataset.sound = "Reference";
$("to-training").addEventListener("click", toTraining);
$("volume").addEventListener("input", setVolume);
$("to-trials").addEventListener("click", () => toTrial(0));
$("reference").addEventListener("click", () => {
  heardHere.add("Reference");
  hear(soundOf(-1), $("reference"));
});
$("play").addEventListener("click", () => {
  if (deck.playing) deck.pause();
  else if (deck.heard < 0) $("reference").click();
  else {
    context.resume();
    deck.play();
  }
  said();
});
for (const id of ["from", "to"]) $(id).addEventListener("input", () => setLoop(id));
$("next").addEventListener("click", next);
$("save-csv").addEventListener("click", () => save(csvText(), "text/csv", "csv"));
$("save-json").addEventListener("click", () => save(jsonText(), "application/json", "json"));
document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || !$("keys").checked || event.repeat) return;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const wanted = { r: "#reference", p: "#play" }[event.key.toLowerCase()]
    ?? (/^[1-4]$/.test(event.key) ? `[data-sound="${SLOTS[event.key - 1]}"]` : null);
  if (wanted) document.querySelector(wanted).click();
});

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let drawn = 0;
requestAnimationFrame(function draw(now) { // where in the loop the music is
  if (deck && !$("trial").hidden && now - drawn > (calm.matches ? 500 : 0)) {
    drawn = now;
    $("place").firstElementChild.style.width = `${(100 * deck.position()) / test.seconds}%`;
  }
  requestAnimationFrame(draw);
});

// In a page of the book: as high as it needs to be, and light or dark as the book is.
try {
  if (window.frameElement) {
    const outer = window.parent.document.documentElement;
    const fit = () => {
      const height = document.querySelector("main").getBoundingClientRect().height;
      window.frameElement.style.height = `${Math.ceil(height) + 4}px`;
    };
    new ResizeObserver(fit).observe(document.querySelector("main"));
    const dress = () => {
      if (outer.dataset.theme) document.documentElement.dataset.theme = outer.dataset.theme;
    };
    new MutationObserver(dress).observe(outer, { attributeFilter: ["data-theme"] });
    dress();
  }
} catch { /* the page around is of another origin: it keeps its height, and scrolls */ }
if (window.parent === window)
  window.addEventListener("beforeunload", (event) => {
    if (answers.flat().some((rating) => rating !== null) && !$("saved").textContent)
      event.preventDefault(); // ratings that are not saved would be lost
  });
