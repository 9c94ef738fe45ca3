// Numbers and codes as words, and the colours of genres.

export const percent = (p) => `${Math.round(100 * p)} %`;

export function seconds(s) {
  if (s == null) return "";
  const whole = Math.round(s);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

const PHRASES = {
  LOW_CONFIDENCE: "unsure",
  CLOSE_RIVAL: "close rival",
  NOT_MUSIC: "not music",
  UNFAMILIAR: "unfamiliar",
  WINDOWS_DISAGREE: "parts differ",
  NOISY: "noisy",
  NARROW_BAND: "dull sound",
  CLIPPED: "clipped",
  SHORT: "short",
  MOSTLY_SILENT: "mostly silent",
  LENGTH_MISMATCH: "length differs",
  CHANNELS_CANCEL: "channels cancel",
  NOT_CALIBRATED: "not calibrated",
  OUTSIDE_TAXONOMY: "outside the genres",
};

export const phrase = (code) => PHRASES[code] || code.toLowerCase().replaceAll("_", " ");

// the set at a coverage, from an answer that lists them all
export function setAt(answer, coverage) {
  return (answer.prediction_sets || []).find((each) => Math.abs(each.coverage - coverage) < 0.005) || answer.prediction_set;
}

export const isMusic = (answer) => !answer.reasons.some((each) => each.code === "NOT_MUSIC");

// sixteen hues by the order of the labels; genres are always named as well
export function colour(genre, labels) {
  const i = Math.max(0, labels.indexOf(genre));
  return `hsl(${Math.round((360 * i) / Math.max(1, labels.length))} 60% 45%)`;
}

export function csvCell(value) {
  const text = String(value ?? "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
