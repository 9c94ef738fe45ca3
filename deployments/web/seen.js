// What the model sees: the log-mel windows, fetched when somebody looks.

import { logMel } from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { seconds } from "./words.js";

export function Seen({ file, options }) {
  const [open, setOpen] = useState(false);
  const [seen, setSeen] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    setSeen(null);
    if (!open) return;
    logMel(file, { effort: options.effort }).then(setSeen, setError);
  }, [open, file, options.effort]);

  const hz = seen && [seen.band_hz[0], seen.band_hz.at(-1)].map((each) => `${Math.round(each)} Hz`);
  return html`
    <details onToggle=${(event) => setOpen(event.target.open)}><summary>What the model sees</summary>
      ${error && html`<p>${error.message}</p>`}
      ${open && !seen && !error && html`<p>Asking …</p>`}
      ${seen && html`<p class="small">Log-mel windows: time to the right, ${hz[0]} at the bottom to ${hz[1]} at the top, bright is loud.</p>
        <div class="windows-seen">${seen.windows.map((each) => html`<figure><${Picture} window=${each} seen=${seen} /><figcaption class="small">${seconds(each.start_s)} to ${seconds(each.end_s)}</figcaption></figure>`)}</div>`}
    </details>`;
}

function Picture({ window, seen }) {
  const place = useRef(null);
  useEffect(() => {
    const levels = Uint8Array.from(atob(window.levels), (each) => each.charCodeAt(0));
    const { n_mels: height, n_frames: width } = seen;
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const level = levels[(height - 1 - y) * width + x];
        image.data.set([level, Math.max(0, 1.6 * level - 120), Math.max(60, 200 - level), 255], 4 * (y * width + x));
      }
    }
    place.current.getContext("2d").putImageData(image, 0, 0);
  }, [window]);
  return html`<canvas ref=${place} width=${seen.n_frames} height=${seen.n_mels} role="img" aria-label=${`Log-mel spectrogram from ${seconds(window.start_s)}`}></canvas>`;
}
