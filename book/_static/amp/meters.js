// How busy the audio thread is, and whether it came too late. No DOM here, and no clock: times are
// given, so that this can be tested.

// The seconds that one `run` takes, by a clock (seconds) that ticks only every millisecond: wait for
// a tick, then count the runs until the next. Null where the clock is coarser: nobody waits for it.
export function timeRun(clock, run, { looks = 20000, runs = 400 } = {}) {
  const first = clock();
  let tick = first;
  while (tick === first && looks-- > 0) tick = clock();
  if (tick === first) return null;
  for (let count = 1; count <= runs; count++) {
    run();
    const now = clock();
    if (now > tick) return (now - tick) / (count - 0.5); // the tick came somewhere in the last run
  }
  return null;
}

export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

// Counts dropouts. A block that is computed late makes the clock on the wall run ahead of the
// audio for a moment; a block that is missing makes it run ahead for good. So the least lead in
// each `window` (seconds) is compared with the one before.
export class GapMeter {
  constructor(window = 0.5, least = 0.008) {
    Object.assign(this, { window, least, count: 0, lost: 0 });
    this.restart();
  }

  restart() {
    this.before = null;
    this.lead = Infinity;
    this.begun = null;
  }

  // `wall` and `audio` are the two clocks, in seconds.
  add(wall, audio) {
    this.begun ??= audio;
    this.lead = Math.min(this.lead, wall - audio);
    if (audio - this.begun < this.window) return;
    if (this.before !== null && this.lead - this.before > this.least) {
      this.count += 1;
      this.lost += this.lead - this.before;
    }
    this.before = this.lead;
    this.lead = Infinity;
    this.begun = audio;
  }
}
