// Arithmetic on signals, Float32Array (time,): levels, differences, spectra. No DOM here.

export const rms = (x) => {
  let sum = 0;
  for (const value of x) sum += value * value;
  return Math.sqrt(sum / x.length);
};

export const peak = (x) => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export const decibels = (ratio) => 20 * Math.log10(ratio);

export const scaled = (x, gain) => x.map((value) => gain * value);

export const minus = (x, y) => x.map((value, n) => value - y[n]);

// The error-to-signal ratio of `y` against `target`: 0 is perfect, silence has 1.
export const errorRatio = (target, y) => (rms(minus(target, y)) / rms(target)) ** 2;

// The gains that bring every signal of an object to one RMS level, or less if a peak would clip:
// then all are lowered together. As `tinyamp.player.level_match` does.
export function levelGains(signals, level = 0.1, ceiling = 0.99) {
  const gains = {};
  let loudest = 0;
  for (const [name, x] of Object.entries(signals)) {
    const own = rms(x);
    gains[name] = own > 1e-7 ? level / own : 1;
    loudest = Math.max(loudest, gains[name] * peak(x));
  }
  const common = Math.min(1, ceiling / (loudest || 1));
  for (const name of Object.keys(gains)) gains[name] *= common;
  return gains;
}

// The fast Fourier transform in place; the length is a power of two.
export function fft(re, im) {
  const size = re.length;
  for (let n = 1, m = 0; n < size; n++) {
    let bit = size >> 1;
    for (; m & bit; bit >>= 1) m ^= bit;
    m ^= bit;
    if (n < m) {
      [re[n], re[m]] = [re[m], re[n]];
      [im[n], im[m]] = [im[m], im[n]];
    }
  }
  for (let length = 2; length <= size; length *= 2) {
    const half = length / 2;
    for (let k = 0; k < half; k++) {
      const angle = (-2 * Math.PI * k) / length;
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      for (let a = k; a < size; a += length) {
        const b = a + half;
        const [r, i] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - r, im[a] - i];
        re[a] += r;
        im[a] += i;
      }
    }
  }
}

// The power in bands of a sixth of an octave, [frequency (Hz), level (dB)] each: an average over
// the whole signal, of Hann windows of 4096 samples that overlap by half. A sine wave of full
// scale is at 0 dB.
export function spectrum(x, rate, { size = 4096, low = 50, high = 20000, perOctave = 6 } = {}) {
  const power = new Float64Array(size / 2);
  const hann = Float64Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));
  let count = 0;
  for (let start = 0; start + size <= x.length; start += size / 2, count++) {
    const re = hann.map((value, n) => value * x[start + n]);
    const im = new Float64Array(size);
    fft(re, im);
    for (let k = 0; k < power.length; k++) power[k] += re[k] ** 2 + im[k] ** 2;
  }
  const scale = 16 / (1.5 * size * size * Math.max(1, count)); // sum over a sine's bins is then 1
  const bands = [];
  const step = 2 ** (1 / perOctave), bin = rate / size;
  for (let f = low; f <= high; f *= step) {
    const first = Math.max(1, Math.round(f / Math.sqrt(step) / bin));
    const last = Math.max(first, Math.round((f * Math.sqrt(step)) / bin) - 1);
    let sum = 0;
    for (let k = first; k <= Math.min(last, power.length - 1); k++) sum += power[k];
    bands.push([f, 10 * Math.log10(sum * scale + 1e-15)]);
  }
  return bands;
}
