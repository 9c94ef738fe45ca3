// What people say is right, kept in this browser until they download it as a manifest.

import { csvCell, download } from "./words.js";

const PLACE = "acousticsense-corrections";

export function all() {
  try {
    return JSON.parse(localStorage.getItem(PLACE)) || {};
  } catch {
    return {};
  }
}

export function add(file, genre) {
  const kept = { ...all(), [file]: genre };
  localStorage.setItem(PLACE, JSON.stringify(kept));
  return kept;
}

export function forget() {
  localStorage.removeItem(PLACE);
  return {};
}

export function save() {
  const rows = Object.entries(all()).map(([file, genre]) => `${csvCell(file)},${csvCell(genre)}`);
  download("manifest.csv", ["file,genre", ...rows, ""].join("\n"), "text/csv");
}
