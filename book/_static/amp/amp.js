// A compiled model: see src/tinyamp/wasm.py for what a module exports. No DOM here: the page, its
// worker, the AudioWorklet and Node all use this file.

export class Amp {
  // `module` is a WebAssembly.Module; each Amp has a memory and a state of its own, at zero.
  constructor(module) {
    this.amp = new WebAssembly.Instance(module, {}).exports;
    this.frames = this.amp.amp_max_frames();
    this.rate = this.amp.amp_rate();
    this.from = new Float32Array(this.amp.memory.buffer, this.amp.amp_input(), this.frames);
    this.to = new Float32Array(this.amp.memory.buffer, this.amp.amp_output(), this.frames);
  }

  reset() {
    this.amp.amp_reset(this.amp.amp_state());
  }

  // Plays `x` on from where the last call stopped, into `y` of the same length.
  process(x, y) {
    const { amp, frames } = this;
    for (let at = 0; at < x.length; at += frames) {
      const count = Math.min(frames, x.length - at);
      this.from.set(count === x.length ? x : x.subarray(at, at + count));
      amp.amp_process(amp.amp_state(), amp.amp_input(), amp.amp_output(), count);
      y.set(count === frames ? this.to : this.to.subarray(0, count), at);
    }
  }
}

// The output for a signal that goes round and round: what is heard from the second time on, so
// that the end of the loop joins its beginning.
export function renderLoop(module, x) {
  const amp = new Amp(module);
  const y = new Float32Array(x.length);
  amp.process(x, y);
  amp.process(x, y);
  return y;
}

// How many times faster than real time a module plays, on one thread, in blocks of 128 samples as
// an AudioWorklet does: in the fastest of `rounds`, as whatever else the machine does only ever
// slows it down. Each round lasts at least `least` ms. It warms up for `warm` ms, in which the
// browser compiles the module well.
export function measureSpeed(module, { rounds = 21, least = 8, warm = 150 } = {}) {
  const amp = new Amp(module);
  const x = new Float32Array(128), y = new Float32Array(128);
  let seed = 1;
  const noise = () => {
    for (let n = 0; n < x.length; n++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
      x[n] = 0.3 * (seed / 2 ** 31);
    }
  };
  const play = (blocks) => {
    const begun = performance.now();
    for (let k = 0; k < blocks; k++) amp.process(x, y);
    return performance.now() - begun;
  };
  noise();
  const begun = performance.now();
  while (performance.now() - begun < warm) play(64);
  let blocks = 64, best = 0;
  while (play(blocks) < least) blocks *= 2;
  for (let round = 0; round < rounds; round++) {
    noise();
    best = Math.max(best, (1000 * blocks * x.length) / amp.rate / play(blocks));
  }
  return best;
}

// Whether this browser has WebAssembly with vectors of 128 bits: the smallest module that uses one.
export function hasVectors() {
  const module = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253,
    15, 253, 98, 11,
  ];
  return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(module));
}
