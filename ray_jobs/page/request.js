// One request to the server: a picture there, colored ones back.

const SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/tiff": "tif"};

/** A reason that is told to the person. */
export class Fault extends Error {}

/**
 * Have a picture colored.
 * `options` are those of the server's API; `references` are files. `told` hears of the share of the
 * upload that is done, 1 when the server works. Returns {pictures: [Blob], model}; the request ends
 * where `signal` is aborted. Throws Fault.
 */
export async function colorize(file, options, references, told, signal) {
  const set = Object.entries(options).filter(([, value]) => value !== null && value !== false);
  if (!references.length) {
    const query = new URLSearchParams(set);
    return send(`api/colorize?${query}`, file, file.type || "application/octet-stream", told, signal);
  }
  const body = Object.fromEntries(set);
  body.picture = await base64(file);
  body.reference = await Promise.all(references.map(base64));
  return send("api/colorize", JSON.stringify(body), "application/json", told, signal);
}

/** The suffix of a picture's name by its type. */
export const suffix = picture => SUFFIXES[picture.type] ?? "png";

function send(address, body, type, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.responseType = "blob";
    // A file that the browser has no picture's type for is sent as bytes: the server looks itself.
    const known = type.startsWith("image/") || type === "application/json";
    request.setRequestHeader("Content-Type", known ? type : "application/octet-stream");
    request.upload.onprogress = event => told(event.lengthComputable ? event.loaded / event.total : 0);
    request.upload.onload = () => told(1);
    request.onload = () => read(request).then(resolve, reject);
    request.onerror = () => reject(new Fault("The server cannot be reached. Is it still running?"));
    request.onabort = () => reject(new DOMException("another request came", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) reject(new DOMException("another request came", "AbortError"));
    else request.send(body);
  });
}

async function read(request) {
  const answer = request.response;
  const json = answer.type.startsWith("application/json");
  if (request.status !== 200) throw new Fault(await reason(request.status, answer, json));
  if (!json) return {pictures: [answer], model: request.getResponseHeader("X-Model") ?? ""};
  const {model, pictures} = JSON.parse(await answer.text());
  return {model, pictures: pictures.map(({type, data}) => new Blob([bytes(data)], {type}))};
}

async function reason(status, answer, json) {
  if (!json) return `The server answered with status ${status}.`;
  const {error} = JSON.parse(await answer.text());
  return error.charAt(0).toUpperCase() + error.slice(1);
}

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Fault(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
