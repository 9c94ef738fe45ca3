// The page: one song, many files, the service. State is here; the parts only draw it.

import { ApiError, advice, classify, exampleFile, get, setKey } from "./api.js";
import { Folder } from "./folder.js";
import { asWav, record } from "./record.js";
import { Service } from "./service.js";
import { Song } from "./song.js";
import { html, render, useEffect, useRef, useState } from "./vendor/preact-htm.js";

const RECORD_S = 10;
const AUDIO = /\.(mp3|flac|ogg|oga|opus|wav|aiff?|aifc|au|caf|w64|m4a|m4b|aac|mp2|mka|weba|webm|wma|mp4|3gp)$/i;

function App() {
  const [labels, setLabels] = useState([]);
  const [models, setModels] = useState([]);
  const [ready, setReady] = useState(null);
  const [needsKey, setNeedsKey] = useState(false);
  const [tab, setTab] = useState("song");
  const [files, setFiles] = useState([]);
  const [options, setOptions] = useState({ effort: "balanced", coverage: "0.9" });
  const [problem, setProblem] = useState(null);

  async function start() {
    try {
      const [known, list] = await Promise.all([get("v1/labels"), get("v1/models")]);
      setLabels(known.labels.map((label) => label.name));
      setModels(list.models);
      setNeedsKey(false);
      setProblem(null);
    } catch (error) {
      if (error.code === "unauthorized") setNeedsKey(true);
      else setProblem(error);
    }
  }

  useEffect(() => {
    start();
    const look = async () => {
      if (document.hidden) return;
      try {
        await get("readyz");
        setReady(true);
      } catch {
        setReady(false);
      }
    };
    look();
    const timer = setInterval(look, 10000);
    return () => clearInterval(timer);
  }, []);

  function take(chosen) {
    const audio = chosen.filter((file) => chosen.length === 1 || AUDIO.test(file.name));
    if (!audio.length) {
      setProblem(chosen.length ? { message: "None of these files is audio by its name." } : null);
      return;
    }
    setProblem(null);
    setFiles(audio);
    setTab(audio.length === 1 ? "song" : "folder");
  }

  const model = models.find((each) => each.is_default);
  return html`
    <header>
      <h1>AcousticSense</h1>
      <p class="model">${model ? `${model.checkpoint || model.name} ${model.version}` : ""}</p>
      <p class="state" role="status">
        <span class=${ready ? "dot on" : "dot"} aria-hidden="true"></span>${" "}
        ${ready === null ? "looking …" : ready ? "ready" : "not ready"}
      </p>
      <nav aria-label="Views">
        <button aria-current=${tab !== "service"} onClick=${() => setTab(files.length > 1 ? "folder" : "song")}>Listen</button>
        <button aria-current=${tab === "service"} onClick=${() => setTab("service")}>Service</button>
        <a href="docs">API</a>
      </nav>
    </header>
    <main>
      ${needsKey && html`<${Key} onKey=${(key) => { setKey(key); start(); }} />`}
      ${!needsKey && tab !== "service" && html`<${Choose} options=${options} onOptions=${setOptions} onFiles=${take} onProblem=${setProblem} />`}
      ${problem && html`<${Problem} error=${problem} />`}
      ${!needsKey && tab === "song" && files.length === 1 && html`<${One} key=${files[0].name + files[0].size + files[0].lastModified} file=${files[0]} options=${options} labels=${labels} onKey=${() => setNeedsKey(true)} />`}
      ${!needsKey && tab === "folder" && files.length > 1 && html`<${Folder} files=${files} options=${options} labels=${labels} onOpen=${(file) => take([file])} />`}
      ${!needsKey && tab === "service" && html`<${Service} models=${models} />`}
    </main>
    <footer><p>Files go to this service only; it keeps no sound. Corrections stay in this browser.</p></footer>`;
}

function Key({ onKey }) {
  const input = useRef(null);
  return html`
    <form class="card" onSubmit=${(event) => { event.preventDefault(); onKey(input.current.value); }}>
      <h2>This service asks for a key</h2>
      <label>API key <input ref=${input} type="password" required autocomplete="off" /></label>
      <button>Continue</button>
    </form>`;
}

export function Problem({ error }) {
  return html`
    <div class="card problem" role="alert">
      <p><strong>${error.message}</strong></p>
      ${advice(error.code) && html`<p>${advice(error.code)}</p>`}
      ${error.requestId && html`<p class="small">Request id: <code>${error.requestId}</code></p>`}
    </div>`;
}

function Choose({ options, onOptions, onFiles, onProblem }) {
  const [over, setOver] = useState(false);
  const [recorded, setRecorded] = useState(null);
  const one = useRef(null);
  const folder = useRef(null);

  async function drop(event) {
    event.preventDefault();
    setOver(false);
    const items = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = items.length ? (await Promise.all(items.map(entryFiles))).flat() : [...event.dataTransfer.files];
    onFiles(found);
  }

  async function microphone() {
    try {
      setRecorded(0);
      onFiles([await record(RECORD_S, setRecorded)]);
    } catch (error) {
      onProblem({ message: `The microphone cannot be used: ${error.message}.` });
    } finally {
      setRecorded(null);
    }
  }

  async function example() {
    try {
      onFiles([await exampleFile()]);
    } catch (error) {
      onProblem(error);
    }
  }

  const change = (name) => (event) => onOptions({ ...options, [name]: event.target.value });
  return html`
    <section class=${over ? "choose over" : "choose"} aria-label="Choose audio"
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }}
      onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <p class="invite">Drop songs or a folder here, or</p>
      <p class="buttons">
        <button onClick=${() => one.current.click()}>Choose files</button>
        <button onClick=${() => folder.current.click()}>Choose a folder</button>
        <button onClick=${microphone} disabled=${recorded !== null}>${recorded === null ? `Record ${RECORD_S} s` : `Recording: ${recorded} s`}</button>
        <button onClick=${example}>Try an example</button>
      </p>
      <input ref=${one} id="files" type="file" multiple hidden aria-label="Audio files" onChange=${(event) => onFiles([...event.target.files])} />
      <input ref=${folder} id="folder" type="file" webkitdirectory hidden aria-label="Folder of audio files" onChange=${(event) => onFiles([...event.target.files])} />
      <p class="options">
        <label>Effort
          <select value=${options.effort} onChange=${change("effort")}>
            ${["fast", "balanced", "thorough", "auto"].map((effort) => html`<option value=${effort}>${effort}</option>`)}
          </select>
        </label>
        <label>Certainty of the set
          <input type="range" min="0.5" max="0.95" step="0.01" value=${options.coverage} onChange=${change("coverage")} />
          <output>${Math.round(100 * options.coverage)} %</output>
        </label>
      </p>
    </section>`;
}

async function entryFiles(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map(entryFiles))).flat();
}

function One({ file, options, labels, onKey }) {
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    const cancel = new AbortController();
    const wanted = { effort: options.effort, timeline: true, sets: true, top_k: labels.length || "" };
    const ask = async (data) => {
      for (;;) {
        try {
          return await classify(data, wanted, cancel.signal);
        } catch (problem) {
          if (problem.status !== 429) throw problem;
          setError(problem);
          await new Promise((resolve) => setTimeout(resolve, 1000 * problem.retryAfterS));
        }
      }
    };
    (async () => {
      setError(null);
      try {
        setAnswer(await ask(file));
        setError(null);
      } catch (problem) {
        if (problem.name === "AbortError") return;
        if (problem.code === "unauthorized") onKey();
        if (problem.code !== "unsupported_audio") return setError(problem);
        try {
          setAnswer(await ask(await asWav(file)));
          setError(null);
        } catch (second) {
          setError(second instanceof ApiError ? second : problem);
        }
      }
    })();
    return () => cancel.abort();
  }, [file, options.effort, labels.length]);

  if (error) return html`<${Problem} error=${error} />`;
  if (!answer) return html`<p class="start" role="status">Listening to ${file.name} …</p>`;
  return html`<${Song} file=${file} answer=${answer} labels=${labels} options=${options} />`;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
