// Pictures of sounds on a canvas: sharp on every screen, in the colours of the page's theme.

const styles = (element) => {
  const style = getComputedStyle(element);
  return { ink: style.color, line: style.getPropertyValue("--pst-color-border") || "#ccc" };
};

// A canvas's context, cleared, in CSS pixels.
function begin(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  return { pen, width, height, ...styles(canvas) };
}

// The whole loop: the range of the samples under every pixel, of `most` at the edge. `from` and
// `to` (0 to 1) are marked.
export function drawOverview(canvas, { samples, most, colour, from, to }) {
  const { pen, width, height, ink } = begin(canvas);
  const each = samples.length / width;
  pen.fillStyle = colour;
  const y = (value) => (height / 2) * (1 - (0.95 * value) / most);
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    for (let n = Math.floor(x * each); n < (x + 1) * each && n < samples.length; n++) {
      low = Math.min(low, samples[n]);
      high = Math.max(high, samples[n]);
    }
    pen.fillRect(x, y(high), 1, Math.max(1, y(low) - y(high)));
  }
  pen.strokeStyle = ink;
  pen.strokeRect(from * width, 0.5, Math.max(2, (to - from) * width), height - 1);
}

// Curves over a few milliseconds, each { samples, colour, width }, drawn in order.
export function drawWave(canvas, curves, { start, count, rate }) {
  const { pen, width, height, ink, line } = begin(canvas);
  const bottom = height - 18;
  let most = 1e-4;
  for (const { samples } of curves)
    for (let n = start; n < start + count; n++) most = Math.max(most, Math.abs(samples[n] ?? 0));
  const y = (value) => (bottom / 2) * (1 - (0.92 * value) / most);
  const x = (n) => (n / (count - 1)) * width;
  pen.strokeStyle = line;
  pen.fillStyle = ink;
  pen.beginPath();
  pen.moveTo(0, bottom / 2);
  pen.lineTo(width, bottom / 2);
  const milliseconds = (1000 * count) / rate;
  for (let ms = 5; ms < milliseconds - 1; ms += 5) {
    const at = (ms / milliseconds) * width;
    pen.moveTo(at, 0);
    pen.lineTo(at, bottom);
    pen.textAlign = "center";
    pen.fillText(`${ms} ms`, at, height - 4);
  }
  pen.stroke();
  for (const { samples, colour, width: thick } of curves) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.lineJoin = "round";
    pen.beginPath();
    for (let n = 0; n < count; n++) pen.lineTo(x(n), y(samples[start + n] ?? 0));
    pen.stroke();
  }
}

// Spectra, each { bands: [[Hz, dB], …], colour, width, dash }, on a logarithmic axis, 90 dB high.
export function drawSpectra(canvas, curves) {
  const { pen, width, height, ink, line } = begin(canvas);
  const [left, bottom] = [34, height - 18];
  const [low, high] = [50, 20000];
  const top = Math.max(-40, ...curves.flatMap(({ bands }) => bands.map(([, level]) => level))) + 3;
  const x = (f) => left + (Math.log(f / low) / Math.log(high / low)) * (width - left);
  const y = (level) => ((top - level) / 90) * bottom;
  pen.strokeStyle = line;
  pen.fillStyle = ink;
  pen.textAlign = "center";
  pen.beginPath();
  for (const [f, text] of [[100, "100 Hz"], [1000, "1 kHz"], [10000, "10 kHz"]]) {
    pen.moveTo(x(f), 0);
    pen.lineTo(x(f), bottom);
    pen.fillText(text, x(f), height - 4);
  }
  pen.textAlign = "right";
  for (let level = Math.floor(top / 20) * 20; y(level) < bottom - 4; level -= 20) {
    pen.moveTo(left, y(level));
    pen.lineTo(width, y(level));
    pen.fillText(`${level}`.replace("-", "−"), left - 5, Math.max(10, y(level) + 4));
  }
  pen.stroke();
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, width - left, bottom);
  pen.clip();
  for (const { bands, colour, width: thick, dash = [] } of curves) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.setLineDash(dash);
    pen.lineJoin = "round";
    pen.beginPath();
    for (const [f, level] of bands) pen.lineTo(x(f), y(level));
    pen.stroke();
  }
  pen.restore();
}

// Call `draw` when the element gets another size or the page another theme.
export function redrawOnChange(element, draw) {
  new ResizeObserver(draw).observe(element);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
