/* The page: takes pictures, has them scored one after the other, and tells what was found. */

import { introduce } from "./about.js";
import { ask } from "./asking.js";
import { card, ordered, show } from "./cards.js";
import { close, explainPicture, refresh } from "./detail.js";
import { chosen, dropped } from "./files.js";
import { rangeOf, strip } from "./strip.js";
import { asCsv } from "./table.js";
import { counted, decisionOf, element } from "./words.js";

const $ = (id) => document.getElementById(id);
const PAUSE = 200; // ms between two drawings of the overview, or ten times what one takes

let facts; // of the detector, see `introduce`
let pictures = []; // {path, file, card, score?, thumbnail?, width?, height?, error?}, as given
let others = []; // paths of what is no picture
let queue = []; // pictures that wait
let working = false;
let due = 0; // when the overview is to be drawn again

start();

async function start() {
  try {
    const { manifest, exact, ...found } = await ask("open");
    facts = introduce(manifest, found);
    $("warning").hidden = exact;
  } catch (error) {
    $("status").textContent = `The detector cannot be opened: ${error.message}`;
    $("status").classList.add("warn");
    return;
  }
  $("status").hidden = true;
  $("drop").hidden = $("detector").hidden = false;
  listen();
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
  addEventListener("resize", () => $("results").hidden || tell());
  $("order").addEventListener("change", arrange);
  $("save").addEventListener("click", save);
  $("clear").addEventListener("click", clear);
}

function add(found) {
  if (!found.pictures.length && !found.others.length) return;
  for (const picture of found.pictures) {
    picture.card = card(picture, open);
    show(picture, facts.threshold);
  }
  pictures.push(...found.pictures);
  queue.push(...found.pictures);
  others.push(...found.others);
  $("list").append(...found.pictures.map((picture) => picture.card));
  $("results").hidden = false;
  $("drop").classList.add("small");
  tell();
  work();
}

async function work() {
  if (working) return;
  working = true;
  await Promise.all([drain(), drain()]); // the worker goes on while the page tells
  working = false;
  arrange();
  tell();
}

async function drain() {
  for (let picture; (picture = queue.shift());) {
    try {
      const { thumbnail, ...found } = await ask("score", picture.file);
      Object.assign(picture, found, { thumbnail: URL.createObjectURL(thumbnail) });
    } catch (error) {
      picture.error = error.message;
    }
    show(picture, facts.threshold);
    refresh(picture);
    if (performance.now() > due) tell();
  }
}

function tell() {
  const began = performance.now();
  const kinds = pictures.map((picture) => decisionOf(picture, facts.threshold).kind);
  const count = (kind) => kinds.filter((one) => one === kind).length;
  $("progress").value = 1 - count("waiting") / Math.max(pictures.length, 1);
  $("progress").classList.toggle("done", !count("waiting"));
  const always = facts.threshold === null ? ["scored"] : ["in", "out"];
  const tiles = Object.entries({
    in: "in-distribution",
    out: "out-of-distribution",
    scored: "scored",
    error: "unreadable, never taken for in-distribution",
    waiting: "waiting",
  }).filter(([kind]) => count(kind) || always.includes(kind));
  $("tally").replaceChildren(...tiles.map(([kind, text]) => tile(kind, count(kind), text)));
  $("others").hidden = !others.length;
  const named = others.slice(0, 3).join(", ") + (others.length > 3 ? ", …" : "");
  $("others").textContent =
    `Left out, as no pictures: ${counted(others.length, "file")} (${named}).`;
  overview(kinds);
  const ended = performance.now();
  due = ended + Math.max(PAUSE, 10 * (ended - began));
}

function tile(kind, count, text) {
  const item = element("li");
  item.className = kind;
  item.append(element("strong", count.toLocaleString("en")), ` ${text}`);
  return item;
}

/** All scores on one strip; of those that fall on the same place one is drawn. */
function overview(kinds) {
  const scores = pictures.flatMap(({ score }) => (score === undefined ? [] : [score]));
  $("overview").parentElement.hidden = !scores.length;
  if (!scores.length) return;
  const width = $("overview").clientWidth || 300;
  const [low, high] = rangeOf(scores, facts);
  const marks = new Map();
  pictures.forEach(({ score }, index) => {
    const place = Math.round((width * (score - low)) / (high - low));
    if (score !== undefined) marks.set(place, { score, kind: kinds[index] });
  });
  const drawing = strip(facts, [low, high], [...marks.values()], "Scores of all pictures", width);
  $("overview").replaceChildren(drawing);
  const known = facts.calibration.length;
  $("overview-words").textContent =
    (known ? `Grey: the scores of ${counted(known, "calibration picture")}. ` : "") +
    "Ticks: your pictures. Further right is more likely out-of-distribution.";
}

function arrange() {
  $("list").append(...ordered(pictures, $("order").value).map((picture) => picture.card));
}

function open(picture) {
  explainPicture(picture, { facts, pictures: () => ordered(pictures, $("order").value) });
}

function save() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([asCsv(pictures, facts.threshold)]));
  link.download = "scores.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  close();
  for (const { thumbnail } of pictures) if (thumbnail) URL.revokeObjectURL(thumbnail);
  [pictures, others, queue] = [[], [], []];
  $("list").replaceChildren();
  $("results").hidden = true;
  $("drop").classList.remove("small");
}
