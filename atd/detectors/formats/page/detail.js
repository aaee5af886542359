/* One picture in a dialog: the decision, where its score stands, and which parts matter. */

import { ask } from "./asking.js";
import { rangeOf, strip } from "./strip.js";
import { counted, decisionOf, element, explain, number } from "./words.js";

const $ = (id) => document.getElementById(id);
const dialog = $("detail");

let shown; // the picture
let context; // {facts, pictures()}
let source = ""; // URL of the picture's file

$("close").addEventListener("click", () => close());
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("occlude").addEventListener("click", occlude);
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) close();
});
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("close", () => {
  shown = undefined;
  URL.revokeObjectURL(source);
});

export function close() {
  dialog.close();
}

/** Opens the dialog on a picture; `around` holds the facts and, as a function, all pictures. */
export function explainPicture(picture, around) {
  context = around;
  if (!dialog.open) dialog.showModal();
  fill(picture);
}

/** Tells the dialog that a picture was scored. */
export function refresh(picture) {
  if (picture === shown) fill(picture);
}

function step(by) {
  const all = context.pictures();
  fill(all[(all.indexOf(shown) + by + all.length) % all.length]);
}

function fill(picture) {
  shown = picture;
  const { facts } = context;
  const decision = decisionOf(picture, facts.threshold);
  const scored = picture.score !== undefined;
  $("detail-name").textContent = picture.path.split("/").pop();
  $("detail-name").title = picture.path;
  $("detail-decision").className = `decision ${decision.kind}`;
  $("detail-decision").textContent = `${decision.mark} ${decision.label}`;
  const words = scored ? explain(picture.score, facts) : [reason(picture)];
  $("detail-words").replaceChildren(...words.map((text) => element("p", text)));
  $("detail-strip").replaceChildren(...(scored ? [drawing(picture, decision.kind)] : []));
  $("detail-size").textContent = scored ? `your picture, ${picture.width} × ${picture.height}` : "";
  $("occlude-words").textContent = "";
  for (const element of [dialog.querySelector(".views"), $("occlude")]) element.hidden = !scored;
  URL.revokeObjectURL(source);
  if (!scored) return;
  source = URL.createObjectURL(picture.file);
  $("detail-picture").src = source;
  look(picture).catch(() => {}); // the file is gone: its score stays
}

function reason({ error }) {
  if (error === undefined) return "It is waiting for its turn.";
  return `There is no score: ${error}. A picture in doubt is never taken for in-distribution.`;
}

function drawing(picture, kind) {
  const { facts, pictures } = context;
  const scores = pictures().flatMap(({ score }) => (score === undefined ? [] : [score]));
  const marks = [{ score: picture.score, kind, chosen: true }];
  const side =
    facts.threshold === null
      ? ""
      : `, ${picture.score > facts.threshold ? "above" : "not above"} the threshold`;
  return strip(
    facts,
    rangeOf(scores, facts),
    marks,
    `Score ${number(picture.score)}${side}`,
    $("detail-strip").clientWidth || 300,
  );
}

/** Draws what the detector sees; whether the picture is still the one that is shown. */
async function look(picture) {
  const { seen, channels, size } = await ask("look", picture.file);
  if (picture !== shown) return false;
  const image = new ImageData(size, size);
  for (let pixel = 0; pixel < size * size; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * pixel + channel] = seen[(channel % channels) * size * size + pixel];
    }
    image.data[4 * pixel + 3] = 255;
  }
  const canvas = $("detail-seen");
  canvas.width = canvas.height = size;
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("detail-seen-words").textContent = `what the detector sees, ${size} × ${size}`;
  return true;
}

async function occlude() {
  const picture = shown;
  const say = (text) => {
    if (picture === shown) $("occlude-words").textContent = text;
  };
  try {
    const { falls, grid } = await ask("occlude", picture.file, (share) =>
      say(`Covering one place after the other … ${Math.round(100 * share)} %`),
    );
    if (!(await look(picture))) return;
    const most = Math.max(...falls.map(Math.abs));
    tint(falls, grid, most || 1);
    say(
      `${counted(falls.length, "place")} were covered, one after the other. Orange: covered, the ` +
        "score falls, so this part makes the picture look out-of-distribution. Blue: covered, " +
        `the score rises. The largest change is ${number(most)}.`,
    );
  } catch (error) {
    say(error.message);
  }
}

/** Lays the falls of the score over what the detector sees. */
function tint(falls, grid, most) {
  const canvas = $("detail-seen");
  const step = canvas.width / grid;
  const drawing = canvas.getContext("2d");
  falls.forEach((fall, place) => {
    const strength = 0.75 * (Math.abs(fall) / most);
    const [row, column] = [Math.floor(place / grid), place % grid];
    drawing.fillStyle = `rgb(${fall > 0 ? "224 122 31" : "47 111 219"} / ${strength})`;
    drawing.fillRect(column * step, row * step, step, step);
  });
}
