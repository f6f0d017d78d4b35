// The page: a photograph comes in, is colored by the server, compared, chosen and taken away.

import {Fault, colorize, suffix} from "./request.js";

const $ = id => document.getElementById(id);
const PAUSE = 350; // milliseconds after a change before the server is asked

const state = {
  file: null, // the photograph
  shown: true, // whether the browser can show it itself
  references: [],
  seed: 0,
  ownTemperature: true, // until it is moved
  pictures: [], // colorings, as blobs
  chosen: 0,
  running: null, // AbortController of the request
  addresses: new Map(), // of blobs, by the element that shows them
  model: null,
};

// -- showing ----------------------------------------------------------------------------------

function show(image, blob) {
  if (state.addresses.has(image)) URL.revokeObjectURL(state.addresses.get(image));
  const address = URL.createObjectURL(blob);
  state.addresses.set(image, address);
  image.src = address;
  return image.decode().catch(error => {
    // Another picture took its place meanwhile: nothing failed.
    if (state.addresses.get(image) === address) throw error;
  });
}

function say(text, share = null) {
  $("status").textContent = text;
  $("progress").hidden = share === null;
  if (share !== null && share < 1) $("progress").value = share;
  else $("progress").removeAttribute("value");
  document.body.classList.toggle("busy", share !== null);
}

function complain(text) {
  $("fault").textContent = text;
  $("again").hidden = !text || !state.file;
  if (text) say("");
}

/** Let the stage have the proportions of the photograph. */
function fit() {
  const {naturalWidth: width, naturalHeight: height} = $("before");
  if (!width) return;
  $("compare").style.setProperty("--ratio", width / height);
  $("compare").style.setProperty("--pixels", width);
}

function hideResult() {
  for (const id of ["after", "line", "split", "tag-before", "tag-after", "samples"]) $(id).hidden = true;
  document.body.classList.remove("several");
  $("download").removeAttribute("href");
  $("download").setAttribute("aria-disabled", "true");
  state.pictures = [];
}

async function choose(number) {
  state.chosen = number;
  const picture = state.pictures[number];
  await show($("after"), picture);
  if (state.chosen !== number || state.pictures[number] !== picture) return; // another came
  for (const id of ["after", "line", "split", "tag-before", "tag-after"]) $(id).hidden = false;
  const stem = (state.file.name || "photograph").replace(/\.[^.]*$/, "");
  const which = state.pictures.length > 1 ? `-${number + 1}` : "";
  $("download").href = state.addresses.get($("after"));
  $("download").download = `${stem}-colored${which}.${suffix(picture)}`;
  $("download").setAttribute("aria-disabled", "false");
}

function offerSamples() {
  const several = state.pictures.length > 1;
  $("samples").hidden = !several;
  document.body.classList.toggle("several", several);
  for (const image of $("strip").querySelectorAll("img")) {
    URL.revokeObjectURL(state.addresses.get(image));
    state.addresses.delete(image);
  }
  $("strip").replaceChildren();
  if (!several) return;
  state.pictures.forEach((picture, number) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "sample", value: number, checked: number === state.chosen,
    });
    input.addEventListener("change", () => {
      choose(number).catch(error => complain(`The page failed: ${error.message}`));
    });
    const image = Object.assign(document.createElement("img"), {alt: `Coloring ${number + 1}`});
    label.append(input, image);
    $("strip").append(label);
    show(image, picture).catch(() => {}); // the large one says what is wrong
  });
}

function split() {
  $("compare").style.setProperty("--at", `${$("split").value}%`);
  $("split").setAttribute("aria-valuetext", `${$("split").value} percent as it was`);
}

// -- asking the server ------------------------------------------------------------------------

// Half to double, with one in the middle.
const gain = () => String(Math.round(2 ** $("gain").value * 100) / 100);

function options() {
  const draws = state.model?.draws;
  return {
    saturation: $("saturation").value,
    gain: $("auto-gain").checked ? "auto" : gain(),
    foreground: $("foreground").checked && !state.model?.lacks.includes("foreground") ? "all" : null,
    samples: draws ? document.querySelector("[name=count]:checked").value : null,
    seed: draws ? String(state.seed) : null,
    temperature: draws && !state.ownTemperature ? $("temperature").value : null,
    format: state.shown ? null : "png",
  };
}

const references = () => state.model?.takes_reference ? state.references : [];

async function color() {
  state.running?.abort();
  if (!state.file) return;
  const running = state.running = new AbortController();
  complain("");
  const most = state.model ? state.model.max_megabytes : Infinity;
  if (state.file.size > most * 1e6) {
    complain(`The file has ${(state.file.size / 1e6).toFixed(1)} MB; this server takes at most ${most} MB.`);
    return;
  }
  const began = performance.now();
  const seconds = () => Math.round((performance.now() - began) / 1000);
  let clock = 0;
  const told = share => {
    if (running.signal.aborted) return;
    clearInterval(clock);
    if (share < 1) {
      say(`Sending ${Math.round(share * 100)}%`, share);
      return;
    }
    const tell = () => say(seconds() < 2 ? "Coloring" : `Coloring, ${seconds()} s`, 1);
    tell();
    clock = setInterval(tell, 1000);
  };
  told(0);
  try {
    const ask = extra =>
      colorize(state.file, {...options(), ...extra}, references(), told, running.signal);
    const {pictures, model} = await ask({});
    if (running.signal.aborted) return;
    if (!state.shown && !$("before").naturalWidth) {
      const gray = await ask({saturation: "0", samples: null, temperature: null, foreground: null});
      if (running.signal.aborted) return;
      await show($("before"), gray.pictures[0]);
      if (running.signal.aborted) return;
    }
    state.pictures = pictures;
    await choose(Math.min(state.chosen, pictures.length - 1));
    if (running.signal.aborted) return;
    offerSamples();
    clearInterval(clock);
    say(`Colored in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    if (model && model !== state.model?.model) await meet(); // a newer one, of other options
  } catch (error) {
    if (running.signal.aborted || error.name === "AbortError") return;
    clearInterval(clock);
    say("");
    complain(error instanceof Fault ? error.message : `The page failed: ${error.message}`);
    await meet(); // perhaps of another model, that takes other options
  } finally {
    clearInterval(clock);
  }
}

let waiting = 0;
function colorSoon() {
  state.running?.abort();
  clearTimeout(waiting);
  if (state.file) say("Coloring", 1);
  waiting = setTimeout(color, PAUSE);
}

async function take(file) {
  if (!file) return;
  state.running?.abort();
  clearTimeout(waiting);
  hideResult();
  Object.assign(state, {file, chosen: 0, seed: 0});
  $("welcome").hidden = true;
  $("work").hidden = false;
  $("before").alt = `${file.name || "Your photograph"} as it was`;
  // The server reads kinds that a browser cannot show; what it makes of them can be shown.
  const shown = await show($("before"), file).then(() => true, () => false);
  if (state.file !== file) return; // another was dropped meanwhile
  state.shown = shown;
  if (!shown) $("before").removeAttribute("src");
  await color();
}

// -- what the person does ---------------------------------------------------------------------

function write() {
  const number = id => Number($(id).value).toFixed(2);
  const values = {
    saturation: number("saturation"),
    gain: $("auto-gain").checked ? "automatic" : Number(gain()).toFixed(2),
    temperature: state.ownTemperature ? "the model’s own" : number("temperature"),
  };
  for (const [id, text] of Object.entries(values)) {
    document.querySelector(`output[for=${id}]`).textContent = text;
    $(id).setAttribute("aria-valuetext", text);
  }
  $("gain").disabled = $("auto-gain").checked;
}

for (const button of document.querySelectorAll(".choose")) {
  button.addEventListener("click", () => $("file").click());
}
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = ""; // so that the same file may be chosen again
});
$("before").addEventListener("load", fit);
$("split").addEventListener("input", split);
$("again").addEventListener("click", color);
$("redraw").addEventListener("click", () => {
  state.seed += 1;
  colorSoon();
});
$("panel").addEventListener("submit", event => event.preventDefault());
$("panel").addEventListener("input", event => {
  if (event.target.id === "temperature") state.ownTemperature = false;
  if (event.target.type === "file") return;
  write();
  colorSoon();
});
$("panel").addEventListener("reset", () => {
  setTimeout(() => { // after the browser has set the values
    Object.assign(state, {ownTemperature: true, seed: 0, references: []});
    $("reference-picture").hidden = $("drop-reference").hidden = true;
    write();
    colorSoon();
  });
});
$("choose-reference").addEventListener("click", () => $("reference-file").click());
$("reference-file").addEventListener("change", () => {
  const file = $("reference-file").files[0];
  $("reference-file").value = "";
  if (!file) return;
  state.references = [file];
  show($("reference-picture"), file).catch(() => {}); // the server says what is wrong with it
  $("reference-picture").hidden = $("drop-reference").hidden = false;
  colorSoon();
});
$("drop-reference").addEventListener("click", () => {
  state.references = [];
  $("reference-picture").hidden = $("drop-reference").hidden = true;
  $("choose-reference").focus();
  colorSoon();
});

document.addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", event => take(event.clipboardData.files[0]));

// -- what the server has ----------------------------------------------------------------------

async function meet() {
  try {
    const answer = await fetch("api/model");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    state.model = await answer.json();
  } catch (error) {
    $("model").textContent = `The server does not say what it has (${error.message}).`;
    return;
  }
  const {model, draws, takes_reference, lacks, max_megabytes, max_megapixels} = state.model;
  $("model").textContent = model;
  $("limits").textContent =
    `JPEG, PNG, TIFF, WebP and more, up to ${max_megabytes} MB and ${max_megapixels} megapixels.`;
  $("of-drawing").hidden = $("of-temperature").hidden = !draws;
  $("of-reference").hidden = !takes_reference;
  $("of-foreground").hidden = lacks.includes("foreground");
}

write();
split();
meet();
