// Records from the microphone as a 16-bit WAV file, which the service reads without extras.

export async function record(secondsWanted, onSecond) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule("static/recorder.js");
    const node = new AudioWorkletNode(context, "recorder");
    const blocks = [];
    let n = 0;
    const wanted = secondsWanted * context.sampleRate;
    await new Promise((resolve) => {
      node.port.onmessage = ({ data }) => {
        blocks.push(data);
        n += data.length;
        onSecond(Math.min(secondsWanted, Math.floor(n / context.sampleRate)));
        if (n >= wanted) resolve();
      };
      context.createMediaStreamSource(stream).connect(node);
    });
    return new File([wav(blocks, n, context.sampleRate)], "recording.wav", { type: "audio/wav" });
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
  }
}

// Another browser's decoder for files that the service cannot read (M4A without its extra).
export async function asWav(file) {
  const context = new OfflineAudioContext(1, 1, 44100);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  const mono = new Float32Array(audio.length);
  for (let c = 0; c < audio.numberOfChannels; c++) {
    const channel = audio.getChannelData(c);
    for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / audio.numberOfChannels;
  }
  return new File([wav([mono], mono.length, audio.sampleRate)], file.name, { type: "audio/wav" });
}

function wav(blocks, n, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * n));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * n, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * n, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      if (at >= view.byteLength) break;
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return view.buffer;
}
