// The sound chain of the live amp: source, input gain, the compiled model on the audio thread, and
// the volume; beside it the dry way, for comparison.

import { wake } from "./base.js";

const WORKLET = new URL("worklet.js", import.meta.url);
export const MICROPHONE = {
  // What makes speech on a telephone clear ruins a guitar, and adds delay.
  audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
};

// An AudioWorkletNode that plays `module`; `context` may be an OfflineAudioContext.
export async function ampNode(context, module) {
  await context.audioWorklet.addModule(WORKLET);
  return new AudioWorkletNode(context, "tinyamp-live", {
    numberOfInputs: 1,
    numberOfOutputs: 1,
    outputChannelCount: [1],
    channelCount: 1,
    channelCountMode: "explicit",
    processorOptions: { module },
  });
}

// Settles when the node says that it is `ready` with what `message` asked for.
export function told(node, message) {
  return new Promise((resolve) => {
    const listen = ({ data }) => {
      if (!("ready" in data) || data.ready !== (message.id ?? null)) return;
      node.port.removeEventListener("message", listen);
      resolve();
    };
    node.port.addEventListener("message", listen);
    node.port.start();
    node.port.postMessage(message);
  });
}

export class Chain {
  // `onmeters` gets the meters of worklet.js, ten times a second; `onfull`, how many amps there are
  // when there is no room for more.
  static async open(module, onmeters, onfull, rate) {
    const context = new AudioContext({ latencyHint: "interactive", ...(rate && { sampleRate: rate }) });
    const chain = new Chain(context, await ampNode(context, module), onmeters, onfull);
    try {
      await wake(context);
    } catch (error) {
      void context.close();
      throw error;
    }
    return chain;
  }

  constructor(context, node, onmeters, onfull) {
    Object.assign(this, { context, node });
    this.input = new GainNode(context);
    this.wet = new GainNode(context);
    this.dry = new GainNode(context, { gain: 0 });
    this.volume = new GainNode(context);
    this.input.connect(node).connect(this.wet).connect(this.volume);
    this.input.connect(this.dry).connect(this.volume).connect(context.destination);
    node.port.addEventListener("message", ({ data }) => {
      if ("load" in data) onmeters(data);
      if ("amps" in data) onfull(data.amps);
    });
    node.port.start();
  }

  set(gain, value) {
    this[gain].gain.setTargetAtTime(value, this.context.currentTime, 0.008);
  }

  // Play samples (Float32Array or AudioBuffer) round and round.
  playLoop(samples, rate) {
    let buffer = samples;
    if (samples instanceof Float32Array) {
      buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
      buffer.copyToChannel(samples, 0);
    }
    const source = new AudioBufferSourceNode(this.context, { buffer, loop: true });
    source.connect(this.input);
    source.start();
    this.release = () => source.stop();
  }

  // Play what comes in at the audio interface. `deviceId` chooses one of several.
  async playMicrophone(deviceId) {
    const wanted = { ...MICROPHONE.audio, ...(deviceId && { deviceId: { exact: deviceId } }) };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    const end = () => stream.getTracks().forEach((track) => track.stop());
    try {
      new MediaStreamAudioSourceNode(this.context, { mediaStream: stream }).connect(this.input);
    } catch (error) {
      end();
      throw error;
    }
    this.release = end;
    return stream.getAudioTracks()[0];
  }

  // How often sound was missing, and how much (seconds): from the browser where it says so, else
  // as the audio thread has guessed, { gaps, lost }.
  underruns({ gaps, lost }) {
    const { underrunEvents, underrunDuration } = this.context.playbackStats ?? {};
    if (underrunEvents === undefined) return { gaps, lost };
    return { gaps: underrunEvents, lost: underrunDuration };
  }

  async close() {
    this.release?.();
    this.node.port.postMessage({ stop: true });
    await this.context.close();
  }
}
