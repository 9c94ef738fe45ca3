// Calls to the service that served this page; nothing goes anywhere else.

const KEY = "acousticsense-key";

export class ApiError extends Error {
  constructor(status, error, requestId, retryAfterS) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }
}

const ADVICE = {
  overloaded: "The service is busy. It is asked again by itself.",
  upload_too_large: "Send a shorter file, or one with a lower bitrate.",
  unsupported_audio: "Convert the file to MP3, FLAC, Ogg or WAV.",
  audio_decode_failed: "The file is damaged or cut off: copy or encode it again.",
  audio_too_short: "Send at least a second of sound.",
  silent_audio: "The file has no sound: check the recording.",
  unauthorized: "Enter the API key of this service.",
  offline: "Check that the service runs, then try again.",
};

export const advice = (code) => ADVICE[code] || "";

export const setKey = (key) => sessionStorage.setItem(KEY, key);

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function call(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const offline = { code: "offline", message: "The service does not answer." };
    throw new ApiError(0, offline, "", 5);
  }
  const requestId = reply.headers.get("x-request-id") || "";
  let body;
  try {
    body = await reply.json();
  } catch {
    body = { error: { code: "http", message: `The reply has status ${reply.status}.` } };
  }
  if (!reply.ok) {
    const retryAfterS = Number(reply.headers.get("retry-after")) || 1;
    throw new ApiError(reply.status, body.error, requestId, retryAfterS);
  }
  return body;
}

export const get = (path) => call(path);

export function query(options) {
  const wanted = Object.entries(options).filter(([, value]) => value !== "" && value != null);
  return new URLSearchParams(wanted).toString();
}

function send(path, file, options, signal) {
  const named = { ...options, file: (file.name || "").slice(-200) };
  return call(`${path}?${query(named)}`, {
    method: "POST",
    body: file,
    headers: { "content-type": "application/octet-stream" },
    signal,
  });
}

export const classify = (file, options, signal) => send("v1/classify", file, options, signal);

export const logMel = (file, options) => send("v1/log-mel", file, options);

export async function exampleFile() {
  const reply = await fetch("v1/example.wav", { headers: headers() });
  if (!reply.ok) throw new ApiError(reply.status, (await reply.json()).error, "", 1);
  return new File([await reply.blob()], "example.wav", { type: "audio/wav" });
}
