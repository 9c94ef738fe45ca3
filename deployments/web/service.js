// The service tab: what it has done, its models and settings. Read-only.

import { get } from "./api.js";
import { Problem } from "./app.js";
import { html, useEffect, useState } from "./vendor/preact-htm.js";

const EVERY_MS = 5000;

export function Service({ models }) {
  const [stats, setStats] = useState(null);
  const [config, setConfig] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    const look = async () => {
      if (document.hidden) return;
      try {
        setStats(await get("v1/stats"));
        setError(null);
      } catch (problem) {
        setError(problem);
      }
    };
    look();
    get("v1/config").then(setConfig, setError);
    const timer = setInterval(look, EVERY_MS);
    return () => clearInterval(timer);
  }, []);

  return html`
    <article class="service" aria-label="The service">
      ${error && html`<${Problem} error=${error} />`}
      <section class="card"><h2>Models</h2>
        <table class="numbers"><thead><tr><th>name</th><th>version</th><th>digest</th><th>genres</th><th>calibrated</th></tr></thead>
        <tbody>${models.map((each) => html`<tr><th scope="row">${each.name}</th><td>${each.version}</td><td><code>${each.digest}</code></td><td>${each.n_genres}</td><td>${each.calibrated ? "yes" : "no"}</td></tr>`)}</tbody></table>
      </section>
      ${stats && html`<${Stats} stats=${stats} />`}
      ${config && html`<section class="card"><h2>Settings</h2><div class="scroll" tabindex="0" role="region" aria-label="Settings"><table class="numbers"><tbody>
        ${flat(config).map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)}</tbody></table></div></section>`}
    </article>`;
}

function Stats({ stats }) {
  const totals = Object.entries(stats.requests);
  const most = Math.max(1, ...Object.values(stats.latency_ms).map((each) => each.p95));
  return html`
    <section class="card"><h2>Since the start</h2>
      <p>${totals.length ? totals.map(([code, n]) => `${code} ${n}`).join(" · ") : "No request yet."}</p>
      <table class="numbers"><tbody>
        <tr><th scope="row">up</th><td>${Math.round(stats.uptime_s / 60)} min</td></tr>
        <tr><th scope="row">from the cache</th><td>${share(stats.cache_hit_ratio)}</td></tr>
        <tr><th scope="row">to look at</th><td>${share(stats.review_ratio)}</td></tr>
        <tr><th scope="row">drift of the confidences</th><td>${stats.confidence_drift ?? "not enough answers"} <span class="small">(0.25 is much)</span></td></tr>
      </tbody></table>
      <table class="numbers"><caption>Milliseconds per step</caption><thead><tr><th>step</th><th>half of the answers</th><th>95 of 100</th><th></th></tr></thead>
        <tbody>${Object.entries(stats.latency_ms).map(([step, { p50, p95 }]) => html`<tr><th scope="row">${step}</th><td>${p50}</td><td>${p95}</td><td><svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width=${(100 * p95) / most} height="10" fill="var(--soft)" /><rect width=${(100 * p50) / most} height="10" fill="var(--accent)" /></svg></td></tr>`)}</tbody></table>
    </section>`;
}

const share = (value) => (value == null ? "no answer yet" : `${Math.round(100 * value)} %`);

function flat(value, name = "") {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([key, inner]) => flat(inner, name ? `${name}.${key}` : key));
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return [[name, text.length > 200 ? `${text.slice(0, 200)} …` : text]];
}
