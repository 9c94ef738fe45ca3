// Many files: a table that fills as answers come, a few requests at a time.

import { classify } from "./api.js";
import { Bar } from "./song.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { colour, csvCell, download, isMusic, percent, phrase, seconds, setAt } from "./words.js";

const AT_A_TIME = 4;
const MANY = 500;
const WAITING = "waiting";
const RUNNING = "listening";
const DONE = "done";
const FAILED = "failed";

export function Folder({ files, options, labels, onOpen }) {
  const [rows, setRows] = useState([]);
  const [paused, setPaused] = useState(false);
  const [sort, setSort] = useState({ by: "index", up: true });
  const [show, setShow] = useState("all");
  const work = useRef(null);

  useEffect(() => {
    work.current = new Work(files, { effort: options.effort, sets: true }, setRows);
    work.current.run();
    return () => work.current.stop();
  }, [files, options.effort]);

  const n = (state) => rows.filter((row) => row.state === state).length;
  const done = n(DONE) + n(FAILED);
  const genres = useMemo(() => counted(rows), [rows]);
  const shown = sorted(rows.filter((row) => passes(row, show)), sort);
  const header = (by, text) => html`<th aria-sort=${sort.by === by ? (sort.up ? "ascending" : "descending") : "none"}><button class="plain" onClick=${() => setSort({ by, up: sort.by === by ? !sort.up : true })}>${text}</button></th>`;

  function pause() {
    setPaused(!paused);
    work.current.pause(!paused);
  }

  return html`
    <article aria-label="Answers about many files">
      ${files.length > MANY && html`<p class="card">For ${files.length.toLocaleString()} files the command is faster and can be continued: <code>acousticsense batch FOLDER --out results</code></p>`}
      <p class="progress" role="status" aria-live="polite">${done} of ${rows.length} done${n(FAILED) ? `, ${n(FAILED)} failed` : ""}${paused ? ", paused" : ""}${work.current?.left ? ` · ${work.current.left}` : ""}</p>
      <progress max=${rows.length || 1} value=${done} aria-label="Progress"></progress>
      <p class="buttons">
        <button onClick=${pause} disabled=${done === rows.length}>${paused ? "Go on" : "Pause"}</button>
        <button onClick=${() => work.current.retry()} disabled=${!n(FAILED)}>Retry failed</button>
        <label>Show <select value=${show} onChange=${(event) => setShow(event.target.value)}>
          <option value="all">all</option><option value="review">to look at</option><option value="failed">failed</option>
          ${genres.map(([genre, count]) => html`<option value=${`genre:${genre}`}>${genre} (${count})</option>`)}
        </select></label>
        <button onClick=${() => download("genres.csv", csv(rows, options.coverage), "text/csv")} disabled=${!done}>CSV</button>
        <button onClick=${() => download("genres.jsonl", jsonl(rows), "application/jsonl")} disabled=${!done}>JSON lines</button>
        <button onClick=${() => playlists(rows)} disabled=${!n(DONE)}>Playlist per genre</button>
      </p>
      <${Strip} genres=${genres} labels=${labels} />
      <div class="scroll" tabindex="0" role="region" aria-label="Table of files">
      <table class="files">
        <thead><tr>${header("name", "file")}${header("state", "state")}${header("genre", "genre")}${header("confidence", "probability")}<th>could be</th>${header("review", "look at")}${header("duration", "length")}</tr></thead>
        <tbody>${shown.map((row) => html`<${Row} key=${row.index} row=${row} coverage=${options.coverage} labels=${labels} onOpen=${onOpen} />`)}</tbody>
      </table></div>
    </article>`;
}

function Row({ row, coverage, labels, onOpen }) {
  const { answer, error } = row;
  const genre = answer && (isMusic(answer) ? answer.top_genre : "not music");
  return html`
    <tr class=${row.state}>
      <th scope="row"><button class="plain" onClick=${() => onOpen(row.file)}>${row.name}</button></th>
      <td>${row.state}</td>
      ${error ? html`<td colspan="5">${error.message}${error.requestId ? html` <code class="small">${error.requestId}</code>` : ""}</td>` : answer ? html`
        <td>${genre}</td>
        <td><${Bar} share=${answer.confidence} fill=${colour(answer.top_genre, labels)} /> ${percent(answer.confidence)}</td>
        <td>${(setAt(answer, coverage)?.genres || []).filter((each) => each !== answer.top_genre).join(", ")}</td>
        <td>${answer.needs_review ? `⚠ ${answer.reasons.map((each) => phrase(each.code)).join(", ")}` : ""}</td>
        <td>${seconds(answer.duration_s)}</td>` : html`<td colspan="5"></td>`}
    </tr>`;
}

function Strip({ genres, labels }) {
  const total = genres.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return null;
  let x = 0;
  return html`
    <figure><svg class="strip" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=${genres.map(([genre, count]) => `${genre} ${count}`).join(", ")}>
      ${genres.map(([genre, count]) => {
        const width = (100 * count) / total;
        x += width;
        return html`<rect x=${x - width} width=${width} height="8" fill=${colour(genre, labels)}><title>${genre}: ${count}</title></rect>`;
      })}</svg>
      <figcaption class="small">${genres.map(([genre, count]) => `${genre} ${count}`).join(" · ")}</figcaption></figure>`;
}

// Sends the files, four at a time; fewer while the service says that it is busy.
class Work {
  constructor(files, options, show) {
    this.options = options;
    this.show = show;
    this.cancel = new AbortController();
    this.rows = files.map((file, index) => ({
      index, file, name: file.webkitRelativePath || file.name, state: WAITING, answer: null, error: null,
    }));
    this.allowed = AT_A_TIME;
    this.running = 0;
    this.begun = performance.now();
    this.draw();
  }

  get left() {
    const done = this.rows.filter((row) => row.state === DONE || row.state === FAILED).length;
    const waiting = this.rows.length - done;
    if (!done || !waiting) return "";
    const left = (((performance.now() - this.begun) / done) * waiting) / 1000;
    return left < 90 ? `${Math.ceil(left)} s left` : `${Math.ceil(left / 60)} min left`;
  }

  draw() {
    this.show([...this.rows]);
  }

  pause(paused) {
    this.paused = paused;
    this.run();
  }

  stop() {
    this.cancel.abort();
  }

  retry() {
    for (const row of this.rows) {
      if (row.state === FAILED) Object.assign(row, { state: WAITING, error: null });
    }
    this.run();
  }

  run() {
    while (!this.paused && !this.cancel.signal.aborted && this.running < this.allowed) {
      const row = this.rows.find((each) => each.state === WAITING);
      if (!row) return;
      this.running += 1;
      row.state = RUNNING;
      this.draw();
      this.one(row).finally(() => {
        this.running -= 1;
        this.draw();
        this.run();
      });
    }
  }

  async one(row) {
    try {
      row.answer = await classify(row.file, this.options, this.cancel.signal);
      row.state = DONE;
      this.allowed = Math.min(AT_A_TIME, this.allowed + 1);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 429 || error.status === 503) {
        this.allowed = Math.max(1, Math.floor(this.allowed / 2));
        row.state = WAITING;
        await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfterS));
        return;
      }
      Object.assign(row, { state: FAILED, error });
    }
  }
}

function passes(row, show) {
  if (show === "failed") return row.state === FAILED;
  if (show === "review") return row.answer?.needs_review;
  if (show.startsWith("genre:")) return row.answer && genreOf(row) === show.slice(6);
  return true;
}

const genreOf = (row) => (isMusic(row.answer) ? row.answer.top_genre : "not music");

function counted(rows) {
  const counts = new Map();
  for (const row of rows) {
    if (row.answer) counts.set(genreOf(row), (counts.get(genreOf(row)) || 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const VALUES = {
  index: (row) => row.index,
  name: (row) => row.name.toLowerCase(),
  state: (row) => row.state,
  genre: (row) => (row.answer ? genreOf(row) : "~"),
  confidence: (row) => row.answer?.confidence ?? -1,
  review: (row) => row.answer?.reasons.length ?? -1,
  duration: (row) => row.answer?.duration_s ?? -1,
};

function sorted(rows, { by, up }) {
  const value = VALUES[by];
  const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.index - b.index);
  return [...rows].sort((a, b) => (up ? order(a, b) : -order(a, b)));
}

function csv(rows, coverage) {
  const lines = rows.filter((row) => row.answer || row.error).map((row) => [
    row.name, row.answer ? row.answer.top_genre : "", row.answer ? row.answer.confidence : "",
    row.answer ? (setAt(row.answer, coverage)?.genres || []).join("; ") : "",
    row.answer ? row.answer.reasons.map((each) => each.code).join("; ") : "",
    row.error ? row.error.message : "",
  ].map(csvCell).join(","));
  return ["file,top_genre,confidence,prediction_set,reasons,error", ...lines, ""].join("\n");
}

const jsonl = (rows) => rows.filter((row) => row.answer || row.error).map((row) => JSON.stringify(row.answer ? { ...row.answer, prediction_sets: undefined, file: row.name } : { file: row.name, error: { code: row.error.code, message: row.error.message } })).join("\n") + "\n";

function playlists(rows) {
  const byGenre = new Map();
  for (const row of rows) {
    if (!row.answer || !isMusic(row.answer)) continue;
    byGenre.set(row.answer.top_genre, [...(byGenre.get(row.answer.top_genre) || []), row.name]);
  }
  for (const [genre, names] of byGenre) {
    download(`${genre.replaceAll("/", "-")}.m3u8`, ["#EXTM3U", ...names, ""].join("\n"), "audio/x-mpegurl");
  }
}
