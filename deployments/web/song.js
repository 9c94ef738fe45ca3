// One song: its waveform with the heard windows, and the answer.

import * as corrections from "./corrections.js";
import { query } from "./api.js";
import { Seen } from "./seen.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { colour, download, isMusic, percent, seconds, setAt } from "./words.js";

const PEAKS = 1200;
const NONCE = document.querySelector('meta[name="nonce"]').content;

export function Song({ file, answer, labels, options }) {
  const set = setAt(answer, options.coverage);
  return html`
    <article aria-label=${`Answer about ${file.name}`}>
      <h2 class="file">${file.name} <span class="small">${seconds(answer.duration_s)} · ${answer.format}</span></h2>
      <div class="columns">
        <section>
          <${Wave} file=${file} answer=${answer} labels=${labels} />
          <${Timings} answer=${answer} />
        </section>
        <section class="card answer">
          <${Verdict} answer=${answer} set=${set} />
          <${Bars} answer=${answer} set=${set} labels=${labels} />
          <${Correct} file=${file} answer=${answer} labels=${labels} />
        </section>
      </div>
      <${Folds} file=${file} answer=${answer} options=${options} />
    </article>`;
}

function Verdict({ answer, set }) {
  return html`
    <p class="verdict">${isMusic(answer) ? answer.top_genre : "Not music"}
      <span>${isMusic(answer) ? percent(answer.confidence) : ""}</span></p>
    ${answer.needs_review ? html`<p class="unsure">A person should look: ${answer.reasons.length} ${answer.reasons.length === 1 ? "reason" : "reasons"} below.</p>` : html`<p class="sure">Nothing speaks against it.</p>`}
    ${set && isMusic(answer) && html`<p>With ${percent(set.coverage)} certainty one of: <strong>${set.genres.join(", ")}</strong>.</p>`}
    ${answer.family && html`<p>One level up it is surer: <strong>${answer.family.name}</strong>, ${percent(answer.family.probability)}.</p>`}`;
}

function Bars({ answer, set, labels }) {
  const members = new Set(set?.genres);
  return html`
    <table class="bars">
      <caption class="hidden">Probability of every genre</caption>
      <thead class="hidden"><tr><th>genre</th><th>probability</th></tr></thead>
      <tbody>${answer.predictions.map((each) => html`
        <tr class=${members.has(each.genre) ? "member" : ""}>
          <th scope="row">${each.genre}${members.has(each.genre) ? html`<span class="hidden"> (in the set)</span>` : ""}</th>
          <td><${Bar} share=${each.probability} fill=${colour(each.genre, labels)} /><span>${percent(each.probability)}</span></td>
        </tr>`)}
      </tbody>
    </table>`;
}

export function Bar({ share, fill }) {
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width=${100 * share} height="10" fill=${fill} /></svg>`;
}

function Wave({ file, answer, labels }) {
  const place = useRef(null);
  const player = useRef(null);
  const [playing, setPlaying] = useState(false);
  const [failed, setFailed] = useState(false);

  useEffect(() => {
    let gone = false;
    const url = URL.createObjectURL(file);
    (async () => {
      try {
        const [{ default: WaveSurfer }, { default: Regions }] = await Promise.all([
          import("./vendor/wavesurfer.js"), import("./vendor/regions.js"),
        ]);
        const audio = await new OfflineAudioContext(1, 1, 22050).decodeAudioData(await file.arrayBuffer());
        if (gone) return;
        const regions = Regions.create();
        const style = getComputedStyle(document.documentElement);
        const wave = WaveSurfer.create({
          container: place.current, height: 96, cspNonce: NONCE, plugins: [regions],
          waveColor: style.getPropertyValue("--soft").trim(),
          progressColor: style.getPropertyValue("--accent").trim(),
          media: Object.assign(new Audio(), { src: url }),
          peaks: [peaks(audio)], duration: audio.duration,
        });
        player.current = wave;
        wave.on("play", () => setPlaying(true));
        wave.on("pause", () => setPlaying(false));
        const windows = answer.timeline || answer.segments.map(([start_s, end_s]) => ({ start_s, end_s, genre: "" }));
        // the width of a second is known only then
        wave.once("ready", () => {
          for (const each of windows) {
            regions.addRegion({
              start: each.start_s, end: each.end_s, drag: false, resize: false, content: each.genre,
              color: colour(each.genre, labels).replace(")", " / 25%)"),
            });
          }
        });
        regions.on("region-clicked", (region, event) => {
          event.stopPropagation();
          region.play();
        });
      } catch {
        if (!gone) setFailed(true);
      }
    })();
    return () => {
      gone = true;
      player.current?.destroy();
      URL.revokeObjectURL(url);
    };
  }, [file, answer]);

  return html`
    <div class="wave" ref=${place} hidden=${failed}></div>
    ${failed ? html`<p class="small">This browser cannot show the sound of this file.</p>` : html`<p><button onClick=${() => player.current?.playPause()}>${playing ? "Pause" : "Play"}</button> <span class="small">Coloured: what the model has heard.</span></p>`}
    <table class="windows"><caption>What was heard</caption>
      <thead><tr><th>from</th><th>to</th><th>sounds like</th><th></th></tr></thead>
      <tbody>${(answer.timeline || []).map((each) => html`<tr><td>${seconds(each.start_s)}</td><td>${seconds(each.end_s)}</td><td>${each.genre}</td><td>${percent(each.probability)}</td></tr>`)}</tbody>
    </table>`;
}

function peaks(audio) {
  const samples = audio.getChannelData(0);
  const size = Math.max(1, Math.floor(samples.length / PEAKS));
  return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) => {
    let most = 0;
    for (let j = i * size; j < Math.min(samples.length, (i + 1) * size); j++) most = Math.max(most, Math.abs(samples[j]));
    return most;
  });
}

function Timings({ answer }) {
  const steps = Object.entries(answer.timings_ms);
  const total = steps.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  let x = 0;
  return html`
    <figure class="timings">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=${`Time: ${steps.map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`).join(", ")}`}>
        ${steps.map(([name, ms], i) => {
          const width = (100 * ms) / total;
          x += width;
          return html`<rect x=${x - width} width=${width} height="6" fill=${`hsl(${(47 * i) % 360} 45% 55%)`}><title>${name}: ${ms.toFixed(1)} ms</title></rect>`;
        })}
      </svg>
      <figcaption class="small">${total.toFixed(0)} ms${answer.cached ? ", from the cache" : ""}: ${steps.map(([name, ms]) => `${name} ${ms.toFixed(0)}`).join(" · ")}</figcaption>
    </figure>`;
}

function Correct({ file, answer, labels }) {
  const [kept, setKept] = useState(corrections.all());
  const name = file.webkitRelativePath || file.name;
  const n = Object.keys(kept).length;
  return html`
    <p class="correct"><label>Is that right? What it is:
      <select value=${kept[name] || ""} onChange=${(event) => setKept(corrections.add(name, event.target.value))}>
        <option value="" disabled>choose</option>
        ${labels.map((label) => html`<option value=${label}>${label}${label === answer.top_genre ? " (right)" : ""}</option>`)}
      </select></label></p>
    ${n > 0 && html`<p><button onClick=${corrections.save}>Download ${n} ${n === 1 ? "correction" : "corrections"}</button> <button onClick=${() => setKept(corrections.forget())}>Forget them</button></p>`}`;
}

function Folds({ file, answer, options }) {
  const json = JSON.stringify({ ...answer, prediction_sets: undefined }, null, 2);
  const address = new URL(`v1/classify?${query({ ...options, top_k: answer.predictions.length, timeline: true })}`, location.href);
  const curl = `curl --data-binary @'${file.name.replaceAll("'", "'\\''")}' '${address}'`;
  const rows = (numbers) => Object.entries(numbers).map(([name, value]) => html`<tr><th scope="row">${name.replaceAll("_", " ")}</th><td>${value}</td></tr>`);
  return html`
    <details open=${answer.needs_review}><summary>Why a person should look (${answer.reasons.length})</summary>
      ${answer.reasons.length ? html`<ul>${answer.reasons.map((each) => html`<li>${each.message} <span class="small">${each.code}</span></li>`)}</ul>` : html`<p>Nothing stands out.</p>`}
    </details>
    <${Seen} file=${file} options=${options} />
    <details><summary>The sound</summary><table class="numbers"><tbody>${rows(answer.quality)}${rows(answer.descriptors)}</tbody></table></details>
    <details><summary>Rules and uncertainty</summary>
      ${answer.rules_applied.length ? html`<ul>${answer.rules_applied.map((each) => html`<li>${JSON.stringify(each)}</li>`)}</ul>` : html`<p>No rule changed the probabilities.</p>`}
      <table class="numbers"><tbody>${rows(answer.uncertainty)}</tbody></table>
    </details>
    <details><summary>JSON, and the same request with curl</summary>
      <p><button onClick=${() => navigator.clipboard.writeText(json)}>Copy JSON</button> <button onClick=${() => download(`${file.name}.json`, json, "application/json")}>Download JSON</button> <button onClick=${() => navigator.clipboard.writeText(curl)}>Copy curl</button></p>
      <pre tabindex="0">${curl}</pre><pre tabindex="0">${json}</pre>
    </details>`;
}
