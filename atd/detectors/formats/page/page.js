/* The page: takes pictures, has them scored one after the other, and tells what was found. */

import { ask } from "./asking.js";
import { card, ordered, show } from "./cards.js";
import { close, explainPicture, isOpen, refresh } from "./detail.js";
import { chosen, dropped } from "./files.js";
import { rangeOf, strip } from "./strip.js";
import { asCsv } from "./table.js";
import { counted, decisionOf, number } from "./words.js";

const $ = (id) => document.getElementById(id);
const REDRAW = 200; // ms between two drawings of the overview

let facts; // of the detector
let pictures = []; // {path, file, card, score?, thumbnail?, width?, height?, error?}, as given
let others = []; // paths of what is no picture
let working = false;
let drawn = 0;

start();

async function start() {
  try {
    const { manifest, exact, verified } = await ask("open");
    introduce(manifest, verified);
    if (!exact) warn();
  } catch (error) {
    $("status").textContent = `The detector cannot be opened: ${error.message}`;
    $("status").classList.add("warn");
    return;
  }
  $("status").hidden = true;
  $("drop").hidden = false;
  $("detector").hidden = false;
  listen();
  document.documentElement.dataset.ready = "true";
}

function introduce({ name, kind, input, threshold, threshold_note, calibration, classes, files }, verified) {
  const set = typeof threshold === "number";
  facts = { threshold: set ? threshold : null, note: set ? threshold_note : "" };
  facts.calibration = calibration?.scores ?? [];
  const [channels, size] = input.shape.slice(1);
  document.title = `${name} · out-of-distribution detector`;
  $("name").textContent = name;
  $("facts").textContent = `${kind} detector · ${size} × ${size} ${channels === 1 ? "grey" : "colour"}`;
  if (classes?.length > 1) $("classes").textContent = ` (${classes.join(", ")})`;
  const rule = "A picture whose score lies above it is called out-of-distribution.";
  const told = {
    Threshold: set ? `${number(threshold)}: ${threshold_note}. ${rule}` : "none is set",
    "What it sees": input.preprocessing,
    "Calibrated with": facts.calibration.length ? counted(facts.calibration.length, "picture") : "",
    "Its file": `SHA-256 ${files["detector.onnx"].sha256.slice(0, 16)}…${verified ? ", verified" : ""}`,
  };
  for (const [term, text] of Object.entries(told)) {
    if (text) $("about").append(element("dt", term), element("dd", text));
  }
}

function warn() {
  $("warning").textContent =
    "This browser changes the pixels that pages read, as a protection against fingerprinting. " +
    "Scores may be wrong until you allow this page to read canvases.";
  $("warning").hidden = false;
}

function listen() {
  for (const id of ["pictures", "folder"]) {
    $(id).addEventListener("change", ({ target }) => {
      add(chosen(target.files));
      target.value = ""; // so that the same files can be chosen again
    });
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    add(await dropped(event.dataTransfer));
  });
  addEventListener("paste", ({ clipboardData }) => add(chosen(clipboardData.files)));
  $("order").addEventListener("change", arrange);
  $("save").addEventListener("click", save);
  $("clear").addEventListener("click", clear);
}

function add(found) {
  const fresh = found.pictures.map((picture) => ({ ...picture }));
  for (const picture of fresh) {
    picture.card = card(picture, open);
    show(picture, facts.threshold);
  }
  pictures.push(...fresh);
  others.push(...found.others);
  if (!pictures.length && !others.length) return;
  $("list").append(...fresh.map((picture) => picture.card));
  $("results").hidden = false;
  $("drop").classList.add("small");
  tell();
  work();
}

async function work() {
  if (working) return;
  working = true;
  for (let next; (next = pictures.find(isWaiting)); ) {
    try {
      const { thumbnail, ...found } = await ask("score", next.file);
      Object.assign(next, found, { thumbnail: URL.createObjectURL(thumbnail) });
    } catch (error) {
      next.error = error.message;
    }
    show(next, facts.threshold);
    refresh(next);
    if (performance.now() - drawn > REDRAW) tell();
  }
  working = false;
  arrange();
  tell();
}

function isWaiting({ score, error }) {
  return score === undefined && error === undefined;
}

function tell() {
  drawn = performance.now();
  const kinds = pictures.map((picture) => decisionOf(picture, facts.threshold).kind);
  const count = (kind) => kinds.filter((one) => one === kind).length;
  const waiting = count("waiting");
  $("progress").value = pictures.length ? 1 - waiting / pictures.length : 0;
  $("progress").classList.toggle("done", !waiting);
  const told = [
    ["in", count("in"), "in-distribution"],
    ["out", count("out"), "out-of-distribution"],
    ["scored", count("scored"), "scored"],
    ["error", count("error"), "unreadable, never taken for in-distribution"],
    ["waiting", waiting, "waiting"],
  ];
  const wanted = facts.threshold === null ? ["scored"] : ["in", "out"];
  $("tally").replaceChildren(
    ...told.filter(([kind, count]) => count || wanted.includes(kind)).map(tile),
  );
  $("others").hidden = !others.length;
  $("others").textContent =
    `${counted(others.length, "file")} of the folders left out, as no pictures: ` +
    `${others.slice(0, 3).join(", ")}${others.length > 3 ? ", …" : ""}`;
  overview(kinds);
}

function tile([kind, count, text]) {
  const item = element("li");
  item.className = kind;
  item.append(element("strong", count.toLocaleString("en")), ` ${text}`);
  return item;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** All scores on one strip; of those that fall on the same place one is drawn. */
function overview(kinds) {
  const scored = pictures.filter(({ score }) => score !== undefined);
  $("overview").parentElement.hidden = !scored.length;
  if (!scored.length) return;
  const range = rangeOf(scored.map(({ score }) => score), facts);
  const places = new Map();
  pictures.forEach(({ score }, index) => {
    if (score === undefined) return;
    places.set(Math.round((600 * (score - range[0])) / (range[1] - range[0])), { score, kind: kinds[index] });
  });
  const words = facts.calibration.length
    ? `Grey: the scores of ${counted(facts.calibration.length, "calibration picture")}. Ticks: your pictures. ` +
      "Further right is more likely out-of-distribution."
    : "Ticks: your pictures. Further right is more likely out-of-distribution.";
  const width = $("overview").clientWidth || 300;
  $("overview").replaceChildren(strip(facts, range, [...places.values()], "Scores of all pictures", width));
  $("overview-words").textContent = words;
}

function arrange() {
  $("list").append(...ordered(pictures, $("order").value).map((picture) => picture.card));
}

function open(picture) {
  explainPicture(picture, { facts, pictures: () => ordered(pictures, $("order").value) });
}

function save() {
  const done = pictures.filter((picture) => !isWaiting(picture));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([asCsv(done, facts.threshold)], { type: "text/csv" }));
  link.download = "scores.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  if (isOpen()) close();
  for (const { thumbnail } of pictures) if (thumbnail) URL.revokeObjectURL(thumbnail);
  pictures = [];
  others = [];
  $("list").replaceChildren();
  $("results").hidden = true;
  $("drop").classList.remove("small");
}
