// <tinyamp-live>: a compiled model on the audio thread, on a loop, a file or your own guitar.

import * as base from "./base.js";
import { Chain } from "./chain.js";
import { decibels } from "./signal.js";

const { h, RATE } = base;
const COPIES = [1, 2, 4, 8, 16, 32, 64];
const PASSES = 3;
const FLOOR = -60; // dB at the left end of a level meter
const HOWL = 15; // so many messages in a row with a full output are feedback: 1.5 s
const LEVEL = 0.1; // RMS that a device is played at, before the volume

// A meter: a bar and a number. Its value is not announced by itself, as it changes all the time.
function meter(label, low, high) {
  const bar = h("div", { class: "ta-bar" });
  const said = h("span", { class: "ta-said" });
  const id = base.newId("meter");
  const role = { role: "meter", "aria-labelledby": id, "aria-valuemin": low, "aria-valuemax": high };
  const gauge = h("div", { class: "ta-gauge", ...role, "aria-valuenow": low }, bar);
  const set = (value, words) => {
    const held = Math.min(high, Math.max(low, value));
    bar.style.width = `${(100 * (held - low)) / (high - low)}%`;
    gauge.setAttribute("aria-valuenow", held.toFixed(1));
    gauge.setAttribute("aria-valuetext", words);
    said.textContent = words;
  };
  set(low, "–");
  const element = h("div", { class: "ta-meter" }, h("span", { id }, label), said, gauge);
  return { element, set, gauge };
}

export class Live extends HTMLElement {
  async connectedCallback() {
    if (this.ready) return;
    this.ready = this.build();
    await this.ready;
  }

  async build() {
    this.manifest = await base.manifestFor(this, { worklet: true });
    if (!this.manifest) return;
    const { devices, loops } = this.manifest;
    this.device = devices.find(({ id }) => id === this.dataset.device) ?? devices[0];
    this.loop = loops.find(({ id }) => id === this.dataset.loop) ?? loops[0];
    this.stage = 0;
    this.source = "loop";
    this.file = null;
    this.on = true;
    this.trim = 0;
    this.loudness = -6;
    this.copies = 1;
    this.chain = null;
    this.full = 0;
    this.speeds = new Map();
    this.replaceChildren(this.controls());
    base.stopWhenOthersStart(this, () => this.stop());
    this.describe();
    this.meters(null);
  }

  controls() {
    const { devices, loops } = this.manifest;
    this.play = h("button", { type: "button", class: "ta-play", onclick: () => this.toggle() }, "Start");
    this.status = h("p", { class: "ta-status", role: "status" }, "Ready. Press Start.");
    this.stages = base.stageSlider("Pruning stage", () => this.device, this.stage, (index) =>
      this.choose(index),
    );
    const jump = (text, index) =>
      h("button", { type: "button", onclick: () => this.choose(index(), true) }, text);
    const group = base.newId("source");
    const radio = (value, text) => {
      const id = base.newId("source");
      const attributes = { type: "radio", id, name: group, value, checked: value === this.source };
      const input = h("input", { ...attributes, onchange: () => this.chooseSource(value) });
      return h("div", { class: "ta-check" }, input, h("label", { for: id }, text));
    };
    this.panels = {
      loop: base.choice("Loop", loops.map(({ id, title }) => [id, title]), this.loop.id, (id) => {
        this.loop = loops.find((loop) => loop.id === id);
        return this.restart();
      }),
      file: this.filePanel(),
      guitar: this.guitarPanel(),
    };
    const onId = base.newId("on");
    const power = h("input", {
      type: "checkbox",
      id: onId,
      checked: true,
      onchange: () => {
        this.on = power.checked;
        this.applyLevels();
      },
    });
    this.inMeter = meter("Input level", FLOOR, 0);
    this.outMeter = meter("Output level", FLOOR, 0);
    this.loadMeter = meter("Load of the audio thread", 0, 100);
    this.gapText = h("span", { class: "ta-said" }, "–");
    this.facts = h("dl", { class: "ta-facts" });
    this.speedButton = h(
      "button",
      { type: "button", onclick: () => this.measureAll() },
      "Measure every stage in this browser",
    );
    this.speedTable = h("div", { class: "ta-speeds" });
    const decibel = (value) => `${value > 0 ? "+" : ""}${value} dB`.replace("-", "−");
    const element = h(
      "section",
      { class: "ta-widget", "aria-label": "Live amp" },
      h("fieldset", { class: "ta-sources" }, h("legend", {}, "What goes in"),
        radio("loop", "A loop"), radio("file", "A sound file of yours"), radio("guitar", "Your guitar")),
      ...Object.values(this.panels),
      h(
        "div",
        { class: "ta-row" },
        this.play,
        base.choice("Device", devices.map(({ id, title }) => [id, title]), this.device.id, (id) => {
          this.device = devices.find((device) => device.id === id);
          this.stages.update(this.stage);
          this.choose(Math.min(this.stage, this.device.stages.length - 1));
        }),
        h("div", { class: "ta-check" }, power, h("label", { for: onId }, "Amp on")),
      ),
      h("div", { class: "ta-row ta-stages" }, this.stages.field,
        jump("Unpruned", () => 0), jump("Pruned", () => base.prunedIndex(this.device))),
      this.facts,
      h("div", { class: "ta-meters" }, this.inMeter.element, this.outMeter.element, this.loadMeter.element,
        h("div", { class: "ta-meter" }, h("span", {}, "Dropouts (underruns)"), this.gapText)),
      h(
        "div",
        { class: "ta-row" },
        base.slider("Input gain", { min: -24, max: 24, value: this.trim, words: decibel,
          oninput: (value) => this.applyLevels({ trim: value }) }).field,
        base.slider("Volume", { min: -40, max: 6, value: this.loudness, words: decibel,
          oninput: (value) => this.applyLevels({ loudness: value }) }).field,
        base.choice("Amps at once, to load the processor", COPIES.map((n) => [n, `${n}`]), "1", (n) => {
          this.copies = Number(n);
          this.chain?.node.port.postMessage({ copies: this.copies });
        }),
      ),
      this.status,
      h("div", { class: "ta-measure" }, this.speedButton, this.speedTable),
    );
    this.showPanel();
    return element;
  }

  filePanel() {
    const id = base.newId("file");
    const input = h("input", {
      type: "file",
      id,
      accept: "audio/*,.wav,.flac",
      onchange: () => input.files[0] && this.openFile(input.files[0]),
    });
    const over = (on) => (event) => {
      event.preventDefault();
      panel.classList.toggle("ta-over", on);
    };
    const drop = (event) => {
      over(false)(event);
      const [file] = event.dataTransfer.files;
      if (file) void this.openFile(file);
    };
    const panel = h(
      "div",
      { class: "ta-drop", ondragover: over(true), ondragleave: over(false), ondrop: drop },
      h("label", { for: id }, "Drop a WAV of a dry guitar or bass here, or choose one. It stays on your machine."),
      input,
    );
    return panel;
  }

  guitarPanel() {
    this.inputs = h("div");
    return h(
      "div",
      { class: "ta-warning" },
      h("p", {}, h("strong", {}, "Use headphones. "),
        "Through loudspeakers a microphone hears the amp and howls: that is loud, and sudden. " +
          "Plug the guitar into an audio interface, turn the volume down, then press Start; the browser asks whether it may listen. " +
          "Echo cancellation, noise suppression and automatic gain are switched off. Nothing is recorded or sent."),
      this.inputs,
    );
  }

  showPanel() {
    for (const [name, panel] of Object.entries(this.panels)) panel.hidden = name !== this.source;
  }

  async chooseSource(source) {
    const was = this.chain !== null;
    this.stop();
    this.source = source;
    this.showPanel();
    // A guitar is never switched on without being asked for.
    if (was && source !== "guitar" && !(source === "file" && !this.file)) await this.start();
  }

  async openFile(file) {
    try {
      const bytes = await file.arrayBuffer();
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
      const mono = new Float32Array(decoded.length);
      for (let c = 0; c < decoded.numberOfChannels; c++) {
        const channel = decoded.getChannelData(c);
        for (let n = 0; n < mono.length; n++) mono[n] += channel[n] / decoded.numberOfChannels;
      }
      this.file = mono;
    } catch {
      this.say(`${file.name} is not a sound file that this browser can read; a WAV always is.`);
      return;
    }
    this.say(`${file.name}: ${(this.file.length / RATE).toFixed(1)} s.`);
    await this.restart();
  }

  say(text) {
    this.status.textContent = text;
  }

  toggle() {
    return this.chain ? this.stop() : this.start();
  }

  async restart() {
    if (!this.chain && this.source === "loop") return;
    this.stop();
    await this.start();
  }

  async start() {
    if (this.starting) return;
    this.starting = true;
    try {
      if (this.source === "file" && !this.file) return this.say("Choose a sound file first.");
      base.iStart(this);
      const module = await base.loadModule(this.device.stages[this.stage].wasm);
      const chain = await this.connect(module);
      if (!base.startedLast(this)) {
        void chain.close();
        return this.say("Stopped.");
      }
      this.chain = chain;
      this.playing = this.device.stages[this.stage];
      this.full = 0;
      chain.node.onprocessorerror = () => {
        this.stop();
        this.say("The audio thread stopped with an error; press Start to try again.");
      };
      chain.node.port.postMessage({ copies: this.copies });
      this.applyLevels();
      this.play.textContent = "Stop";
      const rate = chain.context.sampleRate;
      const other = rate === RATE ? "" : ` The interface runs at ${rate} Hz and the models are for ${RATE} Hz: what you hear is a little brighter than the device.`;
      this.say(`On: ${this.device.title}, ${base.stageName(this.playing)}.${other}`);
    } catch (error) {
      this.say(this.explain(error));
    } finally {
      this.starting = false;
    }
  }

  // The chain with its source. Some browsers cannot bring a microphone to another sample rate:
  // then the chain runs at the interface's own.
  async connect(module) {
    const meters = (values) => this.meters(values);
    const full = (amps) => this.say(`This browser has room for ${amps} amps at once.`);
    for (const rate of [RATE, null]) {
      const chain = await Chain.open(module, meters, full, rate);
      try {
        if (this.source === "loop") chain.playLoop(await base.loadSound(this.loop.dry), RATE);
        else if (this.source === "file") chain.playLoop(this.file, RATE);
        else await this.listInputs(await chain.playMicrophone(this.chosenInput));
        return chain;
      } catch (error) {
        await chain.close();
        if (rate === null || this.source !== "guitar" || error.name !== "NotSupportedError") throw error;
      }
    }
  }

  // Once permission is given, the inputs have names: offer them.
  async listInputs(track) {
    const found = await navigator.mediaDevices.enumerateDevices();
    const inputs = found.filter(({ kind }) => kind === "audioinput");
    const chosen = track.getSettings().deviceId;
    const options = inputs.map(({ deviceId, label }, k) => [deviceId, label || `Input ${k + 1}`]);
    this.inputs.replaceChildren(
      base.choice("Input", options, chosen, (id) => {
        this.chosenInput = id;
        return this.restart();
      }),
    );
  }

  explain(error) {
    if (this.source !== "guitar") return `This did not work: ${error.message}`;
    if (error.name === "NotAllowedError")
      return "The browser may not listen to the interface: allow the microphone for this page, then press Start.";
    if (error.name === "NotFoundError") return "No audio input was found: plug an interface in, then press Start.";
    return `The audio input did not open: ${error.message}`;
  }

  stop() {
    const { chain } = this;
    if (!chain) return;
    this.chain = null;
    void chain.close();
    this.play.textContent = "Start";
    this.say("Stopped.");
    this.meters(null);
  }

  disconnectedCallback() {
    this.stop();
  }

  // Take stage `index` of the device: the audio thread fades to the new model from its zero state.
  async choose(index, fromButton = false) {
    this.stage = index;
    if (fromButton) this.stages.set(index);
    this.describe();
    const stage = this.device.stages[index];
    try {
      const module = await base.loadModule(stage.wasm);
      if (!this.chain || stage !== this.device.stages[this.stage] || stage === this.playing) return;
      this.playing = stage;
      this.chain.node.port.postMessage({ module, id: stage.wasm });
      this.applyLevels();
      this.say(`On: ${this.device.title}, ${base.stageName(stage)}.`);
    } catch (error) {
      this.say(`This did not work: ${error.message}`);
    }
  }

  applyLevels(changes = {}) {
    Object.assign(this, changes);
    if (!this.chain) return;
    const gain = (value) => 10 ** (value / 20);
    this.chain.set("input", gain(this.trim));
    this.chain.set("volume", gain(this.loudness));
    this.chain.set("wet", this.on ? LEVEL / this.device.rms : 0);
    this.chain.set("dry", this.on ? 0 : this.dryGain);
  }

  // A loop is heard as loud as the device; what comes from outside stays as it is.
  get dryGain() {
    return this.source === "loop" ? LEVEL / this.loop.rms : 1;
  }

  meters(values) {
    if (!values || !this.chain) {
      for (const one of [this.inMeter, this.outMeter]) one.set(FLOOR, "–");
      this.loadMeter.set(0, "–");
      this.gapText.textContent = "–";
      return;
    }
    const level = (peak) => Math.max(FLOOR, decibels(peak + 1e-9));
    const said = (value) => (value <= FLOOR ? "silent" : `${value.toFixed(0)} dB`.replace("-", "−"));
    // What is heard: the output of the model, after level and volume.
    const heard = this.on ? (values.output * LEVEL) / this.device.rms : values.input * this.dryGain;
    const out = heard * 10 ** (this.loudness / 20);
    const [input, output] = [level(values.input), level(out)];
    this.inMeter.set(input, said(input));
    this.outMeter.set(output, out > 1 ? "clips" : said(output));
    this.outMeter.gauge.classList.toggle("ta-clips", out > 1);
    if (values.load !== null) {
      const load = 100 * values.load;
      this.loadMeter.set(load, `${load < 10 ? load.toFixed(1) : load.toFixed(0)} %`);
      this.loadMeter.gauge.classList.toggle("ta-clips", load > 90);
    }
    const { gaps, lost } = this.chain.underruns(values);
    this.gapText.textContent = gaps ? `${gaps}, ${(1000 * lost).toFixed(0)} ms of sound` : "none";
    this.full = this.source === "guitar" && out > 1 ? this.full + 1 : 0;
    if (this.full > HOWL) {
      this.stop();
      this.say("Switched off: the output stayed at its limit, which sounds like feedback. Use headphones or a lower volume, then press Start.");
    }
  }

  describe() {
    const stage = this.device.stages[this.stage], whole = this.device.stages[0];
    const speed = this.speeds.get(stage.wasm);
    const shade = stage.number === 0 ? "ta-bar ta-whole" : "ta-bar";
    const left = (name, value, all) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, `${value} of ${all}`,
        h("span", { class: "ta-gauge", "aria-hidden": "true" },
          h("span", { class: shade, style: `width:${(100 * value) / all}%` }))));
    const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
    this.facts.replaceChildren(
      left("Units left", stage.units, whole.units),
      left("Weights left", stage.active, whole.active),
      fact("Error on the test excerpt", base.percent(stage.esr, 2)),
      fact("After pruning", stage.number === 0 ? "–" : stage.retrained ? "trained in full" : "trained briefly"),
      fact("Module", `${(stage.bytes / 1000).toFixed(1)} kB`),
      fact("Speed here", speed ? `${speed.toFixed(0)} × real time` : "not measured"),
    );
  }

  // The speed of every stage of the device, one after the other, off the audio thread.
  async measureAll() {
    const { device } = this;
    this.speedButton.disabled = true;
    this.stop();
    try {
      // In several passes, of which the fastest counts: what else the machine does only slows down.
      for (let pass = 1; pass <= PASSES; pass++) {
        this.say(`Measuring ${device.stages.length} stages, pass ${pass} of ${PASSES} …`);
        for (const { wasm } of device.stages) {
          const speed = await base.work("speed", await base.loadModule(wasm));
          this.speeds.set(wasm, Math.max(speed, this.speeds.get(wasm) ?? 0));
        }
      }
      this.say(`Measured: ${device.title}. The table is below.`);
      this.showSpeeds(device);
      this.describe();
    } catch (error) {
      this.say(`This did not work: ${error.message}`);
    }
    this.speedButton.disabled = false;
  }

  showSpeeds(device) {
    const first = this.speeds.get(device.stages[0].wasm);
    const most = Math.max(...device.stages.map(({ wasm }) => this.speeds.get(wasm)));
    const rows = device.stages.map((stage) => {
      const speed = this.speeds.get(stage.wasm);
      return h("tr", {},
        h("th", { scope: "row" }, `${stage.number}`),
        h("td", {}, `${stage.units}`),
        h("td", {}, `${stage.active}`),
        h("td", {}, `${speed.toFixed(0)} ×`),
        h("td", { class: "ta-wide" }, h("span", { class: "ta-gauge", "aria-hidden": "true" },
          h("span", { class: "ta-bar", style: `width:${(100 * speed) / most}%` })),
          `${(speed / first).toFixed(1)} × stage 0`));
    });
    const heads = ["Stage", "Units", "Weights", "Real time", "Against unpruned"];
    const caption = `${device.title}: how many times faster than real time, on one core of this machine`;
    this.speedTable.replaceChildren(
      h("table", { class: "ta-table" }, h("caption", {}, caption),
        h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, rows)));
  }
}
