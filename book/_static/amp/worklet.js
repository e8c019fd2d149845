// The live amp on the audio thread: one channel through a compiled model.
//
// processorOptions: { module }, a WebAssembly.Module. Messages to it:
//   { module, id }  play another model from its zero state, faded over FADE samples
//   { reset: true } go back to the zero state at once
//   { copies }      how many amps compute at once; the first of them is heard
//   { stop: true }  end
// Messages from it: { ready: id } when it plays a model or has been reset, { amps } when there is
// no room for as many as were asked for, and ten times a second the meters
// { load, gaps, lost, input, output }; input and output are peaks since the last message.
//
// The load is the time that the amps compute, over the time that their sound lasts. This thread's
// clock ticks in milliseconds, and often in step with the sound, so its own work cannot be timed:
// twice a second a spare amp is, for a millisecond, and the load is the middle one of five such
// times, multiplied by the number of amps.

import { Amp } from "./amp.js";
import { GapMeter, median, timeRun } from "./meters.js";

const FADE = 1024;
const PROBE = 0.5; // seconds from one timing to the next
const clock = () => Date.now() / 1000;
const silence = new Float32Array(128);

const peak = (x) => {
  let most = 0;
  for (let n = 0; n < x.length; n++) most = Math.max(most, Math.abs(x[n]));
  return most;
};

class LiveAmp extends AudioWorkletProcessor {
  constructor({ processorOptions: { module } }) {
    super();
    this.module = module;
    this.amp = new Amp(module);
    this.old = null;
    this.faded = 0;
    this.others = [];
    this.other = new Float32Array(128);
    this.running = true;
    this.gaps = new GapMeter();
    this.forget();
    this.peaks = { input: 0, output: 0 };
    this.told = 0;
    this.port.onmessage = ({ data }) => this.take(data);
    this.port.postMessage({ ready: null });
  }

  // A spare amp to be timed, and no times yet.
  forget() {
    this.spare = new Amp(this.module);
    this.times = [];
    this.probed = currentTime;
  }

  // So many amps at once, or as many as the browser has room for: memories are few.
  more(copies) {
    this.others = [];
    try {
      while (this.others.length < copies - 1) this.others.push(new Amp(this.module));
    } catch {
      this.port.postMessage({ amps: 1 + this.others.length });
    }
  }

  probe(x) {
    const seconds = timeRun(clock, () => this.spare.process(x, this.other));
    if (seconds !== null) this.times = [...this.times.slice(-4), (seconds * sampleRate) / x.length];
    this.probed = currentTime;
  }

  take({ module, id, reset, copies, stop }) {
    if (module) {
      this.old = this.amp;
      this.faded = 0;
      this.module = module;
      this.amp = new Amp(module);
      this.more(1 + this.others.length);
      this.forget();
    }
    if (reset) {
      this.old = null;
      this.amp.reset();
      for (const amp of this.others) amp.reset();
    }
    if (copies) this.more(copies);
    if (stop) this.running = false;
    if (module || reset) this.port.postMessage({ ready: id ?? null });
  }

  process([[given]], [[y]]) {
    const x = given ?? silence.subarray(0, y.length);
    if (this.other.length !== y.length) this.other = new Float32Array(y.length);
    this.gaps.add(clock(), currentTime);
    this.amp.process(x, y);
    if (this.old) {
      this.old.process(x, this.other);
      for (let n = 0; n < y.length; n++) {
        const share = Math.min(1, (this.faded + n) / FADE);
        y[n] = share * y[n] + (1 - share) * this.other[n];
      }
      this.faded += y.length;
      if (this.faded >= FADE) this.old = null;
    }
    for (const amp of this.others) amp.process(x, this.other);
    if (currentTime - this.probed >= PROBE) this.probe(x);

    this.peaks.input = Math.max(this.peaks.input, peak(x));
    this.peaks.output = Math.max(this.peaks.output, peak(y));
    if (currentTime - this.told >= 0.1) {
      this.told = currentTime;
      const load = this.times.length ? median(this.times) * (1 + this.others.length) : null;
      const about = { load, gaps: this.gaps.count, lost: this.gaps.lost };
      this.port.postMessage({ ...about, ...this.peaks });
      this.peaks.input = this.peaks.output = 0;
    }
    return this.running;
  }
}

registerProcessor("tinyamp-live", LiveAmp);
