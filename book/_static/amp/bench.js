// <tinyamp-bench>: one loop, four sounds in sync and at one level, and what is wrong with each.

import * as base from "./base.js";
import { drawOverview, drawSpectra, drawWave, redrawOnChange } from "./draw.js";
import { decibels, errorRatio, levelGains, minus, peak, scaled, spectrum } from "./signal.js";

const { h, RATE } = base;
const SOUNDS = { dry: "Dry", target: "Target", unpruned: "Unpruned", pruned: "Pruned" };
const WINDOW = 0.02; // seconds that the close-up shows
const FADE = 0.012; // seconds from one sound to another
const BOOST = 10; // how much louder the difference may be made: 20 dB

// Loops that run in step, of which one is heard.
class Deck {
  constructor() {
    this.context = null;
    this.tracks = new Map();
    this.heard = null;
  }

  get playing() {
    return this.tracks.size > 0;
  }

  // Where the loops are, in seconds.
  get position() {
    return (this.context.currentTime - this.begun) % this.length;
  }

  // `wanted` says, when the audio has woken up, what { sounds, heard } are, or null for no more.
  async start(wanted) {
    this.context ??= new AudioContext({ sampleRate: RATE });
    await base.wake(this.context);
    const found = wanted();
    if (!found) return this.stop();
    this.silence();
    const { sounds, heard } = found;
    this.heard = heard;
    this.length = sounds[heard].length / RATE;
    this.begun = this.context.currentTime + 0.02;
    for (const name of Object.keys(sounds)) this.add(name, sounds[name], this.begun, 0);
  }

  add(name, samples, when, offset) {
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer, loop: true });
    const gain = new GainNode(this.context, { gain: 0 });
    source.connect(gain).connect(this.context.destination);
    source.start(when, offset);
    const old = this.tracks.get(name);
    this.tracks.set(name, { source, gain });
    if (old) {
      this.fade(old.gain, 0);
      old.source.stop(when + 5 * FADE);
    }
    if (name === this.heard) this.fade(gain, 1);
  }

  fade(gain, level) {
    const now = this.context.currentTime;
    gain.gain.cancelScheduledValues(now);
    gain.gain.setTargetAtTime(level, now, FADE / 3);
  }

  // Other samples for a track that runs, at the place where it is.
  replace(name, samples) {
    const when = this.context.currentTime + 0.01;
    this.add(name, samples, when, (when - this.begun + this.length) % this.length);
  }

  hear(name) {
    this.heard = name;
    for (const [other, { gain }] of this.tracks) this.fade(gain, other === name ? 1 : 0);
  }

  silence() {
    for (const { source } of this.tracks.values()) source.stop();
    this.tracks.clear();
  }

  stop() {
    this.silence();
    void this.context?.suspend();
  }
}

export class Bench extends HTMLElement {
  async connectedCallback() {
    if (this.ready) return;
    this.ready = this.build();
    await this.ready;
  }

  async build() {
    this.manifest = await base.manifestFor(this);
    if (!this.manifest) return;
    const { devices, loops } = this.manifest;
    const named = (list, id) => list.find((entry) => entry.id === id) ?? list[0];
    this.device = named(devices, this.dataset.device);
    this.loop = named(loops, this.dataset.loop);
    this.stage = base.prunedIndex(this.device);
    this.sound = "target";
    this.difference = this.loud = false;
    this.at = 0.25 * this.loop.seconds;
    this.deck = new Deck();
    this.replaceChildren(this.controls());
    base.stopWhenOthersStart(this, () => this.stop());
    redrawOnChange(this.figure, () => this.draw());
    await this.load();
  }

  controls() {
    const { devices, loops } = this.manifest;
    const group = base.newId("sound");
    this.radios = {};
    const sounds = Object.entries(SOUNDS).map(([name, text]) => {
      const id = base.newId("sound");
      const chosen = name === this.sound;
      const attributes = { type: "radio", id, name: group, value: name, checked: chosen };
      const input = h("input", { ...attributes, onchange: () => this.choose(name) });
      this.radios[name] = input;
      return h("div", { class: `ta-sound ta-${name}` }, input, h("label", { for: id }, text));
    });
    this.play = h("button", { type: "button", class: "ta-play", onclick: () => this.toggle() }, "Play");
    this.stages = base.stageSlider("How far it is pruned", () => this.device, this.stage, (index) =>
      this.choosePruned(index),
    );
    const check = (text, change) => {
      const id = base.newId("check");
      const input = h("input", { type: "checkbox", id, onchange: () => change(input.checked) });
      return h("div", { class: "ta-check" }, input, h("label", { for: id }, text));
    };
    this.overview = h("canvas", { class: "ta-overview", role: "img", "aria-label": "The whole loop." });
    this.wave = h("canvas", { class: "ta-wave", role: "img", "aria-label": "Waveform." });
    this.spectra = h("canvas", { class: "ta-spectra", role: "img", "aria-label": "Spectra." });
    this.needle = h("div", { class: "ta-needle", hidden: true });
    this.place = base.slider("Look at", {
      min: 0,
      max: (this.loop.seconds - WINDOW).toFixed(2),
      step: 0.01,
      value: this.at,
      words: (seconds) => `${seconds.toFixed(2)} s`,
      oninput: (seconds) => {
        this.at = seconds;
        this.draw();
      },
    });
    this.status = h("p", { class: "ta-status", role: "status" });
    this.levels = h("tbody");
    this.figure = h(
      "div",
      { class: "ta-pictures" },
      h("div", { class: "ta-strip" }, this.overview, this.needle),
      this.place.field,
      this.wave,
      h("p", { class: "ta-caption" }, "20 ms of the sound over the target (the broad line)."),
      this.spectra,
      h("p", { class: "ta-caption" }, "Average spectrum in dB; broad: the target; dashed: the difference."),
    );
    const head = ["Sound", "Level changed by", "Error (ESR)"];
    return h(
      "section",
      { class: "ta-widget", "aria-label": "Listening bench" },
      h(
        "div",
        { class: "ta-row" },
        base.choice("Device", devices.map(({ id, title }) => [id, title]), this.device.id, (id) => {
          this.device = devices.find((device) => device.id === id);
          this.stage = base.prunedIndex(this.device);
          this.stages.update(this.stage);
          return this.load();
        }),
        base.choice("Loop", loops.map(({ id, title }) => [id, title]), this.loop.id, (id) => {
          this.loop = loops.find((loop) => loop.id === id);
          return this.load();
        }),
      ),
      h(
        "div",
        { class: "ta-row" },
        this.play,
        h("fieldset", { class: "ta-sounds" }, h("legend", {}, "What you hear"), sounds),
      ),
      h(
        "div",
        { class: "ta-row" },
        check("Only the difference to the target", (on) => this.choose(this.sound, on)),
        check("Difference 20 dB louder", (on) => {
          this.loud = on;
          return this.refresh();
        }),
      ),
      this.stages.field,
      this.status,
      this.figure,
      h(
        "table",
        { class: "ta-table" },
        h("caption", {}, "All sounds play at one RMS level."),
        h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
        this.levels,
      ),
    );
  }

  // Fetch and compute what device, loop and stage ask for; the newest wish wins.
  async load() {
    const wish = (this.wish = Symbol("wish"));
    this.setAttribute("aria-busy", "true");
    try {
      const { device, loop } = this;
      const whole = device.stages[0], pruned = device.stages[this.stage];
      const dry = await base.loadSound(loop.dry);
      const target = await base.loadSound(device.targets[loop.id]);
      const unpruned = await base.renderOnce(whole.wasm, loop.id, dry);
      const small = await base.renderOnce(pruned.wasm, loop.id, dry);
      if (wish !== this.wish) return;
      this.raw = { dry, target, unpruned, pruned: small };
      this.refresh();
    } catch (error) {
      if (wish === this.wish) this.status.textContent = `This did not work: ${error.message}`;
    } finally {
      if (wish === this.wish) this.removeAttribute("aria-busy");
    }
  }

  // Levels, differences and pictures from the raw sounds; what is playing goes on with them.
  refresh() {
    if (!this.raw) return;
    const { raw } = this;
    this.gains = levelGains(raw);
    this.sounds = {};
    for (const name of Object.keys(SOUNDS)) this.sounds[name] = scaled(raw[name], this.gains[name]);
    const { target } = this.sounds;
    this.errors = {};
    this.boosts = {};
    for (const name of Object.keys(SOUNDS)) {
      // A network is judged at its own level; the dry signal, at the level that it is heard at.
      const judged = name === "dry" ? this.sounds.dry : scaled(raw[name], this.gains.target);
      this.errors[name] = errorRatio(target, judged);
      const wrong = minus(judged, target);
      const most = peak(wrong);
      const gain = Math.min(this.loud ? BOOST : 1, most > 0 ? 0.99 / most : 1);
      this.boosts[name] = gain;
      this.sounds[`${name} difference`] = scaled(wrong, gain);
    }
    this.bands = {};
    for (const [name, samples] of Object.entries(this.sounds)) this.bands[name] = spectrum(samples, RATE);
    if (this.deck.playing) {
      if (this.deck.length === target.length / RATE)
        for (const [name, samples] of Object.entries(this.sounds)) this.deck.replace(name, samples);
      else void this.deck.start(() => this.wanted);
    }
    this.describe();
    this.draw();
  }

  // What the deck is to play, unless something else has started since.
  get wanted() {
    return base.startedLast(this) ? this : null;
  }

  get heard() {
    return this.difference ? `${this.sound} difference` : this.sound;
  }

  choose(sound, difference = this.difference) {
    this.sound = sound;
    this.difference = difference;
    if (this.deck.playing) this.deck.hear(this.heard);
    this.describe();
    this.draw();
  }

  choosePruned(index) {
    this.stage = index;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.load(), 120); // a slider that is dragged passes many stages
  }

  async toggle() {
    if (this.deck.playing) return this.stop();
    if (!this.raw) return;
    base.iStart(this);
    try {
      await this.deck.start(() => this.wanted);
    } catch (error) {
      this.status.textContent = `This did not work: ${error.message}`;
      return;
    }
    if (!this.deck.playing) return;
    this.play.textContent = "Stop";
    this.describe();
    this.follow();
  }

  stop() {
    if (!this.deck.playing) return;
    this.deck.stop();
    this.play.textContent = "Play";
    this.describe();
  }

  disconnectedCallback() {
    this.deck?.stop();
  }

  // The needle over the loop; where motion is unwelcome it moves once a second.
  follow() {
    this.needle.hidden = !this.deck.playing;
    if (!this.deck.playing) return;
    this.needle.style.left = `${(100 * Math.max(0, this.deck.position)) / this.deck.length}%`;
    if (base.calm.matches) setTimeout(() => this.follow(), 1000);
    else requestAnimationFrame(() => this.follow());
  }

  name(sound) {
    const stage = this.device.stages[this.stage];
    return sound === "pruned" ? `pruned, ${base.stageName(stage)}` : SOUNDS[sound].toLowerCase();
  }

  describe() {
    if (!this.raw) return;
    const verb = this.deck.playing ? "Playing" : "Ready";
    const { sound } = this;
    let what = this.name(sound);
    if (this.difference) {
      const under = -10 * Math.log10(this.errors[sound]);
      const louder = decibels(this.boosts[sound]);
      what =
        sound === "target"
          ? "the target less itself, which is silence"
          : `the difference of ${what} and target, ${Math.abs(under).toFixed(0)} dB ` +
            (under > 0 ? "under the target" : "over the target") +
            (louder > 0.5 ? `, made ${louder.toFixed(0)} dB louder` : "");
    }
    this.status.textContent = `${verb}: ${what}.`;
    const rows = Object.keys(SOUNDS).map((name) => {
      const gain = decibels(this.gains[name]).toFixed(1).replace("-", "−");
      const error = name === "target" ? "–" : base.percent(this.errors[name], 2);
      const title = name === "pruned" ? `Pruned, stage ${this.device.stages[this.stage].number}` : SOUNDS[name];
      return h(
        "tr",
        {},
        h("th", { scope: "row", class: `ta-${name}` }, title),
        h("td", {}, `${gain.startsWith("−") ? "" : "+"}${gain} dB`),
        h("td", {}, error),
      );
    });
    this.levels.replaceChildren(...rows);
  }

  draw() {
    if (!this.raw || !this.wave.clientWidth) return;
    const colours = this.manifest.colours;
    const { sound, heard, sounds, bands, at } = this;
    const ink = getComputedStyle(this).color;
    const colour = this.difference ? ink : colours[sound];
    const seconds = sounds.target.length / RATE;
    const [start, count] = [Math.round(at * RATE), Math.round(WINDOW * RATE)];
    const mark = { from: at / seconds, to: (at + WINDOW) / seconds };
    drawOverview(this.overview, { samples: sounds[heard], most: peak(sounds.target), colour, ...mark });
    const curves = [{ samples: sounds.target, colour: `${colours.target}66`, width: 6 }];
    if (heard !== "target") curves.push({ samples: sounds[heard], colour, width: 1.8 });
    drawWave(this.wave, curves, { start, count, rate: RATE });
    const lines = [{ bands: bands.target, colour: `${colours.target}66`, width: 6 }];
    if (sound !== "target") {
      lines.push({ bands: bands[sound], colour: colours[sound], width: 1.8 });
      lines.push({ bands: bands[`${sound} difference`], colour: ink, width: 1.5, dash: [4, 3] });
    }
    drawSpectra(this.spectra, lines);
    const what = this.difference ? `the difference of ${this.name(sound)} and target` : this.name(sound);
    this.overview.setAttribute("aria-label", `The whole loop: ${what}.`);
    this.wave.setAttribute(
      "aria-label",
      `Waveform at ${at.toFixed(2)} seconds: ${what}, over the target. Error ${base.percent(this.errors[sound], 2)}.`,
    );
    this.spectra.setAttribute("aria-label", `Spectra of target, ${this.name(sound)} and their difference.`);
  }
}
